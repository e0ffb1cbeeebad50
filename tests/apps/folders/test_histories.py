"""Histories of live folders: all computers converge, and nothing that was written is lost."""

from collections import Counter

import pytest

from coterie.apps.folders import planner
from coterie.apps.folders.register import Dot, Register, Value, written
from tests.apps.folders import histories
from tests.apps.folders.fake_disk import FakeDisk
from tests.apps.folders.histories import ACTS, WEIGHTS, History
from tests.apps.folders.whole import MovingHistory, WholeHistory

SEEDS = 120  # some 3 s; `make proof ONLY=folders` runs 100,000
MOVING_SEEDS = 60  # some 2 s
WHOLE_SEEDS = 120  # some 2 s
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

OFTEN = {
    12_055: "a name in another Unicode form counted as a deletion",
    23_998: "a file below which something lives was not kept",
    29_348: "what was in a folder that took the place of a copy counted as of the original",
    52_225: "a path was not shown again once its place was forgotten",
    60_021: "a name in another Unicode form that equals what others wrote: what was there before stood for ever",
    66_353: "as 52225, of a file",
    345_408: "a copy went before its value had the name that it was to get: its next edit replaced nothing",
    118_285: "a folder was renamed with a new file in it, which has its path there",
}


@pytest.mark.parametrize("seed", FOUND)
def test_histories_that_failed_once(seed: int) -> None:
    """Those of computers that meet seldom."""
    History(seed, seldom=True).run(50)
    History(seed, seldom=True).run(30)


@pytest.mark.parametrize("seed", OFTEN)
def test_histories_of_computers_that_meet_often(seed: int) -> None:
    History(seed).run(50)


WHOLE = {
    10: "what was read again took back what came from others since",
    18: "the same",
    146: "the same, of a file that was open",
    3_380: "a file whose name is a folder, because something was made in it here, was not shown as a copy",
    11_522: "a copy was shown twice, and the end of one ended what the other showed",
    6_799: "a folder was made in another than was to be renamed, on a disk that takes both names for one",
}


@pytest.mark.parametrize("seed", WHOLE)
def test_whole_histories_that_failed_once(seed: int) -> None:
    WholeHistory(seed).run(60)


OVERLAPS = {
    23: "a power cut took what others had been told, and its numbers were given again",
    53: "the same: a content was lost",
    133: "the same: nobody had a content any more",
    146: "a number was given twice, by two threads: what had it second was told to nobody",
    164: "the same",
    168: "as 133",
    186: "as 146",
    202_159: "a power cut took the new id of a copy that was put back",
}


@pytest.mark.parametrize("seed", OVERLAPS)
def test_histories_of_threads_and_power_cuts_that_failed_once(seed: int) -> None:
    WholeHistory(seed, overlaps=True).run(60)


MOVING_OVERLAPS = {
    2: "a power cut took the note that a place gives way: what came there was the owner's change",
    6: "the same: a copy that was shown twice was removed for everybody",
    8: "as 2",
    52: "a file that could not be moved stayed where it was, once something else became of its new place",
    396: "the same",
    412: "the same",
    27: "as 2; and another computer crashed than the one that was at work",
    65: "the same",
    71: "as 6; and the same",
    185: "as 2; and the same",
}


@pytest.mark.parametrize("seed", [102, 134, 175, 265])
def test_histories_of_moving_folders_that_failed_once(seed: int) -> None:
    """The end of a folder in which a file was open was tried for ever; a disk was another than its rows."""
    MovingHistory(seed).run(50)


@pytest.mark.parametrize("seed", MOVING_OVERLAPS)
def test_histories_of_moving_folders_with_threads_and_power_cuts_that_failed_once(seed: int) -> None:
    MovingHistory(seed, overlaps=True).run(50)


def test_what_is_gone_when_it_is_to_be_read_is_found_to_be_gone() -> None:
    MovingHistory(710_218, overlaps=True).run(60)


@pytest.mark.parametrize("part", range(4))
def test_whole_copies_converge_and_lose_nothing(part: int) -> None:
    """With their databases and messages, and up to six computers; half of them with threads and power cuts."""
    for seed in range(1_000 + part, 1_000 + WHOLE_SEEDS, 4):
        WholeHistory(seed, overlaps=seed % 8 < 4).run(60)


@pytest.mark.parametrize("part", range(4))
def test_folders_that_move_as_a_whole_lose_nothing(part: int) -> None:
    moves: Counter[str] = Counter()
    for seed in range(part, MOVING_SEEDS, 4):
        for one in MovingHistory(seed).run(40).replicas:
            moves += one.moves  # type: ignore[attr-defined]
    assert min(moves[what] for what in ("here", "merged", "refused", "there")) > 0


@pytest.mark.parametrize("part", range(4))
def test_random_histories_converge_and_lose_nothing(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        History(seed, seldom=seed % 8 == 0).run(40)


# ---- the invariants see what they are there for


def _lost(seeds: range) -> int:
    lost = 0
    for seed in seeds:
        try:
            History(seed).run(60)
        except AssertionError as error:
            lost += str(error).startswith("lost")
    return lost


def test_without_looking_at_what_was_shown_contents_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(register: Register, _: object, dot: Dot, value: Value, *, is_copy: bool = False) -> Register:
        return written(register, [known for known, _ in register.siblings], dot, value, is_copy=is_copy)

    monkeypatch.setattr(planner, "written", blind)
    assert _lost(range(40)) > 3


def test_without_hashing_once_more_contents_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [
        30 if act.__name__ == "_edit_unseen" else weight for act, weight in zip(ACTS, WEIGHTS, strict=True)
    ]
    monkeypatch.setattr(histories, "WEIGHTS", weights)
    assert _lost(range(150)) == 0
    look = FakeDisk._check
    monkeypatch.setattr(FakeDisk, "_check", lambda self, local, expects, _: look(self, local, expects, b""))
    assert _lost(range(150)) > 0
