"""What circles do for grants: they carry revocations, and tell a person's computers what the others of them gave."""

import logging
from collections.abc import Callable

from coterie.access.grant import Grant, GrantRefused, open_grant
from coterie.apps.circles.api import CirclesService
from coterie.apps.context import Context
from coterie.apps.grants.records import NOUN, GivenRecord, ToldRecord, record_id
from coterie.apps.grants.table import GrantTable
from coterie.errors import LimitExceeded
from coterie.identity import PeerId

log = logging.getLogger(__name__)


class Carried:
    """Part of the grants service. `theirs`: the grants that other computers of this person gave."""

    def __init__(self, context: Context, circles: CirclesService) -> None:
        self._context = context
        self.circles = circles
        self.theirs: GrantTable[GivenRecord] = GrantTable(context.data.records("theirs", GivenRecord, NOUN))
        self._told = context.data.records("told", ToldRecord, "computer")
        self._telling: dict[PeerId, None] = {}

    def start(self, tell_all: Callable[[PeerId], None]) -> None:
        """Honour what circles carry, now and after each change; `tell_all`: see `settle`."""

        def changed(circle: bytes = b"") -> None:
            self._honour()
            self.settle(tell_all)

        changed()
        self.circles.on_change(changed)

    def _honour(self) -> None:
        if self._context.access.policy.revocations.carry(self.circles.revoked()):
            self._context.access.changed()

    def is_kin(self, peer: PeerId) -> bool:
        """Whether `peer` is another computer of this person."""
        return peer != self._context.me.peer_id and self.circles.devices.is_kin(peer)

    def kin(self) -> list[PeerId]:
        """The other computers of this person, here or not."""
        return self.circles.devices.kin()

    # ---- which of them were told of everything

    def settle(self, tell_all: Callable[[PeerId], None]) -> None:
        """Call `tell_all` with each own computer to which nothing was written yet."""
        kin = self.kin()
        for record in list(self._told):
            if record.id not in {bytes(peer).hex() for peer in kin}:
                self._told.remove(record.id)
        told = {record.id for record in self._told}
        for peer in kin:
            if bytes(peer).hex() not in told and peer not in self._telling:
                self._telling[peer] = None
                tell_all(peer)

    def finish(self, peer: PeerId, *, is_told: bool) -> None:
        """Letters about everything are written to an own computer, or could not be."""
        self._telling.pop(peer, None)
        if is_told:
            self._told.save(ToldRecord(bytes(peer).hex(), self._context.access.now))

    def miss(self, peer: PeerId) -> bool:
        """An own computer is to be told everything anew, at the next occasion; whether it was told."""
        was_told = any(record.id == bytes(peer).hex() for record in self._told)
        if was_told:
            self._told.remove(bytes(peer).hex())
        return was_told

    def spread(self, grant: Grant) -> list[str]:
        """Let circles carry the revocation of the last link of `grant`; the names of those that do."""
        concerned = [grant.issuer, *(key for link in grant.links for key in (link.signer, link.audience))]
        return self.circles.revoke(grant.id, concerned)

    def take(self, raws: list[bytes], peer: PeerId) -> None:
        """Another computer of this person says what it gave."""
        if not self.is_kin(peer):
            return
        now = self._context.access.now
        for raw in raws:
            try:
                grant = open_grant(raw)
                if grant.last.signer != peer or grant.last.terms.expires <= now:
                    continue
                if not self.theirs.has(record_id(grant), raw):
                    self.theirs.save(GivenRecord(record_id(grant), now, grant.raw), grant, now)
            except (GrantRefused, LimitExceeded) as error:
                log.info("a grant of %s is not kept: %s", peer.short, error)
