"""The wire forms of `grants` and `places`: the same bytes as ever, and noise is the peer's fault."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from coterie.apps.files.places_messages import PLACES, Entry, List, Listed, Locate, Located, NotThere
from coterie.apps.grants.messages import PROTOCOL, Gave, Present, Revoked, Taken, check
from coterie.errors import PeerError
from coterie.transfer.messages import UsedUp
from coterie.wire.frames import Message, Protocol

GOLDEN: list[tuple[Protocol, Message, str]] = [
    (PROTOCOL, Present(b"raw"), "000000070191c403726177"),
    (PROTOCOL, Taken(True), "000000030291c3"),
    (PROTOCOL, Revoked([b"ab"]), "000000070391" + "91c4026162"),
    (PROTOCOL, Gave([b"ab"]), "000000070491" + "91c4026162"),
    (PLACES, List("a/b", "c"), "000000080192a3612f62a163"),
    (PLACES, Listed([Entry("x", 2, 1, 5, 7)], True), "0000000b029291" + "95a17802010507" + "c3"),
    (PLACES, Locate("a"), "000000040391a161"),
    (PLACES, Located(1, b"i", b"s"), "000000090493" + "01c40169c40173"),
    (PLACES, NotThere(), "000000020590"),
    (PLACES, UsedUp(5, b"i"), "00000006069205c40169"),
]


@pytest.mark.parametrize(("protocol", "message", "expected"), GOLDEN)
def test_the_same_bytes_as_ever(protocol: Protocol, message: Message, expected: str) -> None:
    frame = protocol.encode(message)
    assert frame.hex() == expected
    assert protocol.decode(frame[4], frame[5:]) == message


@pytest.mark.parametrize("protocol", [PROTOCOL, PLACES])
@given(body=some.binary(max_size=200), kind=some.integers(1, 6))
def test_noise_is_the_peers_fault(protocol: Protocol, body: bytes, kind: int) -> None:
    try:
        message = protocol.decode(kind, body)
    except PeerError:
        return
    assert message is None or isinstance(message, Message)
    if protocol is PROTOCOL and isinstance(message, Message):
        with contextlib.suppress(PeerError):
            check(message)


def test_an_unknown_kind_is_skipped() -> None:
    assert PROTOCOL.decode(200, b"\x90") is None
    assert PLACES.decode(200, b"\x90") is None
