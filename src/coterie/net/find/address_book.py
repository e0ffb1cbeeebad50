"""AddressBook: what is known of where peers are: their newest signed records, and which addresses worked.

All times are unix seconds, because the book outlives the process.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

import msgspec

from coterie.decoding import FAULTS, decoder, reason
from coterie.errors import StorageError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES, is_key
from coterie.texts import tr
from coterie.wire.record import PeerRecord, RecordRefused

FORMAT = 1
ROOM_SHARE = 64  # of a full book, this part leaves at once; guess


@dataclass(frozen=True, slots=True, kw_only=True)
class BookLimits:
    """The bounds of one book."""

    peers_max: int = 4_096  # guess: about 8 MB; a community's active peers, and every contact
    addresses_per_peer_max: int = 32  # guess: addresses whose success or failure is remembered
    candidates_max: int = 16  # guess: the transport tries all of them at once, a packet or two each
    worked_first_max: int = 6  # guess: so that the record and the hints always get their turn
    failures_max: int = 3  # guess: in a row, then an address that worked once is forgotten
    worked_s: float = 30 * 86_400  # guess: home addresses of last month are still worth a packet
    silent_s: float = 30 * 86_400  # guess: a peer not heard of for so long leaves the book


@dataclass(slots=True)
class Tried:
    """What became of one address: last times (0 for never) and failures since the last success."""

    succeeded_at: float = 0.0
    failed_at: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class BookEntry:
    """One peer. `record` and `raw` are None once the record has expired; `sequence` stays."""

    peer: PeerId
    heard_at: float
    source: str
    sequence: int = 0
    record: PeerRecord | None = None
    raw: bytes | None = None
    tried: dict[str, Tried] = field(default_factory=dict)

    @property
    def worked_at(self) -> float:
        """When any address of this peer worked last; 0 for never."""
        return max((t.succeeded_at for t in self.tried.values()), default=0.0)


class _SavedAddress(msgspec.Struct, frozen=True, array_like=True):
    address: str
    succeeded_at: float
    failed_at: float
    failures: int


class _SavedEntry(msgspec.Struct, frozen=True, array_like=True):
    peer: bytes
    heard_at: float
    source: str
    sequence: int
    raw: bytes
    tried: list[_SavedAddress]


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    format: int
    own_sequence: int
    entries: list[_SavedEntry]


class AddressBook:
    """Peers and their addresses. The newest record of a peer stays; what is older or equal changes nothing.

    When the book is full, peers leave that never worked and are not kept, the longest unheard first; so a
    flood of records pushes out nothing but itself.
    """

    def __init__(
        self,
        own: PeerId,
        *,
        limits: BookLimits | None = None,
        is_kept: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        """`is_kept(peer)` says who never leaves for lack of room: contacts."""
        self._own = own
        self._limits = limits or BookLimits()
        self._is_kept = is_kept
        self._entries: dict[PeerId, BookEntry] = {}
        self.own_sequence = 0
        self.revision = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._entries

    @property
    def entries(self) -> list[BookEntry]:
        """Everything known, in the order in which peers came."""
        return list(self._entries.values())

    def entry(self, peer: PeerId) -> BookEntry | None:
        """What is known of `peer`."""
        return self._entries.get(peer)

    def record(self, peer: PeerId, now: float) -> PeerRecord | None:
        """The newest record of `peer` that has not expired."""
        entry = self._entries.get(peer)
        if entry is None or entry.record is None or entry.record.expires <= now:
            return None
        return entry.record

    def names(self, now: float) -> dict[PeerId, str]:
        """What those call themselves whose records have not expired; whoever gives no name is not among them."""
        records = {peer: record for peer in self._entries if (record := self.record(peer, now)) is not None}
        return {peer: record.name for peer, record in records.items() if record.name}

    def next_sequence(self, now: float) -> int:
        """For this node's own next record: grows even when the clock went back."""
        self.own_sequence = max(self.own_sequence + 1, int(now * 1000))
        self.revision += 1
        return self.own_sequence

    # ---- learning

    def learn(self, raw: bytes, now: float, source: str) -> PeerRecord | None:
        """Verify a record and keep it if it is news; None when the book has it already, or a newer one.

        Raises:
            RecordRefused: forged, expired, from the future, oversized or malformed.
        """
        known = self._known_already(raw)
        if known is not None:
            known.heard_at, known.source = now, source
            return None
        record = PeerRecord.open(raw, now)
        if record.peer == self._own:
            return None
        entry = self._entries.get(record.peer)
        if entry is not None and record.sequence <= entry.sequence:
            return None
        entry = self._entry(record.peer, now, source)
        entry.heard_at, entry.source = now, source
        entry.sequence, entry.record, entry.raw = record.sequence, record, bytes(raw)
        self.revision += 1
        self._make_room()
        return record if record.peer in self._entries else None

    def note_success(self, peer: PeerId, address: str, now: float) -> None:
        """`peer` was reached at `address`."""
        entry = self._entry(peer, now, "connected")
        entry.heard_at = now
        entry.tried[address] = Tried(succeeded_at=now)
        self._trim(entry)
        self.revision += 1
        self._make_room()

    def note_failure(self, peer: PeerId, addresses: Iterable[str], now: float) -> None:
        """`peer` did not answer at any of `addresses`."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        for address in addresses:
            tried = entry.tried.get(address)
            if tried is None:
                continue  # it never worked: that it does not now is nothing to remember
            tried.failed_at, tried.failures = now, tried.failures + 1
            if tried.failures >= self._limits.failures_max:
                del entry.tried[address]
        self.revision += 1

    def forget(self, peer: PeerId) -> None:
        """Remove everything about `peer`."""
        if self._entries.pop(peer, None) is not None:
            self.revision += 1

    def expire(self, now: float) -> None:
        """Drop records past their time, addresses that worked too long ago, and peers long silent."""
        for entry in self.entries:
            if entry.record is not None and entry.record.expires <= now:
                entry.record = entry.raw = None
                self.revision += 1
            for address, tried in list(entry.tried.items()):
                if tried.succeeded_at + self._limits.worked_s <= now:
                    del entry.tried[address]
                    self.revision += 1
            if entry.heard_at + self._limits.silent_s <= now and not self._is_kept(entry.peer):
                self.forget(entry.peer)

    # ---- asking

    def candidates(self, peer: PeerId, now: float, hints: Sequence[str] = ()) -> list[str]:
        """Where to try `peer`, best first: what worked (latest first), its record, then `hints`.

        Of what worked, addresses that have failed since come after those that have not.
        """
        entry = self._entries.get(peer)
        worked: list[str] = []
        if entry is not None:
            order = sorted(entry.tried.items(), key=lambda item: (item[1].failures, -item[1].succeeded_at))
            worked = [address for address, tried in order if tried.succeeded_at + self._limits.worked_s > now]
        record = self.record(peer, now)
        listed = record.addresses if record is not None else ()
        everything = [*worked[: self._limits.worked_first_max], *listed, *hints]
        return list(dict.fromkeys(everything))[: self._limits.candidates_max]

    # ---- keeping

    def dump(self) -> bytes:
        """Everything, for `load`."""
        entries = [
            _SavedEntry(
                bytes(e.peer),
                e.heard_at,
                e.source,
                e.sequence,
                e.raw or b"",
                [_SavedAddress(a, t.succeeded_at, t.failed_at, t.failures) for a, t in e.tried.items()],
            )
            for e in self._entries.values()
        ]
        return msgspec.msgpack.encode(_Saved(FORMAT, self.own_sequence, entries))

    @decoder(StorageError, "the address book")
    def load(self, data: bytes, now: float) -> None:
        """Take in what `dump` wrote. Records are verified again; those past their time are left out.

        Raises:
            StorageError: `data` is no address book. Nothing was taken.
        """
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            if saved.format != FORMAT or any(len(e.peer) != KEY_BYTES for e in saved.entries):
                raise ValueError(f"format {saved.format}")
        except FAULTS as error:
            raise StorageError(tr("the address book is damaged: {reason}", reason=reason(error))) from None
        self.own_sequence = max(self.own_sequence, saved.own_sequence)
        for old in saved.entries:
            self._restore(old, now)
        self._make_room()

    def _restore(self, old: _SavedEntry, now: float) -> None:
        peer = PeerId(old.peer)
        tried = {t.address: Tried(t.succeeded_at, t.failed_at, t.failures) for t in old.tried}
        entry = BookEntry(peer, min(old.heard_at, now), old.source, old.sequence, tried=tried)
        try:
            record = PeerRecord.open(old.raw, now)
        except RecordRefused:
            record = None  # expired meanwhile; damage looks the same and costs one record
        if record is None and not is_key(old.peer):
            return
        if record is not None and record.peer == peer:
            entry.record, entry.raw, entry.sequence = record, old.raw, record.sequence
        self._entries[peer] = entry
        self._trim(entry)

    # ---- bounds

    def _known_already(self, raw: bytes) -> BookEntry | None:
        """The entry that holds exactly this record: what was verified once is not verified again."""
        if len(raw) <= KEY_BYTES:
            return None
        entry = self._entries.get(PeerId(raw[1 : 1 + KEY_BYTES]))
        return entry if entry is not None and entry.raw == raw else None

    def _entry(self, peer: PeerId, now: float, source: str) -> BookEntry:
        entry = self._entries.get(peer)
        if entry is None:
            entry = self._entries[peer] = BookEntry(peer, now, source)
        return entry

    def _trim(self, entry: BookEntry) -> None:
        while len(entry.tried) > self._limits.addresses_per_peer_max:
            del entry.tried[min(entry.tried, key=lambda a: entry.tried[a].succeeded_at)]

    def _make_room(self) -> None:
        """One look at everybody frees several places, so that a flood does not cost a look each."""
        surplus = len(self._entries) - self._limits.peers_max
        if surplus > 0:
            count = max(surplus, self._limits.peers_max // ROOM_SHARE)
            for leaving in nsmallest(count, self._entries.values(), key=self._worth):
                del self._entries[leaving.peer]

    def _worth(self, entry: BookEntry) -> tuple[bool, bool, float]:
        return self._is_kept(entry.peer), entry.worked_at > 0, entry.heard_at
