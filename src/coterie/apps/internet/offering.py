"""Tells computers that internet access here is for them, and the owner of that of others: once each."""

import contextlib
import time

from coterie.apps.context import Context
from coterie.apps.internet.messages import PROTOCOL, Offer
from coterie.apps.internet.records import OfferRecord
from coterie.apps.internet.sharing import Sharing
from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

OFFERS_MAX = 1_000  # of which the owner was told; then the oldest is forgotten, and told again


class Offering:
    """Made by the service. All methods belong to the event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offers: Records[OfferRecord] = context.data.records("offers", OfferRecord, "offer")
        self._told: set[PeerId] = set()  # since the start, who were told
        self._here: set[PeerId] = set()
        self._sharing: Sharing | None = None

    def start(self, sharing: Sharing) -> None:
        """From now on tell who comes."""
        self._sharing = sharing
        self._context.net.watch(self._came, self._here.discard)

    def changed(self) -> None:
        """Something else is shared: tell who is here and was not told."""
        for peer in list(self._here):
            self._came(peer)

    def heard(self, peer: PeerId) -> None:
        """A peer offers its access."""
        if any(record.peer == str(peer) for record in self._offers):
            return
        known = sorted(self._offers, key=lambda record: record.created)
        for record in known[: len(known) + 1 - OFFERS_MAX]:
            self._offers.remove(record.id)
        self._offers.save(OfferRecord(id=self._offers.new_id(), created=time.time(), peer=str(peer)))
        who = self._context.people.name_of(peer)
        text = tr("{who} lets you use its internet access: coterie internet use {who}", who=who)
        self._context.tell.say(text, key=f"offer/{peer}")

    def _came(self, peer: PeerId) -> None:
        self._here.add(peer)
        if self._sharing is not None and peer not in self._told and self._sharing.is_for(peer):
            self._told.add(peer)
            self._context.jobs.start(self._tell(peer), "offering internet access")

    async def _tell(self, peer: PeerId) -> None:
        with contextlib.suppress(CoterieError, TimeoutError):  # it is of an older version, or has gone
            async with await self._context.net.open(peer, PROTOCOL) as stream:
                await stream.send(Offer())
