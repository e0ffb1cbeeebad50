"""A transfer that is under way, of whatever kind: what those need who began it."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from coterie.errors import UsageError
from coterie.progress import Progress
from coterie.texts import tr
from coterie.transfer.results import Received, TransferChange
from coterie.transfer.states import TransferState

ALL = 0  # the reader that stands for all that will be read of a file


class Readable(Protocol):
    """A file of a transfer: some bytes of it may still have to come."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str:
        """Its path within the transfer."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def tag(self) -> str:
        """Changes when the content does: letters and digits."""
        ...

    @property
    def last_read(self) -> float:
        """When somebody read of it, on the event loop's clock; 0.0: never."""
        ...

    async def read(self, offset: int, size: int, /) -> bytes:
        """At least one and at most `size` verified bytes from `offset` on, as soon as they are there.

        Raises:
            CoterieError: they will not come.
        """
        ...

    def reading(self, reader: int, offset: int, ahead_bytes: int, /) -> None:
        """`reader` is at `offset` now and wants the next `ahead_bytes` soon; replaces what it said before."""
        ...

    def left(self, reader: int, /) -> None:
        """`reader` reads no more."""
        ...

    async def prefer_all(self) -> bool:
        """Prefer all of it, after what readers want; False while it is not known where all of it is."""
        ...


class Running(Protocol):
    """See `transfer.Transfer`."""

    @property
    def id(self) -> str:
        """That of its record."""
        ...

    @property
    def target(self) -> str:
        """The path that it is to have, or the folder to put it into while its name is not known."""
        ...

    @property
    def result(self) -> "asyncio.Future[Received]":
        """Ends with what was received, or with the error."""
        ...

    def listen(self, listener: Callable[[Progress], None], /) -> None:
        """Call `listener` with the progress, a few times a second."""
        ...

    def change(self, did: str, /) -> TransferChange:
        """What a command did to it."""
        ...

    async def stop(self, note: str = "paused") -> None:
        """End the run and keep what arrived."""
        ...

    def hold(self, *, is_on: bool) -> None:
        """Fetch the description only while it is found out what is to come first, as far as its kind can."""
        ...

    async def changed(self, most_s: float, /) -> None:
        """Until more of it is here or it ends, or `most_s` have passed."""
        ...

    async def readable(self, executor: Executor, /) -> Sequence[Readable]:
        """All its files, as soon as it is known what it consists of. They read in threads of the `executor`.

        Raises:
            TransportError: it ended before that was known.
        """
        ...


class Stands(Protocol):
    """What the record of a run says."""

    id: str
    state: str


async def end_run(
    task: "asyncio.Task[None] | None",
    record: Stands,
    result: "asyncio.Future[Received]",
    note: str,
    *,
    pause: Callable[[], None] | None,
) -> None:
    """End the run `task` and have its `result` say that; `pause` keeps that it does not go on by itself."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if pause is not None and record.state in (TransferState.RUNNING, TransferState.WAITING):
        pause()
    if not result.done():
        result.set_exception(UsageError(tr("transfer {id} was stopped: {note}", id=record.id, note=note)))
