"""The protocol of NBD, byte for byte as its specification has it."""

import struct

import pytest

from coterie.apps.disks import nbd
from coterie.apps.disks.nbd import Command, Errno, Export, Feature, Flag, Option, Reply, Request
from coterie.errors import UsageError

READ_ONLY = Export("anna/disk", 10_000, Feature.HAS_FLAGS | Feature.READ_ONLY)
WRITABLE = Export("anna/disk", 10_000, Feature.HAS_FLAGS)


def test_the_greeting_and_the_flags_of_a_client() -> None:
    assert nbd.greeting() == b"NBDMAGICIHAVEOPT\x00\x03"
    assert nbd.read_client_flags(b"\0\0\0\3")
    assert not nbd.read_client_flags(b"\0\0\0\1")
    with pytest.raises(UsageError):
        nbd.read_client_flags(b"\0\0\0\4")


def test_options() -> None:
    assert nbd.read_option(b"IHAVEOPT" + struct.pack(">II", 3, 0)) == (Option.LIST, 0)
    with pytest.raises(UsageError):
        nbd.read_option(b"IHAVEOPX" + struct.pack(">II", 3, 0))
    with pytest.raises(UsageError):
        nbd.read_option(b"IHAVEOPT" + struct.pack(">II", 3, nbd.OPTION_BYTES_MAX + 1))
    assert nbd.read_go(b"\0\0\0\4name\0\1\0\3") == "name"
    with pytest.raises(UsageError):
        nbd.read_go(b"\0\0\0\4name\0\2\0\3")
    with pytest.raises(UsageError):
        nbd.read_name(b"x" * (nbd.NAME_BYTES_MAX + 1))


def test_a_list_of_exports() -> None:
    magic = struct.pack(">QI", 0x3E889045565A9, 3)
    assert nbd.listing(3, ["a/b"]) == (
        magic + struct.pack(">II", 2, 7) + b"\0\0\0\3a/b" + magic + struct.pack(">II", 1, 0)
    )


def test_meta_contexts_are_ours_or_none() -> None:
    question = b"\0\0\0\1e\0\0\0\2\0\0\0\x0fbase:allocation\0\0\0\3x:y"
    assert nbd.read_meta(question) == ("e", ["base:allocation", "x:y"])
    answer, is_chosen = nbd.contexts(Option.SET_META_CONTEXT, ["x:y"])
    assert not is_chosen
    assert answer == nbd.option_reply(10, Reply.ACK)
    answer, is_chosen = nbd.contexts(Option.SET_META_CONTEXT, ["base:allocation"])
    assert is_chosen
    assert b"\0\0\0\1base:allocation" in answer
    many = b"\0\0\0\0" + struct.pack(">I", nbd.QUERIES_MAX + 1) + bytes(4 * (nbd.QUERIES_MAX + 1))
    with pytest.raises(UsageError):
        nbd.read_meta(many)


def test_requests() -> None:
    raw = struct.pack(">IHHQQI", 0x25609513, 1, 1, 7, 4_096, 512)
    assert nbd.read_request(raw) == Request(Command.WRITE, Flag.FUA, 7, 4_096, 512)
    with pytest.raises(UsageError):
        nbd.read_request(b"\0" + raw[1:])
    with pytest.raises(UsageError):
        nbd.read_request(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, nbd.REQUEST_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("export", "command", "flags", "offset", "size", "why"),
    [
        (READ_ONLY, Command.READ, 0, 0, 10_000, None),
        (READ_ONLY, Command.READ, 0, 1, 10_000, Errno.EINVAL),
        (READ_ONLY, Command.READ, Flag.DF, 0, 1, None),
        (READ_ONLY, Command.READ, Flag.NO_HOLE, 0, 1, Errno.EINVAL),
        (READ_ONLY, Command.WRITE, 0, 0, 1, Errno.EPERM),
        (READ_ONLY, Command.TRIM, 0, 0, 1, Errno.EPERM),
        (READ_ONLY, Command.WRITE_ZEROES, 0, 0, 1, Errno.EPERM),
        (READ_ONLY, Command.FLUSH, 0, 0, 0, None),
        (READ_ONLY, Command.FLUSH, 0, 0, 1, Errno.EINVAL),
        (READ_ONLY, Command.BLOCK_STATUS, 0, 0, 1, Errno.EINVAL),
        (READ_ONLY, 99, 0, 0, 1, Errno.EINVAL),
        (WRITABLE, Command.WRITE, Flag.FUA, 9_999, 1, None),
        (WRITABLE, Command.WRITE, 0, 9_999, 2, Errno.ENOSPC),
        (WRITABLE, Command.WRITE_ZEROES, Flag.NO_HOLE | Flag.FAST_ZERO, 9_999, 2, Errno.ENOSPC),
        (WRITABLE, Command.TRIM, 0, 9_999, 2, Errno.EINVAL),
    ],
)
def test_what_cannot_be_has_its_error(
    export: Export, command: int, flags: int, offset: int, size: int, why: Errno | None
) -> None:
    assert nbd.fault_of(Request(command, flags, 1, offset, size), export, has_context=False) == why


def test_a_read_over_the_bound_is_refused() -> None:
    large = Export("x", 1 << 40, Feature.HAS_FLAGS)
    most = Request(Command.READ, 0, 1, 0, nbd.REQUEST_BYTES_MAX)
    assert nbd.fault_of(most, large, has_context=False) is None
    beyond = Request(Command.READ, 0, 1, 0, nbd.REQUEST_BYTES_MAX + 1)
    assert nbd.fault_of(beyond, large, has_context=False) == Errno.EOVERFLOW


def test_answers() -> None:
    assert nbd.simple_reply(7, 5) == struct.pack(">IIQ", 0x67446698, 5, 7)
    assert nbd.data_head(7, 512, 3) == struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, 7, 11, 512)
    assert nbd.error_chunk(7, 5, "no") == struct.pack(">IHHQIIH", 0x668E33EF, 1, 0x8001, 7, 8, 5, 2) + b"no"
    told = nbd.status_chunk(7, [(512, True), (1_024, False)])
    assert told == struct.pack(">IHHQIIIIII", 0x668E33EF, 1, 5, 7, 20, 1, 512, 3, 1_024, 0)
