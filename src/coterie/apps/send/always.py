"""Persons from whom everything is taken, without a question."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coterie.apps.context import Context
from coterie.apps.send import core as c
from coterie.apps.send import events as e
from coterie.apps.send.fetching import free_bytes
from coterie.apps.send.records import AlwaysRecord, InboxRecord
from coterie.apps.send.results import AlwaysLine, InboxSaid
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

ALWAYS_MAX = 256
FREE_BYTES_MIN = 1 << 30  # left on the disk by what is taken without a question; guess


class Always:
    """All of them. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        records: Records[AlwaysRecord],
        folder: Path,
        core: c.SendCore,
        feed: Callable[[Any], None],
    ) -> None:
        """`folder`: where what they send goes, if nobody says another place; `feed` gives the core an event."""
        self._context = context
        self._records = records
        self._folder = folder
        self._core = core
        self._feed = feed

    def take_all(self, person: str, folder: Path | None = None) -> InboxSaid:
        """Take everything from this person from now on, without a question. Raises `NotFound`, `UsageError`."""
        peer = self._context.people.find(person)
        if not self._context.people.is_known(peer):
            raise UsageError(
                tr("{short} is not known here: only what people you know send is taken so", short=peer.short)
            )
        known = self._of(peer)
        if known is None and len(self._records) >= ALWAYS_MAX:
            raise LimitExceeded(
                tr("everything is taken from {always_max} people already", always_max=ALWAYS_MAX)
            )
        record = known or AlwaysRecord(self._records.new_id(), time.time(), str(peer))
        record.folder = str(folder.absolute()) if folder is not None else record.folder
        self._records.save(record)
        for got in list(self._core.inbox.values()):
            self.consider(got)
        where = record.folder or str(self._folder)
        return InboxSaid(
            person, f"What {self._context.people.name_of(peer)} sends goes to {where}, without a question"
        )

    def ask(self, person: str) -> InboxSaid:
        """Ask again before something of this person is taken. Raises `NotFound`."""
        peer = self._context.people.find(person)
        known = self._of(peer)
        if known is None:
            raise NotFound(tr("what {person} sends waits for an answer already", person=person))
        self._records.remove(known.id)
        return InboxSaid(person, f"What {self._context.people.name_of(peer)} sends waits for an answer again")

    def forget(self, removed: PeerId) -> None:
        """It is no contact any more."""
        for record in [one for one in self._records if one.person == str(removed)]:
            self._records.remove(record.id)

    def lines(self) -> list[AlwaysLine]:
        """From whom everything is taken."""
        name_of = self._context.people.name_of
        return [
            AlwaysLine(person=name_of(PeerId.parse(one.person)), path=one.folder or str(self._folder))
            for one in self._records
        ]

    def consider(self, got: InboxRecord) -> None:
        """Take it, where its sender is one from whom everything is taken, and the disk has room."""
        if got.answer != c.Answer.DELIVERED or c.is_over(got) or got.is_stranger:
            return
        peer = PeerId.parse(got.sender)
        always = self._of(peer)
        if always is None or not self._context.people.is_known(peer):
            return
        folder = Path(always.folder) if always.folder else self._folder
        offers: Iterable[InboxRecord] = self._core.inbox.values()
        coming = sum(c.size_of(one.items) for one in offers if c.is_coming(one))
        if free_bytes(folder) - coming - c.size_of(got.items) >= FREE_BYTES_MIN:
            self._feed(e.Accept(got.id, str(folder)))

    def _of(self, peer: PeerId) -> AlwaysRecord | None:
        computers = {str(one) for one in self._context.people.computers_of(peer)}
        return next((one for one in self._records if one.person in computers), None)
