"""A node's table as bytes between two runs, and its state as people see it. Pure."""

from collections.abc import Callable
from statistics import median

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES
from coterie.overlay.kademlia.events import BucketView, LookupView
from coterie.overlay.kademlia.keys import ID_BITS
from coterie.overlay.kademlia.table import Table
from coterie.overlay.kademlia.task import Task
from coterie.texts import tr
from coterie.wire.record import RECORD_BYTES_MAX

FORMAT = 1


class _SavedContact(msgspec.Struct, frozen=True, array_like=True):
    peer: bytes
    record: bytes


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    format: int
    contacts: list[_SavedContact]


def write_state(table: Table, record_of: Callable[[PeerId], bytes]) -> bytes:
    """The table as bytes: a few contacts of every bucket first, so that a cut-off list still spans the space."""
    ranked = [
        (rank, number, contact.peer)
        for number, bucket in table.buckets
        for rank, contact in enumerate(reversed(list(bucket.contacts.values())))
        if not contact.failures
    ]
    ranked.sort(key=lambda entry: entry[:2])
    saved = [_SavedContact(bytes(peer), record_of(peer)[:RECORD_BYTES_MAX]) for _, _, peer in ranked]
    return msgspec.msgpack.encode(_Saved(FORMAT, saved))


@decoder(UsageError, "the state of a routing table")
def read_state(raw: bytes, count: int) -> list[tuple[PeerId, bytes]]:
    """Up to `count` (peer, record) of what `write_state` made. Nothing of it is believed before it answers.

    Raises:
        UsageError: it is something else.
    """
    saved = msgspec.msgpack.decode(raw, type=_Saved)
    if saved.format != FORMAT:
        raise UsageError(
            tr(
                "the state of a routing table in format {format}, not {format2}",
                format=saved.format,
                format2=FORMAT,
            )
        )
    sound = [
        c for c in saved.contacts[:count] if len(c.peer) == KEY_BYTES and len(c.record) <= RECORD_BYTES_MAX
    ]
    return [(PeerId(c.peer), c.record) for c in sound]


def bucket_views(table: Table) -> tuple[BucketView, ...]:
    """The buckets, the farthest first."""
    return tuple(
        BucketView(
            bits=ID_BITS - number,
            contacts=tuple(c.peer for c in bucket.contacts.values()),
            waiting=len(bucket.waiting),
            failing=sum(1 for c in bucket.contacts.values() if c.failures),
            median_rtt_s=median(c.rtt_s for c in bucket.contacts.values()) if bucket.contacts else 0.0,
        )
        for number, bucket in table.buckets
    )


def lookup_view(task: Task) -> LookupView:
    """A lookup in progress."""
    lookup = task.lookup
    return LookupView(
        task.name, str(task.kind), task.key, lookup.asked, lookup.answers, lookup.failures, task.since
    )
