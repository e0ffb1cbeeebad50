"""What is to be fetched once its giver is there: kept over restarts, and tried again as a running transfer is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from coterie.errors import CloseCode, CoterieError, LimitExceeded, PeerError, TransportError
from coterie.transfer.records import Kept
from coterie.transfer.results import TransferChange, TransferLine
from coterie.transfer.sources import RETRY_S
from coterie.transfer.surroundings import Surroundings

WANTED_MAX = 100  # at once; guess: each dials every half minute
WAITING, PAUSED, FAILED = "waiting", "paused", "failed"

T = TypeVar("T")


class WantedRecord(msgspec.Struct):
    """One `get` that has not begun. `source` is a ticket or a place; `options` are those of the command."""

    id: str
    created: float
    source: str
    target: str
    options: dict[str, Any]
    state: str = WAITING
    note: str = ""

    def change(self, did: str) -> TransferChange:
        """What a command did to it."""
        return TransferChange(self.id, did, 0, 0, self.target, self.note)

    def line(self) -> TransferLine:
        """In the list of transfers."""
        name = self.source if "/" in self.source else ""
        return TransferLine(self.id, self.state, 0, 0, self.target, name, note=self.note)


Begin = Callable[[WantedRecord], Awaitable[None]]


async def patiently(begin: Callable[[], Awaitable[T]], say: Callable[[str], None]) -> T:
    """What `begin` returns, tried until the giver is reached; `say` hears why it is not, and when it is tried again."""
    tries = 0
    while True:
        try:
            return await begin()
        except (TransportError, PeerError) as error:
            if isinstance(error, PeerError) and error.close_code != CloseCode.REFUSED:
                raise  # refused: it is starting, or does not know us yet
            wait_s = RETRY_S[min(tries, len(RETRY_S) - 1)]
            tries += 1
            say(f"{error}; next try in {RETRY_S[-1]:.0f} s at most")
            await asyncio.sleep(wait_s)


class Wanted:
    """All of them. Belongs to the event loop."""

    def __init__(self, context: Surroundings, records: Kept[WantedRecord], begin: Begin) -> None:
        """`begin` starts the transfer under the record's id; it raises `TransportError` while nobody is reached."""
        self._context = context
        self._begin = begin
        self._records = records
        self._waiting: dict[str, asyncio.Task[None] | None] = {}  # None: its task has not run yet

    def start(self) -> None:
        """Go on waiting, after a restart."""
        for record in self._records:
            if record.state == WAITING:
                self._wait_for(record)

    def has(self, transfer: str) -> bool:
        """Whether it is one of these."""
        return any(record.id == transfer for record in self._records)

    def lines(self) -> list[tuple[float, TransferLine]]:
        """Each, with when it was asked for."""
        return [(record.created, record.line()) for record in self._records]

    def add(self, record: WantedRecord) -> TransferChange:
        """Keep it, and begin once its giver is there.

        Raises:
            LimitExceeded: there are `WANTED_MAX` already.
        """
        if len(list(self._records)) >= WANTED_MAX:
            raise LimitExceeded(
                f"{WANTED_MAX} transfers wait for others already: cancel one (`coterie transfers`)"
            )
        self._records.save(record)
        self._wait_for(record)
        return record.change("waiting")

    def pause(self, transfer: str) -> TransferChange:
        """Do not try any more."""
        return self._stop(transfer, PAUSED).change("paused")

    def resume(self, transfer: str) -> TransferChange:
        """Try again."""
        record = self._records.get(transfer)
        self._set(record, WAITING, "")
        self._wait_for(record)
        return record.change("waiting")

    def cancel(self, transfer: str) -> TransferChange:
        """Forget it; nothing of it has arrived."""
        record = self._stop(transfer, PAUSED)
        self._records.remove(transfer)
        return record.change("cancelled")

    def _stop(self, transfer: str, state: str) -> WantedRecord:
        record = self._records.get(transfer)
        if (task := self._waiting.pop(transfer, None)) is not None:
            task.cancel()
        self._set(record, state, "")
        return record

    def _wait_for(self, record: WantedRecord) -> None:
        if record.id in self._waiting:
            return
        self._waiting[record.id] = None

        async def wait() -> None:
            if record.id not in self._waiting:  # it was stopped at once
                return
            self._waiting[record.id] = own = asyncio.current_task()
            try:
                await patiently(lambda: self._begin(record), lambda note: self._set(record, WAITING, note))
            except CoterieError as error:
                self._set(record, FAILED, str(error))
            else:
                self._records.remove(record.id)
            finally:
                if self._waiting.get(record.id) is own:
                    del self._waiting[record.id]

        self._context.start(wait(), f"waiting for the giver of {record.target}")

    def _set(self, record: WantedRecord, state: str, note: str) -> None:
        record.state, record.note = state, note
        self._records.save(record)
