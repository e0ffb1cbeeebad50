"""What a keeper has of a path of a live folder: sealed registers, each signed by the computer that sealed it. Pure.

A keeper cannot merge what it cannot read. So it keeps, for each name (a tag that only readers understand), what several
writers sealed side by side, and lets one go when another knows all that it knows: the contexts stand in the clear, as
random replicas and counters. Whoever can open them merges them as any registers; an old one adds nothing there.
So a keeper can withhold and repeat; what it makes up is signed by nobody.

    entry = epoch | context | contents | record | by | signature
    signed = "coterie folder entry" | 0 | folder | name | msgpack of the first four
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from coterie.apps.folders.membership import ENTRY_CONTEXT
from coterie.apps.folders.register import COUNTER_MAX, REPLICA_BYTES, REPLICAS_MAX, SIBLINGS_MAX, Replica
from coterie.content.sealed import TAG_BYTES
from coterie.decoding import decoder
from coterie.errors import CloseCode, LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

ENTRIES_MAX = 16  # side by side for one name; guess: writers that never met, whose changes nobody has merged
EPOCH_MAX = 1 << 53
RECORD_BYTES_MAX = 48 << 10  # of one sealed register: some hundred siblings
NAME_CHARS = 2 * TAG_BYTES

Known = tuple[tuple[Replica, int], ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A register as one writer sealed it.

    Fields:
        epoch: of the key that opens it. `context`: of the register, as there: sorted.
        contents: tags of the contents that its values need.
        record: path and register, sealed. `by`: PeerId of who sealed and signed it.
    """

    epoch: int
    context: Known
    contents: tuple[bytes, ...]
    record: bytes
    by: bytes
    signature: bytes


def to_sign(
    folder: bytes, name: str, epoch: int, context: Known, contents: Iterable[bytes], record: bytes
) -> bytes:
    """The bytes that a writer signs. `folder`: as keepers know it."""
    body = msgspec.msgpack.encode((epoch, context, tuple(contents), record))
    return b"".join((ENTRY_CONTEXT, folder, name.encode(), body))


def is_signed(folder: bytes, name: str, entry: Entry) -> bool:
    """Whether the computer that an entry names has signed it."""
    said = to_sign(folder, name, entry.epoch, entry.context, entry.contents, entry.record)
    return verify(PeerId(entry.by), said, entry.signature)


def merge(a: Iterable[Entry], b: Iterable[Entry]) -> tuple[Entry, ...]:
    """All that stands on either side, less what another knows to be past. The same whatever the order."""
    every = sorted({*a, *b}, key=_order)
    return tuple(
        one
        for at, one in enumerate(every)
        if not any(
            _knows(other, one, is_before=place < at) for place, other in enumerate(every) if place != at
        )
    )


def bounded(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Of more than ENTRIES_MAX as many as that: whoever sealed most of them loses those of the oldest keys.

    A writer that follows the folder has one for each key: each knows what its last one knew.

    Raises:
        LimitExceeded: each is of a writer of its own.
    """
    left = list(entries)
    while len(left) > ENTRIES_MAX:
        counts = Counter(entry.by for entry in left)
        most = max(counts.values())
        if most < 2:
            raise LimitExceeded(tr("too many computers changed one file without each other"))
        left.remove(
            min((one for one in left if counts[one.by] == most), key=lambda one: (one.epoch, _order(one)))
        )
    return tuple(left)


def contents_of(entries: Iterable[Entry]) -> dict[bytes, None]:
    """The tags of all contents that are needed."""
    return {tag: None for entry in entries for tag in entry.contents}


def _knows(other: Entry, one: Entry, *, is_before: bool) -> bool:
    """Whether `other` knows all writes that `one` knows; of two that know the same, the first in order stays."""
    if other.epoch != one.epoch:
        return False
    known = dict(other.context)
    if any(counter > known.get(replica, 0) for replica, counter in one.context):
        return False
    return is_before or other.context != one.context


def _order(entry: Entry) -> tuple[bytes, bytes]:
    return entry.by, entry.signature


# ---- as bytes

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[Entry, ...])


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """Entries of one name, as they travel and are kept."""
    return _ENCODER.encode(tuple(entries))


@decoder(PeerError, "what a keeper has of a path")
def read_entries(raw: bytes) -> tuple[Entry, ...]:
    """What `pack_entries` made, checked but for the signatures. Raises `PeerError`."""
    entries = _DECODER.decode(raw)
    if not 0 < len(entries) <= ENTRIES_MAX:
        raise PeerError(f"a sealed path with {len(entries)} entries", CloseCode.LIMIT)
    for entry in entries:
        if fault := _fault(entry):
            raise PeerError(f"a sealed path with {fault}")
    return entries


def is_name(name: str) -> bool:
    """Whether it is the name of a sealed path: the tag, in lower hex."""
    return len(name) == NAME_CHARS and all(char in "0123456789abcdef" for char in name)


def _fault(entry: Entry) -> str:
    if not 1 <= entry.epoch <= EPOCH_MAX or not 0 < len(entry.record) <= RECORD_BYTES_MAX:
        return "an epoch or record that cannot be"
    if (
        not 0 < len(entry.context) <= REPLICAS_MAX + SIBLINGS_MAX
        or tuple(sorted(entry.context)) != entry.context
    ):
        return "a context that cannot be"
    if len(dict(entry.context)) != len(entry.context):
        return "a writer that is named twice"
    if not all(len(replica) == REPLICA_BYTES and 0 < n <= COUNTER_MAX for replica, n in entry.context):
        return "a write that nobody can have made"
    if len(entry.contents) > SIBLINGS_MAX or any(len(tag) != TAG_BYTES for tag in entry.contents):
        return "contents that cannot be"
    if len(entry.by) != KEY_BYTES or len(entry.signature) != SIGNATURE_BYTES:
        return "a signature that cannot be"
    return ""
