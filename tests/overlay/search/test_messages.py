"""The search protocol on the wire: golden bytes, bounds, and whatever a stranger may send."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import LimitExceeded, PeerError
from coterie.identity import SecretKey
from coterie.identity.keys import verify
from coterie.overlay.search.messages import (
    BODY_BYTES_MAX,
    FLOOD_HOPS_MAX,
    FRAME_BYTES_MAX,
    ITEM_BYTES_MAX,
    ITEMS_MAX,
    RINGS_MAX,
    SEARCH,
    TOPIC_CHARS_MAX,
    WALK_HOPS_MAX,
    WALKERS_MAX,
    WANTED_MAX,
    Answer,
    Check,
    Flooded,
    Question,
    Verdict,
    Walking,
)
from coterie.wire.frames import HEADER, Message

ID = bytes(range(16))
KEY = bytes(range(32))
QUESTION = Question(ID, KEY, True, 1, 1_700_000_000, "files", b"cats")
ID_HEX = "c410" + ID.hex()
KEY_HEX = "c420" + KEY.hex()
QUESTION_HEX = "98" + ID_HEX + KEY_HEX + "c301ce6553f100a566696c6573c40463617473c440" + "00" * 64

GOLDEN: dict[Message, str] = {
    Flooded(QUESTION, 1, 2): "0000008e" + "01" + "93" + QUESTION_HEX + "0102",
    Walking(QUESTION, 3, 255): "0000008f" + "02" + "93" + QUESTION_HEX + "03ccff",
    Answer(ID, KEY, (b"one", b"two")): "00000041" + "03" + "93" + ID_HEX + KEY_HEX + "92c4036f6e65c40374776f",
    Check(ID, 3, False): "00000016" + "04" + "93" + ID_HEX + "03c2",
    Verdict(ID, 3, True): "00000016" + "05" + "93" + ID_HEX + "03c3",
}


@pytest.mark.parametrize("message", GOLDEN, ids=lambda m: type(m).__name__)
def test_golden_bytes(message: Message) -> None:
    frame = bytes.fromhex(GOLDEN[message])
    assert SEARCH.encode(message) == frame
    _, kind = HEADER.unpack_from(frame)
    assert SEARCH.decode(kind, frame[HEADER.size :]) == message


def test_what_is_signed() -> None:
    said = b"coterie search question v1\0" + bytes.fromhex(
        "97" + ID_HEX + KEY_HEX + "c301ce6553f100a566696c6573c40463617473"
    )
    assert QUESTION.signed_bytes == said
    key = SecretKey(bytes(32))
    signature = key.sign(QUESTION.signed_bytes)
    assert verify(key.peer_id, QUESTION.signed_bytes, signature)
    for change in (
        {"id": bytes(16)},
        {"asker": bytes(32)},
        {"is_direct": False},
        {"wanted": 2},
        {"expires": 1},
        {"topic": "x"},
        {"body": b"x"},
    ):
        other = msgspec.structs.replace(QUESTION, **change)
        assert not verify(key.peer_id, other.signed_bytes, signature), change


def body_of(message: Message) -> tuple[int, bytes]:
    """The kind and body that a peer could send, whatever our own types allow."""
    return {type(m): n for n, m in enumerate(GOLDEN, 1)}[type(message)], msgspec.msgpack.encode(message)


def with_question(**change: Any) -> Flooded:
    return Flooded(msgspec.structs.replace(QUESTION, **change), 0, 0)


@pytest.mark.parametrize(
    "message",
    [
        with_question(id=bytes(15)),
        with_question(id=bytes(17)),
        with_question(asker=bytes(31)),
        with_question(wanted=0),
        with_question(wanted=WANTED_MAX + 1),
        with_question(expires=-1),
        with_question(topic="x" * (TOPIC_CHARS_MAX + 1)),
        with_question(body=bytes(BODY_BYTES_MAX + 1)),
        with_question(signature=bytes(63)),
        with_question(is_direct=7),
        Flooded(QUESTION, RINGS_MAX, 0),
        Flooded(QUESTION, 0, FLOOD_HOPS_MAX),
        Flooded(QUESTION, -1, 0),
        Walking(QUESTION, 2 * WALKERS_MAX, 0),
        Walking(QUESTION, 0, WALK_HOPS_MAX),
        Answer(ID, KEY, ()),
        Answer(ID, KEY, (b"x",) * (ITEMS_MAX + 1)),
        Answer(ID, KEY, (bytes(ITEM_BYTES_MAX + 1),)),
        Answer(bytes(8), KEY, (b"x",)),
        Check(ID, -1, False),
        Verdict(ID, 2 * WALKERS_MAX, True),
    ],
    ids=repr,
)
def test_one_past_every_bound_is_the_peers_fault(message: Message) -> None:
    with pytest.raises(PeerError, match="malformed search message"):
        SEARCH.decode(*body_of(message))


def test_the_largest_messages_fit_and_nothing_larger_does() -> None:
    largest = Answer(ID, KEY, (bytes(ITEM_BYTES_MAX),) * ITEMS_MAX)
    assert len(SEARCH.encode(largest)) < FRAME_BYTES_MAX
    question = with_question(topic="\u00e4" * TOPIC_CHARS_MAX, body=bytes(BODY_BYTES_MAX))
    assert len(SEARCH.encode(question)) < FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded):
        SEARCH.encode(Answer(ID, KEY, (bytes(FRAME_BYTES_MAX),)))


def test_unknown_kinds_are_skipped_and_appended_fields_ignored() -> None:
    assert SEARCH.decode(99, b"anything") is None
    longer = msgspec.msgpack.encode([ID, 3, True, "a field of tomorrow"])
    assert SEARCH.decode(5, longer) == Verdict(ID, 3, True)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_the_decoder_survives_garbage(kind: int, body: bytes) -> None:
    try:
        message = SEARCH.decode(kind, body)
    except PeerError:
        return
    assert message is None or isinstance(message, tuple(SEARCH.kinds.values()))


@given(st.sampled_from(list(GOLDEN)), st.integers(0, 2**16), st.integers(0, 255))
def test_the_decoder_survives_a_wrong_byte_anywhere(message: Message, place: int, value: int) -> None:
    kind, body = body_of(message)
    changed = bytearray(body)
    changed[place % len(changed)] = value
    try:
        SEARCH.decode(kind, bytes(changed))
    except PeerError:
        return
