"""Short codes: read back however they are typed, and a plain word on each way they can be wrong."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.apps.contacts.code import NUMBER_MAX, Code, word_list
from coterie.errors import UsageError
from tests.apps.contacts.play import entropy

words = st.sampled_from(word_list())
codes = st.builds(Code, st.integers(1, NUMBER_MAX), st.tuples(words, words))


@given(codes)
def test_a_code_comes_back_as_it_was(code: Code) -> None:
    text = str(code)
    assert Code.parse(text) == code
    assert Code.parse(f"  {text.upper().replace('-', ' - ')}\n") == code
    number, one, two = text.split("-")
    assert Code.parse(f"{number} {one[:4]} {two[:4]}") == code
    assert Code.parse(text).secret == code.secret


def test_four_letters_tell_every_word_apart() -> None:
    assert len(word_list()) == 2048
    assert len({word[:4] for word in word_list()}) == 2048


def test_words_are_drawn_alike_and_never_shown_in_a_repr() -> None:
    draw = entropy(b"codes")
    drawn = Counter(word for _ in range(20_000) for word in Code.make(7, draw).words)
    assert len(drawn) == 2048
    assert max(drawn.values()) < 50  # 19.5 expected, a deviation of 4.4
    assert str(Code.make(7, bytes)) == "7-abandon-abandon"
    assert str(Code.make(7, lambda size: b"\xff" * size)) == "7-zoo-zoo"
    assert "abandon" not in repr(Code.make(7, bytes))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a number and two words"),
        ("planet-velvet", "a number and two words"),
        ("7-planet", "a number and two words"),
        ("7-planet-velvet-velvet", "a number and two words"),
        ("x-planet-velvet", "a number and two words"),
        ("²-planet-velvet", "a number and two words"),
        ("0-planet-velvet", "1 to 99"),
        ("100-planet-velvet", "1 to 99"),
        ("7-planit-velvet", "did you mean planet"),
        ("7-planet-vel", "'vel' is not one of the words"),
        ("7-planet-qqqqqq", "'qqqqqq' is not one of the words of a code$"),
        ("7-planet-" + "v" * 10_000, "a number and two words"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Code.parse(text)


@pytest.mark.parametrize(
    "pasted",
    [
        "coterie join 7-planet-velvet",
        "$ coterie circle join 7-planet-velvet",
        "\u201e7-planet-velvet\u201c.",
        "7\u2013planet\u2014velvet",
        "7\u2010planet\u2010velvet ",
        "\u200b7-planet-\u00a0velvet\u200b",
        "<7-planet-velvet>",
        "7&#45;planet&#45;velvet",
        "7 PLANET, VELVET!",
    ],
)
def test_a_code_as_people_paste_it(pasted: str) -> None:
    assert Code.parse(pasted) == Code.parse("7-planet-velvet")
