"""The wire types of `files`: their bytes are fixed, and whatever comes is a message or the peer's fault."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import PeerError
from coterie.transfer import messages as f
from coterie.wire.frames import Bulk, Message

ID = bytes(range(32))
GOLDEN: list[tuple[Message, int, str]] = [
    (f.Open(ID, bytes(32)), 1, f"94c420{ID.hex()}c420{'00' * 32}c290"),
    (
        f.Open(ID, bytes(32), True, ("10.0.0.1:7", "[::1]:9")),
        1,
        f"94c420{ID.hex()}c420{'00' * 32}c392aa31302e302e302e313a37a75b3a3a315d3a39",
    ),
    (f.Opened(1, "a", 1, 5), 2, "9901a161010500c2c300a67469636b6574"),
    (f.Opened(2, "b", 3, 9, whole=False, askers=4, of=""), 2, "9902a162030900c2c204a0"),
    (f.Refused(), 3, "90"),
    (f.GetManifest(ID), 4, f"91c420{ID.hex()}"),
    (f.GetChunks(ID, 3, 2), 5, f"94c420{ID.hex()}0302c2"),
    (f.GetChunks(ID, 3, 2, True), 5, f"94c420{ID.hex()}0302c3"),
    (f.NoManifest(ID), 6, f"91c420{ID.hex()}"),
    (f.ChunkUnavailable(2), 7, "9102"),
    (f.Skipped(2), 8, "9102"),
    (f.Cancel(ID, 300), 9, f"92c420{ID.hex()}cd012c"),
    (f.Has(ID, b"\x05\x01"), 10, f"92c420{ID.hex()}c4020501"),
    (f.HasAll(), 11, "90"),
    (f.Given(ID, b""), 12, f"92c420{ID.hex()}c400"),
    (f.Peers([(ID, ["1.2.3.4:5"])]), 13, f"919192c420{ID.hex()}91a9312e322e332e343a35"),
    (f.Moved(2, ID), 14, f"9202c420{ID.hex()}"),
    (f.UsedUp(1_000, ID), 15, f"92cd03e8c420{ID.hex()}"),
    (
        f.GetMany([(ID, 0, 0, False), (ID, 3, 2, True)]),
        18,
        f"919294c420{ID.hex()}0000c294c420{ID.hex()}0302c3",
    ),
    (f.Pace(20_000), 19, "91cd4e20"),
]


@pytest.mark.parametrize(("message", "kind", "body"), GOLDEN)
def test_the_bytes_of_each_message_are_fixed(message: Message, kind: int, body: str) -> None:
    raw = bytes.fromhex(body)
    assert f.PROTOCOL.encode(message) == (len(raw) + 1).to_bytes(4, "big") + bytes([kind]) + raw
    assert f.PROTOCOL.decode(kind, raw) == message


def test_what_an_older_node_says_is_understood() -> None:
    """Fields that were appended may be missing."""
    assert f.PROTOCOL.decode(1, msgspec.msgpack.encode([ID, bytes(32)])) == f.Open(ID, bytes(32))
    assert f.PROTOCOL.decode(2, msgspec.msgpack.encode([1, "a", 1, 5])) == f.Opened(1, "a", 1, 5)
    assert f.PROTOCOL.decode(5, msgspec.msgpack.encode([ID, 3, 2])) == f.GetChunks(ID, 3, 2)


def test_every_kind_has_its_golden_bytes() -> None:
    assert {kind for _, kind, _ in GOLDEN} == set(f.PROTOCOL.kinds)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_whatever_comes_is_a_message_or_the_peers_fault(kind: int, body: bytes) -> None:
    try:
        message = f.PROTOCOL.decode(kind, body)
    except PeerError:
        return
    assert message is None or isinstance(message, Message | Bulk)


@given(st.sampled_from(GOLDEN), st.integers(0, 80), st.integers(0, 255))
def test_one_changed_byte_is_a_message_or_the_peers_fault(
    golden: tuple[Message, int, str], at: int, value: int
) -> None:
    raw = bytearray.fromhex(golden[2])
    raw[at % len(raw)] = value
    test_whatever_comes_is_a_message_or_the_peers_fault.hypothesis.inner_test(golden[1], bytes(raw))
