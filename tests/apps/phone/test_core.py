"""Who is let in: keys of one use, bounds on guesses, rights."""

import pytest

from coterie.apps.phone import core as c
from coterie.errors import LimitExceeded, UsageError
from coterie.testing.checks import raised


def key(until: float = 10.0, over: str = "https") -> c.Key:
    return c.Key(until, "", ("look",), over)


def test_a_key_works_once_in_time_and_on_its_way_only() -> None:
    keys = c.Keys()
    keys.add("a", key())
    assert keys.take("b", "https", 1.0) is None
    assert keys.take("a", "http", 1.0) is None
    assert keys.take("a", "https", 10.0) == key()
    assert keys.take("a", "https", 1.0) is None
    keys.add("a", key())
    assert keys.take("a", "https", 10.1) is None
    assert not keys.waits("a", 1.0)
    keys.add("a", key())
    keys.forget("a")
    assert keys.take("a", "https", 1.0) is None


def test_one_key_too_many_pushes_out_the_oldest() -> None:
    keys = c.Keys()
    for number in range(c.KEYS_MAX + 1):
        keys.add(str(number), key())
    assert not keys.waits("0", 1.0)
    assert all(keys.waits(str(number), 1.0) for number in range(1, c.KEYS_MAX + 1))


def test_guesses_of_one_address_do_not_keep_out_another() -> None:
    guesses = c.Guesses()
    assert [guesses.may("10.0.0.1", 0.0) for _ in range(c.GUESS_BURST + 1)] == [True] * c.GUESS_BURST + [
        False
    ]
    assert guesses.may("10.0.0.2", 0.0)
    assert not guesses.may("10.0.0.1", 1.0)
    assert guesses.may("10.0.0.1", 1.1 / c.GUESS_PER_S)


def test_guesses_of_all_addresses_together_are_bounded() -> None:
    guesses = c.Guesses()
    tried = [guesses.may(f"10.0.{n // 256}.{n % 256}", 0.0) for n in range(c.GUESS_ALL_BURST + 1)]
    assert tried == [True] * c.GUESS_ALL_BURST + [False]


def test_lines_are_those_of_their_phone() -> None:
    lines = c.Lines()
    lines.add(("10.0.0.1", 1), "a")
    lines.add(("10.0.0.1", 2), "b")
    lines.add(("10.0.0.1", 1), "b")  # the port of a connection that ended
    assert (lines.of("a"), lines.of("b")) == (set(), {("10.0.0.1", 1), ("10.0.0.1", 2)})
    for number in range(c.LINES_MAX):
        lines.add(("10.0.0.2", number), "c")
    assert len(lines.of("c")) + len(lines.of("b")) == c.LINES_MAX
    assert lines.of("b")  # who has most makes room


@pytest.mark.parametrize(
    ("words", "rights"),
    [
        ([], c.USUAL),
        (["look"], ("look",)),
        (["send,look", "get"], ("look", "get", "send")),
        (["devices", " look "], ("look", "devices")),
    ],
)
def test_rights_as_people_write_them(words: list[str], rights: tuple[str, ...]) -> None:
    assert c.read_rights(words) == rights


def test_what_is_no_right_is_said_with_those_there_are() -> None:
    with raised(UsageError, "cannot be allowed 'everything'; there are: look, get"):
        c.read_rights(["everything"])


def test_one_phone_too_many() -> None:
    c.check_room(c.PHONES_MAX - 1)
    with raised(LimitExceeded, "coterie phone remove"):
        c.check_room(c.PHONES_MAX)
