"""What circles do for grants: they carry revocations, and tell a person's computers what the others of them gave."""

import logging
from collections.abc import Callable

from coterie.access.grant import Grant, GrantRefused, open_grant
from coterie.apps.circles.api import CirclesService
from coterie.apps.context import Context
from coterie.apps.grants.records import NOUN, GivenRecord, record_id
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

    def start(self, on_kin: Callable[[PeerId], None]) -> None:
        """Honour what circles carry, now and after each change; `on_kin` is told of own computers that are here."""
        self._honour()
        known: dict[PeerId, None] = {}

        def changed(circle: bytes) -> None:
            self._honour()
            here = {peer: None for peer in self.circles.up if self.circles.devices.is_kin(peer)}
            for peer in here:
                if peer not in known:
                    on_kin(peer)
            known.clear()
            known.update(here)

        self.circles.on_change(changed)

    def _honour(self) -> None:
        if self._context.access.policy.revocations.carry(self.circles.revoked()):
            self._context.access.changed()

    def is_kin(self, peer: PeerId) -> bool:
        """Whether `peer` is another computer of this person."""
        return peer != self._context.me.peer_id and self.circles.devices.is_kin(peer)

    def kin(self) -> list[PeerId]:
        """The other computers of this person that are connected."""
        return [peer for peer in self.circles.up if self.is_kin(peer)]

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
