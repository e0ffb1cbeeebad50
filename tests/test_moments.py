"""Times: what programs read, and what people read."""

import pytest

from coterie.moments import FOR_EVER_S, is_iso, iso, said

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (0, "just now"),
        (-59, "just now"),
        (-60, "1 min ago"),
        (-3_599, "59 min ago"),
        (-3_600, "1 h ago"),
        (-86_400, "1 day ago"),
        (-60 * 86_400, "60 days ago"),
        (30, "in a moment"),
        (15 * 60, "in 15 min"),
        (7 * 86_400, "in 7 days"),
        (7 * 86_400 - 30, "in 7 days"),
        (7 * 86_400 - 31, "in 6 days"),
        (8 * 3_600 - 2, "in 8 h"),
        (89, "in 1 min"),
        (90, "in 2 min"),
    ],
)
def test_times_in_words(ahead: float, words: str) -> None:
    assert said(iso(NOW + ahead), NOW) == words


def test_long_ago_is_a_date() -> None:
    assert said(iso(NOW - 61 * 86_400), NOW).startswith("2023-09-1")


@pytest.mark.parametrize("text", ["", "2024", "2024-13-40T99:99:99+00:00", "anna", "2023-11-14"])
def test_what_is_no_time_stays(text: str) -> None:
    assert said(text, NOW) == text


@pytest.mark.parametrize("unix_s", [0, -1, FOR_EVER_S, float("inf")])
def test_no_time_is_empty(unix_s: float) -> None:
    assert iso(unix_s) == ""


def test_what_is_written_is_read() -> None:
    assert is_iso(iso(NOW))
    assert iso(FOR_EVER_S - 1).startswith("6325")
