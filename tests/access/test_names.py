"""What may be a name, what becomes of one that may not, and how names are told apart."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from coterie.access.circle_ops import clean
from coterie.access.names import MEANINGS, NAME_CHARS_MAX, WORDS, checked, distinct, fit, is_meant, key_of
from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey

ONE = SecretKey(bytes([1]) * 32).peer_id


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("  anna \t bell\n", "anna bell"),
        ("anna\x1b[31m", "anna [31m"),
        ("an\u202ena\u200b", "anna"),
        ("e\u0301", "é"),
        ("x" * 100, "x" * 64),
        ("\u2028\x00", ""),
        ("\ud800", ""),
        ("anna~k3f", "anna-k3f"),
        ("anna\uff5ek3f", "anna-k3f"),  # the full-width tilde counts as the tilde
        ("a/b\\c", "a-b-c"),
        ("family:owner", "family-owner"),
        ("family\uff1aowner", "family-owner"),
        ("anna,ben", "anna-ben"),
        ("../etc", "etc"),
        ("--overwrite", "overwrite"),
        ("/", ""),
        ("anyone", "anyone_"),
        ("ＡＮＹＯＮＥ", "ＡＮＹＯＮＥ_"),
        ("Contacts", "Contacts_"),
        ("ticket", "ticket_"),
        ("bearer", "bearer_"),
        (str(ONE), ""),
        (str(ONE).upper(), ""),
        ("Anna's laptop (old)", "Anna's laptop (old)"),
        ("日本", "日本"),
    ],
)
def test_what_others_claim_becomes_a_name(said: str, shown: str) -> None:
    assert fit(said) == shown


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "1 to 64"),
        ("x" * (NAME_CHARS_MAX + 1), "1 to 64"),
        ("a  b", "single blanks"),
        ("an\u200bna", "printable"),
        ("anna~k3f", "'~' stands between a name and the beginning of an id"),
        ("a/b", "'/' stands between a name and a path"),
        ("a:b", "between a circle and a role"),
        ("anyone", "everybody who asks"),
        ("CONTACTS", "everybody whom this computer knows"),
        ("-rf", "like an option"),
        (str(ONE), "an id cannot be a name"),
    ],
)
def test_what_a_person_types_is_refused_with_the_reason(typed: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        checked(typed)


@given(some.text(some.characters(), max_size=80) | some.text("~/:.- anyoe\uff5e\u0301", max_size=80))
@example("-" + "~" * 70)
@example("\u2260" * 64)
def test_a_fit_name_means_nothing_else_and_stays_as_it_is(text: str) -> None:
    name = fit(text)
    assert fit(name) == name
    if name:
        assert checked(name) == name
        assert clean(name)
        assert key_of(name) not in WORDS
        assert not MEANINGS.keys() & set(unicodedata.normalize("NFKC", name))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("anna", True),
        ("ANNA", True),
        (f"anna~{str(ONE)[:3]}", True),
        (f"Anna~{str(ONE)[:9].upper()}", True),
        (f"anna~{str(ONE)[:2]}", False),
        ("anna~", False),
        ("anna~777", False),
        (f"ben~{str(ONE)[:3]}", False),
    ],
)
def test_a_mark_is_the_beginning_of_an_id_of_any_length(text: str, means: bool) -> None:
    assert is_meant(text, "anna", str(ONE)) is means


@given(
    some.lists(
        some.tuples(
            some.integers(0, 255),
            some.sampled_from(["a", "A", "a~", "~", "a~b", "a~aba", "a~aab~a"]),
            some.booleans(),
        ),
        max_size=12,
        unique_by=lambda item: item[0],
    )
)
def test_labels_are_never_alike_whatever_the_names_are(drawn: list[tuple[int, str, bool]]) -> None:
    items = [(str(PeerId(bytes([n]) * 32)), name, first) for n, name, first in drawn]
    labels = distinct(items)
    assert len(set(map(key_of, labels))) == len(items)
    assert all(label.startswith(name) for label, (_, name, _) in zip(labels, items, strict=True))


def test_a_share_named_like_another_with_its_mark_does_not_take_its_place() -> None:
    ids = ["abcd", "bcde", "cdef"]
    labels = distinct([(ids[0], "notes", False), (ids[1], "notes", False), (ids[2], "notes~abc", False)])
    assert labels == ["notes~abc", "notes~bcd", "notes~abc~cde"]
