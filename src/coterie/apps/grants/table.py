"""The lists of grants, with what is asked of them at every meeting kept beside: no answer opens them all."""

from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from coterie.access.grant import Grant, GrantRefused, open_grant
from coterie.apps.grants.records import RECORDS_MAX, AcceptedRecord, GivenRecord, HeldRecord
from coterie.crowd import Crowd
from coterie.errors import LimitExceeded
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

R = TypeVar("R", GivenRecord, HeldRecord, AcceptedRecord)


class GrantTable(Generic[R]):
    """Records of grants on disk, at most `RECORDS_MAX`.

    `makes_room`: when it is full, the oldest of the first link of which most are here gives way, so that who makes many
    of one grant pushes out its own. Without it a full table refuses.
    """

    def __init__(self, records: Records[R], *, makes_room: bool = False) -> None:
        self._records: Records[R] = records
        self._makes_room = makes_room
        self._grants: dict[
            str, tuple[PeerId, int, tuple[PeerId, ...]]
        ] = {}  # issuer, end, everybody in the chain
        self._parties: Counter[PeerId] = Counter()
        self._of_issuer: dict[PeerId, dict[str, None]] = {}
        self._roots: Crowd[str, bytes] = Crowd()
        for record in self._records:
            try:
                self._note(record.id, open_grant(record.grant, is_checked=True))
            except GrantRefused:
                self._records.remove(record.id)

    def __iter__(self) -> Iterator[R]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._grants)

    def has(self, record: str, raw: bytes) -> bool:
        """Whether this very grant is here as `record`."""
        return record in self._grants and self._records.get(record).grant == raw

    def concerns(self, peer: PeerId) -> bool:
        """Whether `peer` made or got a link of any grant here."""
        return peer in self._parties

    def of_issuer(self, peer: PeerId) -> list[R]:
        """The grants that `peer` issued."""
        return [self._records.get(record) for record in self._of_issuer.get(peer, ())]

    def valid(self, now: float) -> list[R]:
        """Those that have not ended at `now` (unix seconds)."""
        return [record for record in self._records if self._grants[record.id][1] > now]

    def save(self, record: R, grant: Grant, now: float) -> None:
        """Keep `record` of `grant`; what has ended at `now` (unix seconds) makes room first.

        Raises:
            LimitExceeded: the table is full of what is valid, and does not make room. Nothing has changed then.
            StorageError: it cannot be written.
        """
        if record.id not in self._grants and len(self) >= RECORDS_MAX:
            self._make_room(now)
        self._records.save(record)
        self._forget(record.id)
        self._note(record.id, grant)

    def remove(self, record: str) -> None:
        """Forget one."""
        self._records.remove(record)
        self._forget(record)

    def _make_room(self, now: float) -> None:
        ended = [record for record, (_, expires, _) in self._grants.items() if expires <= now]
        for record in ended:
            self.remove(record)
        if ended:
            return
        if not self._makes_room:
            raise LimitExceeded(
                tr(
                    "there are {records_max} grants already; they make room when they end",
                    records_max=RECORDS_MAX,
                )
            )
        self.remove(self._roots.next_to_go())

    def _note(self, record: str, grant: Grant) -> None:
        parties = tuple(dict.fromkeys(key for link in grant.links for key in (link.signer, link.audience)))
        self._grants[record] = grant.issuer, grant.last.terms.expires, parties
        self._parties.update(parties)
        self._of_issuer.setdefault(grant.issuer, {})[record] = None
        self._roots.add(record, grant.links[0].id)

    def _forget(self, record: str) -> None:
        found = self._grants.pop(record, None)
        if found is None:
            return
        issuer, _, parties = found
        for party in parties:
            self._parties[party] -= 1
            if not self._parties[party]:
                del self._parties[party]
        del self._of_issuer[issuer][record]
        if not self._of_issuer[issuer]:
            del self._of_issuer[issuer]
        self._roots.remove(record)
