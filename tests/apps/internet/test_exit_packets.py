"""Packets of the TUN device: read, answered, refused; sizes one past, checksums against the kernel's own rule."""

import ipaddress
import random
import struct

import pytest

from coterie.apps.internet.exit_packets import (
    PACKET_BYTES_MAX,
    QUOTED_BYTES_MAX,
    Packet,
    answer,
    checksum,
    read_packet,
    refusal,
)
from coterie.errors import UsageError

HERE = {4: ipaddress.ip_address("192.0.2.1").packed, 6: ipaddress.ip_address("2001:db8::1").packed}
THERE = {4: ipaddress.ip_address("198.51.100.9").packed, 6: ipaddress.ip_address("2001:db8:9::9").packed}


def slow_sum(data: bytes) -> int:
    """RFC 1071 word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sent(version: int, data: bytes, *, echo: bool = False) -> bytes:
    """A packet as the kernel would send it: an answer in the other direction."""
    if not echo:
        back = Packet(HERE[version], THERE[version], 0, 0, b"")
        return answer(
            Packet(THERE[version], HERE[version], 53, 4_000, b""), data, address=back.source, port=4_000
        )
    raw = bytearray(answer(Packet(THERE[version], HERE[version], 77, 0, b"", True, 5), data))
    at = 20 if version == 4 else 40
    raw[at] = 8 if version == 4 else 128
    raw[at + 2 : at + 4] = b"\0\0"
    before = b"" if version == 4 else struct.pack(">16s16sIxxxB", HERE[6], THERE[6], len(raw) - at, 58)
    raw[at + 2 : at + 4] = checksum(before + bytes(raw[at:])).to_bytes(2, "big")
    return bytes(raw)


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_is_read_and_answered(version: int) -> None:
    raw = sent(version, b"hello")
    packet = read_packet(raw)
    assert packet == Packet(HERE[version], THERE[version], 4_000, 53, b"hello")
    assert packet.address == str(ipaddress.ip_address(THERE[version]))
    back = read_packet(answer(packet, b"odd", address=THERE[version], port=99))
    assert back == Packet(THERE[version], HERE[version], 99, 4_000, b"odd")


@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_is_read_and_answered(version: int) -> None:
    packet = read_packet(sent(version, b"ping", echo=True))
    assert packet == Packet(HERE[version], THERE[version], 77, 0, b"ping", is_echo=True, sequence=5)
    reply = answer(packet, b"ping")
    at = 20 if version == 4 else 40
    assert reply[at] == (0 if version == 4 else 129)
    assert read_packet(reply) is None  # nobody asks anything with it
    with pytest.raises(UsageError):
        answer(packet, bytes(PACKET_BYTES_MAX - 47))


def test_checksums_are_those_of_the_rule() -> None:
    chance = random.Random(5)
    for size in (0, 1, 2, 3, 20, 1_201):
        data = chance.randbytes(size)
        assert (slow_sum(data) + checksum(data)) % 0xFFFF == 0
    header = sent(4, b"x")[:20]
    assert slow_sum(header) == 0xFFFF


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_damaged_is_refused_and_what_is_foreign_is_left(version: int) -> None:
    raw = sent(version, b"hello")
    for at in (len(raw) - 1, len(raw) - 6):
        broken = bytearray(raw)
        broken[at] ^= 1
        with pytest.raises(UsageError, match="checksum"):
            read_packet(bytes(broken))
    for cut in range(len(raw)):
        with pytest.raises(UsageError):
            read_packet(raw[:cut])
    tcp = bytearray(raw)
    tcp[9 if version == 4 else 6] = 6
    if version == 4:
        tcp[10:12] = b"\0\0"
        tcp[10:12] = checksum(bytes(tcp[:20])).to_bytes(2, "big")
    assert read_packet(bytes(tcp)) is None
    with pytest.raises(UsageError, match="version 9"):
        read_packet(b"\x95" + raw[1:])


def test_a_fragment_is_left() -> None:
    raw = bytearray(sent(4, b"hello"))
    raw[6] = 0x20  # more follow
    assert read_packet(bytes(raw)) is None


@pytest.mark.parametrize(("version", "kind"), [(4, 3), (6, 1)])
def test_a_refusal_goes_to_the_sender_and_quotes_little(version: int, kind: int) -> None:
    raw = sent(version, bytes(2_000))
    for is_closed, code in ((True, {4: 13, 6: 1}), (False, {4: 1, 6: 3})):
        said = refusal(raw, is_closed=is_closed)
        at = 20 if version == 4 else 40
        assert said[at : at + 2] == bytes([kind, code[version]])
        assert HERE[version] == (said[16:20] if version == 4 else said[24:40])
        assert said[at + 8 :] == raw[:QUOTED_BYTES_MAX]
    with pytest.raises(UsageError):
        refusal(b"", is_closed=True)


def test_the_largest_datagram_fits_and_one_more_does_not() -> None:
    asked = Packet(HERE[4], THERE[4], 1, 2, b"")
    most = PACKET_BYTES_MAX - 40 - 8
    assert len(answer(asked, bytes(most))) == most + 28
    with pytest.raises(UsageError, match="fits no packet"):
        answer(asked, bytes(most + 1))
