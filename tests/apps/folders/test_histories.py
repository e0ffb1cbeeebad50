"""Histories of live folders: all computers converge, and nothing that was written is lost."""

import pytest

from tests.apps.folders.histories import History

SEEDS = 120  # some 3 s; `make proof ONLY=folders` runs 100,000
FOUND: list[int] = []  # seeds of histories that failed once


@pytest.mark.parametrize("part", range(4))
def test_random_histories_converge_and_lose_nothing(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        History(seed).run(40)
