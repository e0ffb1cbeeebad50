"""What programs make of text on its way through mails, chats and word processors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.wire.pasted import PASTED_CHARS_MAX, plain, words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  anna/photos  ", "anna/photos"),
        ("\u201canna/photos\u201d.", "anna/photos"),
        ("anna/my\u00a0photos", "anna/my photos"),
        ("magnet:?xt=urn&amp;dn=x", "magnet:?xt=urn&dn=x"),
        ("a\u2014b\u2212c", "a-b-c"),
        ("\ufeffa\u200bb\u202ec", "abc"),
        ("", ""),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_words() -> None:
    assert words('> coterie "join" 7-planet, velvet.') == ["coterie", "join", "7", "planet", "velvet"]


@given(st.text(max_size=300))
def test_nothing_raises_and_nothing_is_added(text: str) -> None:
    assert len(plain(text)) <= len(text)


def test_more_than_its_bound_is_not_looked_at() -> None:
    assert len(plain("a" * (PASTED_CHARS_MAX + 1))) == PASTED_CHARS_MAX
