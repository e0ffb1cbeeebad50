"""IPP messages: bytes that stand in RFC 8010 or follow from it, every tag, bounds."""

import random
import struct

import pytest

from coterie.apps.printers import ipp
from coterie.apps.printers.ipp import Attribute, Group, Head, Ipp, Value, attribute, decode, encode
from coterie.errors import PeerError

# RFC 8010, appendix A.1: a Print-Job request, as far as its table goes.
PRINT_JOB = bytes.fromhex(
    "0101" "0002" "00000001" "01"
    "47" "0012" "617474726962757465732d63686172736574" "0005" "7574662d38"
    "48" "001b" "617474726962757465732d6e61747572616c2d6c616e6775616765" "0005" "656e2d7573"
    "45" "000b" "7072696e7465722d757269" "002c"
    "6970703a2f2f7072696e7465722e6578616d706c652e636f6d2f6970702f7072696e742f70696e6574726565"
    "42" "0008" "6a6f622d6e616d65" "0006" "666f6f626172"
    "22" "0016" "6970702d6174747269627574652d666964656c697479" "0001" "01"
    "02"
    "21" "0006" "636f70696573" "0004" "00000014"
    "44" "0005" "7369646573" "0013" "74776f2d73696465642d6c6f6e672d65646765"
    "03"
)  # fmt: skip

ALL_TAGS = Group(
    ipp.JOB,
    (
        attribute("out", ipp.NO_VALUE, None),
        attribute("unknown", ipp.UNKNOWN, None),
        attribute("integer", ipp.INTEGER, -2147483648, 0, 2147483647),
        attribute("boolean", ipp.BOOLEAN, True, False),
        attribute("enum", ipp.ENUM, 3, 4),
        attribute("octets", ipp.OCTETS, b"\x00\xff", b""),
        attribute("date", ipp.DATE_TIME, bytes(11)),
        attribute("resolution", ipp.RESOLUTION, (600, 300, 3)),
        attribute("range", ipp.RANGE, (1, 5), (7, 7)),
        attribute("text", ipp.TEXT, "grün", ""),
        attribute("text-language", ipp.TEXT_WITH_LANGUAGE, ("de", "grün")),
        attribute("name-language", ipp.NAME_WITH_LANGUAGE, ("fr", "été")),
        attribute("keyword", ipp.KEYWORD, "a", "b"),
        Attribute("mixed", (Value(ipp.KEYWORD, "none"), Value(ipp.NAME, "Mine"), Value(ipp.INTEGER, 7))),
        attribute(
            "media-col",
            ipp.COLLECTION,
            (
                attribute(
                    "media-size",
                    ipp.COLLECTION,
                    (attribute("x-dimension", ipp.INTEGER, 21000), attribute("y", ipp.RANGE, (1, 2), (3, 4))),
                ),
                attribute("media-type", ipp.KEYWORD, "stationery", "labels"),
            ),
            (),
        ),
    ),
)


def test_the_request_of_the_standard_is_read_and_written_as_it_stands_there() -> None:
    request = decode(PRINT_JOB)
    assert (request.version, request.code, request.request_id) == ((1, 1), 2, 1)
    assert request.first("printer-uri") == "ipp://printer.example.com/ipp/print/pinetree"
    assert request.first("ipp-attribute-fidelity") is True
    assert request.first("copies", ipp.JOB) == 20
    assert request.all("sides", ipp.JOB) == ("two-sided-long-edge",)
    assert request.first("missing") is None
    assert encode(request) == PRINT_JOB


def test_values_of_every_tag_come_back_as_they_went() -> None:
    message = Ipp(0x0B, 7, (Group(ipp.OPERATION, ()), ALL_TAGS, Group(ipp.UNSUPPORTED, ())), (2, 0))
    assert decode(encode(message)) == message
    assert ipp.decode_groups(ipp.encode_group(ALL_TAGS) + b"\x03") == (ALL_TAGS,)


def test_the_end_of_the_attributes_is_found_however_the_bytes_come() -> None:
    rng = random.Random(5)
    raw = encode(Ipp(2, 1, (ALL_TAGS,))) + b"%PDF-\x03rest"
    for _ in range(50):
        head, at, found = Head(), 0, None
        while found is None:
            size = rng.randint(1, 40)
            found = head.feed(raw[at : at + size])
            at += size
        assert found[0].groups == (ALL_TAGS,)
        assert found[1] + raw[at:] == b"%PDF-\x03rest", "seed 5"


@pytest.mark.parametrize(
    "raw",
    [
        PRINT_JOB[:-1],  # no end
        PRINT_JOB[:40],
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x47\x00\x01a\x00\x00\x03",  # outside of a group
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x00\x03",  # the delimiter 0
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x21\x00\x01a\x00\x03\x00\x00\x00\x03",  # three bytes of an integer
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x22\x00\x01a\x00\x01\x02\x03",  # no boolean
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x21\x00\x00\x00\x04\x00\x00\x00\x01\x03",  # no name
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x4a\x00\x01a\x00\x01b\x03",  # a member of no collection
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x34\x00\x01a\x00\x00\x03",  # a collection without an end
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x34\x00\x01a\x00\x00\x4a\x00\x00\x00\x01b\x37\x00\x00\x00\x00\x03",
        b"\x01\x01\x00\x02\x00\x00\x00\x01\x01\x36\x00\x01a\x00\x05\x00\x09en\x00\x03",
    ],
)
def test_what_is_no_message_is_the_other_sides_fault(raw: bytes) -> None:
    with pytest.raises(PeerError):
        decode(raw)


def test_bounds() -> None:
    deep: tuple[Attribute, ...] = ()
    for _ in range(ipp.DEPTH_MAX):
        deep = (attribute("c", ipp.COLLECTION, deep),)
    assert decode(encode(Ipp(2, 1, (Group(ipp.JOB, deep),)))).group(ipp.JOB).attributes == deep
    deeper = (attribute("c", ipp.COLLECTION, deep),)
    with pytest.raises(PeerError, match="deep"):
        decode(encode(Ipp(2, 1, (Group(ipp.JOB, deeper),))))
    many = attribute("n", ipp.INTEGER, *range(ipp.VALUES_MAX))
    decode(encode(Ipp(2, 1, (Group(ipp.JOB, (many,)),))))
    over = (many, attribute("one", ipp.INTEGER, 1))
    with pytest.raises(PeerError, match="values"):
        decode(encode(Ipp(2, 1, (Group(ipp.JOB, over),))))
    head = Head()
    value = b"\x41\x00\x01n\xff\xff" + bytes(65_535)
    with pytest.raises(PeerError, match="over"):
        for _ in range(2 + ipp.HEAD_BYTES_MAX // len(value)):
            head.feed(struct.pack(">BBHIB", 1, 1, 2, 1, 1) + value)
    with pytest.raises(PeerError, match="over"):
        decode(bytes(ipp.HEAD_BYTES_MAX + 1))
    with pytest.raises(PeerError, match="too long"):
        decode(encode(Ipp(2, 1, (Group(ipp.JOB, (attribute("n" * 256, ipp.INTEGER, 1),)),))))
