"""What is to be fetched once its giver is there: kept over restarts, and tried again as a running transfer is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from coterie.content.writer import Partial
from coterie.errors import CloseCode, CoterieError, LimitExceeded, PeerError, TransportError
from coterie.texts import tr
from coterie.transfer.describe import plain_detail
from coterie.transfer.records import Kept
from coterie.transfer.results import TransferChange, TransferDetail, TransferLine
from coterie.transfer.sources import RETRY_S
from coterie.transfer.states import TransferState
from coterie.transfer.surroundings import Surroundings
from coterie.transfer.table import Table

WANTED_MAX = 100  # at once; guess: each dials every half minute

T = TypeVar("T")


class WantedRecord(msgspec.Struct):
    """One `get` that has not begun. `source` is a ticket or a place; `options` are those of the command."""

    id: str
    created: float
    source: str
    target: str
    options: dict[str, Any]
    state: str = TransferState.WAITING
    note: str = ""
    down: float = 0.0
    up: float = 0.0
    priority: str = "normal"

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
    """All of them: a kind of the table (`table.Kind`). Belongs to the event loop."""

    begins_as = TransferState.WAITING

    def __init__(
        self, context: Surroundings, records: Kept[WantedRecord], table: Table, begin: Begin
    ) -> None:
        """`begin` starts the transfer under the record's id; it raises `TransportError` while nobody is reached."""
        self._context = context
        self._begin = begin
        self._records = records
        self._waiting: dict[str, asyncio.Task[None] | None] = {}  # None: its task has not run yet
        table.register(self)

    def start(self) -> None:
        """Go on waiting, after a restart."""
        for record in self._records:
            if record.state == TransferState.WAITING:
                self._wait_for(record)

    def add(self, record: WantedRecord) -> TransferChange:
        """Keep it, and begin once its giver is there.

        Raises:
            LimitExceeded: there are `WANTED_MAX` already.
        """
        if len(list(self._records)) >= WANTED_MAX:
            raise LimitExceeded(
                tr(
                    "{wanted_max} transfers wait for others already: cancel one (`coterie transfers`)",
                    wanted_max=WANTED_MAX,
                )
            )
        self._records.save(record)
        self._wait_for(record)
        return TransferChange(record.id, "waiting", 0, 0, record.target, record.note)

    # -- as a kind of the table --

    @property
    def running(self) -> int:
        """See `table.Kind`, as all of the following."""
        return 0

    def under_way(self, transfer: str) -> None:
        return None

    def entries(self) -> Kept[WantedRecord]:
        return self._records

    def save(self, transfer: str) -> None:
        self._records.save(self._records.get(transfer))

    def line(self, transfer: str) -> TransferLine:
        return self._records.get(transfer).line()

    async def detail(self, transfer: str) -> TransferDetail:
        return plain_detail(self._records.get(transfer), self.line(transfer))

    async def halt(self, transfer: str, note: str) -> None:
        if (task := self._waiting.pop(transfer, None)) is not None:
            task.cancel()
        record = self._records.get(transfer)
        if record.state == TransferState.WAITING:
            self._set(record, TransferState.PAUSED, "")

    def go_on(self, transfer: str) -> None:
        self._wait_for(self._records.get(transfer))

    async def drop(self, transfer: str) -> str:
        self._records.remove(transfer)
        return "cancelled"

    def adjust(self, transfer: str) -> None:
        """What is set here is that of the transfer, once it begins."""

    def partials(self) -> Sequence[Partial]:
        return ()

    # -- inside --

    def _wait_for(self, record: WantedRecord) -> None:
        if record.id in self._waiting:
            return
        self._waiting[record.id] = None

        async def wait() -> None:
            if record.id not in self._waiting:  # it was stopped at once
                return
            self._waiting[record.id] = own = asyncio.current_task()
            try:
                await patiently(
                    lambda: self._begin(record), lambda note: self._set(record, TransferState.WAITING, note)
                )
            except CoterieError as error:
                self._set(record, TransferState.FAILED, str(error))
            else:
                self._records.remove(record.id)
            finally:
                if self._waiting.get(record.id) is own:
                    del self._waiting[record.id]

        self._context.jobs.start(wait(), f"waiting for the giver of {record.target}")

    def _set(self, record: WantedRecord, state: str, note: str) -> None:
        record.state, record.note = state, note
        self._records.save(record)
