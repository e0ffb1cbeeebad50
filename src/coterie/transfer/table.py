"""All transfers of the node in one table, whatever moves their bytes: downloads, torrents, what is seeded, what waits.

Each kind is registered here by who runs it. An owner's orders come through the table, which says what they mean
(`states`); a kind does what is told.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from coterie.access.people import People
from coterie.content.writer import Partial
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.texts import tr
from coterie.transfer.results import TransferChange, TransferDetail, TransferLine
from coterie.transfer.running import Running
from coterie.transfer.states import WEIGHTS, Order, TransferState, after

KINDS_MAX = 16  # guess: each is a line where an app starts


class Entry(Protocol):
    """What the record of every transfer says. `created`: seconds since 1970; `priority` is one of `WEIGHTS`.

    `down` and `up` limit it, bytes a second; 0: no limit.
    """

    id: str
    created: float
    state: str
    note: str
    down: float
    up: float
    priority: str


class Kind(Protocol):
    """One kind of transfers, and all of that kind. Transfers are named by their ids."""

    @property
    def begins_as(self) -> TransferState:
        """The state in which they begin."""
        ...

    @property
    def running(self) -> int:
        """How many move bytes to here, or try to."""
        ...

    def under_way(self, transfer: str) -> Running | None:
        """The one with this id, where it runs."""
        ...

    def entries(self) -> Iterable[Entry]:
        """Every one that is not forgotten."""
        ...

    def save(self, transfer: str) -> None:
        """Write its entry to disk."""
        ...

    def line(self, transfer: str) -> TransferLine:
        """One line of the list."""
        ...

    async def detail(self, transfer: str) -> TransferDetail:
        """All about it."""
        ...

    async def halt(self, transfer: str, note: str) -> None:
        """End its run and keep what arrived; nothing when it does not run."""
        ...

    def go_on(self, transfer: str) -> None:
        """Begin to run again, unless it does."""
        ...

    async def drop(self, transfer: str) -> str:
        """Forget one that does not run, and what arrived of an unfinished one; the word for it (`TransferChange`)."""
        ...

    def adjust(self, transfer: str) -> None:
        """Its limits or its priority are others now."""
        ...

    def partials(self) -> Sequence[Partial]:
        """What unfinished ones have on disk so far."""
        ...


class Table:
    """Every transfer of the node. Belongs to the event loop."""

    def __init__(self, people: People) -> None:
        """`people` says what those are called whom lines name by short ids."""
        self._people = people
        self._kinds: list[Kind] = []

    def register(self, kind: Kind) -> None:
        """From now on the transfers of this kind are among all. Raises `LimitExceeded` over KINDS_MAX."""
        if len(self._kinds) >= KINDS_MAX:
            raise LimitExceeded(tr("{kinds_max} kinds of transfers are there already", kinds_max=KINDS_MAX))
        self._kinds.append(kind)

    def withdraw(self, kind: Kind) -> None:
        """The transfers of this kind are no longer among all: their app ends."""
        if kind in self._kinds:
            self._kinds.remove(kind)

    @property
    def running(self) -> int:
        """How many are under way to here."""
        return sum(kind.running for kind in self._kinds)

    def new_id(self, make: Callable[[], str]) -> str:
        """An id, made by `make`, that no transfer has."""
        taken = {entry.id for kind in self._kinds for entry in kind.entries()}
        while (made := make()) in taken:
            pass
        return made

    def lines(self) -> list[TransferLine]:
        """Every transfer that is not forgotten, oldest first."""
        lines = [(entry.created, _line(kind, entry)) for kind in self._kinds for entry in kind.entries()]
        names = self._people.by_short_id()
        ordered = [line for _, line in sorted(lines, key=lambda both: both[0])]
        return [replace(line, peer=names.get(line.peer, line.peer)) for line in ordered]

    def under_way(self, transfer: str) -> Running | None:
        """The one with this id, where it runs."""
        return next(filter(None, (kind.under_way(transfer) for kind in self._kinds)), None)

    async def detail(self, transfer: str) -> TransferDetail:
        """All about one transfer: from whom, to whom, how fast, how long."""
        kind, _ = self._find(transfer)
        detail, people = await kind.detail(transfer), self._people
        return replace(
            detail,
            sources=[replace(source, peer=people.in_names(source.peer)) for source in detail.sources],
            askers=[replace(asker, peer=people.in_names(asker.peer)) for asker in detail.askers],
            dropped=[people.in_names(dropped) for dropped in detail.dropped],
        )

    async def pause(self, transfer: str) -> TransferChange:
        """Stop a transfer and keep what arrived."""
        kind, entry = self._find(transfer)
        goal = self._after(Order.PAUSE, kind, entry)
        await kind.halt(transfer, "paused")
        if entry.state != goal:
            entry.state = goal
            kind.save(transfer)
        return _change(kind, transfer, "paused")

    async def resume(self, transfer: str) -> TransferChange:
        """Go on with a paused or failed transfer."""
        kind, entry = self._find(transfer)
        goal = self._after(Order.RESUME, kind, entry)
        if entry.state != goal:
            entry.state, entry.note = goal, ""
            kind.save(transfer)
        kind.go_on(transfer)
        return _change(kind, transfer, "waiting" if goal == TransferState.WAITING else "resumed")

    async def cancel(self, transfer: str) -> TransferChange:
        """End a transfer for good: what arrived of an unfinished one is removed, and it leaves the list."""
        kind, _ = self._find(transfer)
        await kind.halt(transfer, "cancelled")
        change = _change(kind, transfer, "")
        return replace(change, did=await kind.drop(transfer))

    async def limit(self, transfer: str, *, down: int | None, up: int | None) -> TransferDetail:
        """Set the limits of one transfer, bytes a second; 0: no limit."""
        kind, entry = self._find(transfer)
        entry.down = entry.down if down is None else max(0, down)
        entry.up = entry.up if up is None else max(0, up)
        return await self._adjusted(kind, transfer)

    async def set_priority(self, transfer: str, priority: str) -> TransferDetail:
        """Let a transfer come before others, or after them: "high", "normal" or "low"."""
        if priority not in WEIGHTS:
            raise UsageError(
                tr("a priority is {weights}, not '{priority}'", weights=", ".join(WEIGHTS), priority=priority)
            )
        kind, entry = self._find(transfer)
        entry.priority = priority
        return await self._adjusted(kind, transfer)

    def partials(self) -> list[Partial]:
        """What unfinished transfers have on disk so far."""
        return [partial for kind in self._kinds for partial in kind.partials()]

    async def _adjusted(self, kind: Kind, transfer: str) -> TransferDetail:
        kind.save(transfer)
        kind.adjust(transfer)
        return await self.detail(transfer)

    def _find(self, transfer: str) -> tuple[Kind, Entry]:
        for kind in self._kinds:
            for entry in kind.entries():
                if entry.id == transfer:
                    return kind, entry
        raise NotFound(
            tr("there is no transfer '{transfer}'; `coterie transfers` lists them", transfer=transfer)
        )

    @staticmethod
    def _after(order: Order, kind: Kind, entry: Entry) -> TransferState:
        if entry.state == TransferState.DONE:
            raise UsageError(
                tr("transfer {entry_id} is done: {path}", entry_id=entry.id, path=kind.line(entry.id).path)
            )
        return after(order, entry.state, kind.begins_as)


def _line(kind: Kind, entry: Entry) -> TransferLine:
    """One line; of what was under way when the node ended, how it goes on."""
    line = kind.line(entry.id)
    if line.state != TransferState.RUNNING or line.note or kind.under_way(entry.id) is not None:
        return line
    return replace(line, note=tr("goes on as soon as a node runs here: `coterie up`"))


def _change(kind: Kind, transfer: str, did: str) -> TransferChange:
    line = kind.line(transfer)
    return TransferChange(
        transfer, did, line.done, line.size, line.path, line.note if did == "waiting" else ""
    )
