"""Histories of live folders: all computers converge, and nothing that was written is lost."""

import pytest

from tests.apps.folders.histories import History

SEEDS = 120  # some 3 s; `make proof ONLY=folders` runs 100,000
FOUND = {
    304: "a folder that was there only for what was in it stayed",
    326: "a new spelling of a name left its old value as a copy",
    899: "a crash after a file gave way to a folder counted as its deletion",
    1302: "the same, where a copy got the name",
    1407: "the same",
    1925: "the same",
    4812: "the same",
    7266: "the same",
}


@pytest.mark.parametrize("seed", FOUND)
def test_histories_that_failed_once(seed: int) -> None:
    History(seed).run(50)
    History(seed).run(30)


@pytest.mark.parametrize("part", range(4))
def test_random_histories_converge_and_lose_nothing(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        History(seed).run(40)
