"""Mass deletions and encryptions wait for the owner; renames and daily work do not."""

import pytest

from coterie.apps.folders.brake import FILES_MIN, LOSSES_MAX, SHARE, WITHIN_S, Brake, Hold
from coterie.apps.folders.holding import Holding, text
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.steps import Print, Put, Record, Remove, Step

SEEN = Print(Kind.FILE)


def content(number: int) -> bytes:
    return number.to_bytes(32)


def gone(number: int) -> Record:
    return Record(f"f{number}", f"f{number}", (), Value(Kind.GONE), None, was=content(number))


def edited(number: int) -> Record:
    value = Value(Kind.FILE, content(number + 1_000_000))
    return Record(f"f{number}", f"f{number}", (), value, SEEN, was=content(number))


def appeared(number: int) -> Record:
    return Record(f"g{number}", f"g{number}", (), Value(Kind.FILE, content(number)), SEEN)


def test_the_last_that_may_go_and_the_first_that_may_not() -> None:
    files = 1_000
    most = int(files * SHARE)
    assert Brake().weigh([gone(n) for n in range(most)], files, 0) is None
    assert Brake().weigh([gone(n) for n in range(most + 1)], files, 0) == Hold(most + 1, 0, files, WITHIN_S)


def test_few_files_are_never_held() -> None:
    assert Brake().weigh([gone(n) for n in range(FILES_MIN - 1)], FILES_MIN - 1, 0) is None
    assert Brake().weigh([gone(n) for n in range(FILES_MIN)], FILES_MIN, 0) is not None


def test_encryption_is_held_as_a_deletion_is() -> None:
    held = Brake().weigh([edited(n) for n in range(201)], 1_000, 0)
    assert held is not None
    assert (held.gone, held.changed, held.count) == (0, 201, 201)


def test_it_adds_up_within_minutes_only() -> None:
    quick, slow = Brake(), Brake()
    held = [quick.weigh([gone(n)], 1_000 - n, n) for n in range(300)]
    assert held.index(next(filter(None, held))) == 200
    assert not any(slow.weigh([gone(n)], 1_000, n * WITHIN_S / 100) for n in range(900))


def test_a_renamed_folder_is_no_deletion() -> None:
    steps: list[Step] = [gone(n) for n in range(900)] + [appeared(n) for n in range(900)]
    assert Brake().weigh(steps, 1_000, 0) is None


@pytest.mark.parametrize("is_replaced", [True, False])
def test_what_comes_from_others_is_weighed_too(is_replaced: bool) -> None:
    steps: list[Step] = [
        Put(f"f{n}", f"f{n}", Value(Kind.FILE, content(n + 5_000)), SEEN, content(n))
        if is_replaced
        else Remove(f"f{n}", SEEN, content(n))
        for n in range(300)
    ]
    assert Brake().weigh(steps, 1_000, 0) is not None


def test_what_the_owner_lets_go_goes() -> None:
    brake, steps = Brake(), [gone(n) for n in range(900)]
    assert brake.weigh(steps, 1_000, 0) is not None
    brake.let_go(1)
    assert brake.weigh(steps, 1_000, 2) is None
    assert brake.weigh(steps, 1_000, 3 * WITHIN_S) is not None, "another time it is asked again"


def test_what_is_remembered_is_bounded() -> None:
    brake = Brake()
    for number in range(LOSSES_MAX + 1):
        brake.weigh([gone(number)], 10**9, 0)
    assert brake.weigh([gone(0)], 1, 0) == Hold(LOSSES_MAX + 1, 0, LOSSES_MAX + 1, WITHIN_S)


def test_what_only_moved_is_never_counted_as_lost() -> None:
    """Files that were removed here after they were made elsewhere, many plans long: a later one is not held for it."""
    holding = Holding(Settings())
    lives = [content(number) for number in range(200)]
    steps = [Remove(f"old/{number}", SEEN, one) for number, one in enumerate(lives)]
    for at in range(0, len(steps), 40):
        part = steps[at : at + 40]
        assert not holding.holds(part, 0, files=lambda: 200, elsewhere=lambda: lives)
        holding.passed(part, 0, elsewhere=lambda: lives)
    holding.passed(steps[:49], 0)
    assert holding.holds(steps[:1], 0, files=lambda: 200, elsewhere=frozenset), "these are nowhere"


def test_a_share_of_one_never_asks() -> None:
    """Also where the same files change again and again."""
    brake = Brake(share=1.0)
    for now in range(20):
        assert brake.weigh([edited(number) for number in range(FILES_MIN)], FILES_MIN, now) is None


@pytest.mark.parametrize(
    ("hold", "here", "there"),
    [
        (Hold(81, 0, 100, 600), "P: here 81 files went, of 100.", "P: others removed 81 files, of 100."),
        (Hold(0, 1, 100, 600), "P: here 1 file became others, of 100.", "P: others changed 1 file, of 100."),
        (
            Hold(81, 2, 100, 600),
            "P: here 81 files went and 2 files became others, of 100.",
            "P: others removed 81 files and changed 2 files, of 100.",
        ),
    ],
)
def test_the_question_says_what_happened_and_nothing_else(hold: Hold, here: str, there: str) -> None:
    assert text("P", hold, None).startswith(here)
    assert text("P", None, hold).startswith(there)
