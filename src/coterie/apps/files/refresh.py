"""Brings everything that was got up to date, one after the other: each from its giver, in its present version."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from coterie.apps.command import Progress
from coterie.errors import CoterieError, NotFound
from coterie.texts import tr
from coterie.transfer.got import Got, GotBook
from coterie.transfer.results import Received

Report = Callable[[Progress], None]


class Refreshed(msgspec.Struct, frozen=True):
    """What became of one thing that was got: `received`, or the `problem` that stood in the way."""

    path: str
    received: Received | None = None
    problem: str = ""

    def is_incomplete(self) -> bool:
        """Whether something is not up to date."""
        return self.received is None or self.received.is_incomplete()

    def text(self) -> str:
        """For people."""
        return self.received.text() if self.received is not None else f"{self.path}: {self.problem}"


Fetch = Callable[[Got], Awaitable[Received]]


async def refresh(book: GotBook, place: str, fetch: Fetch) -> list[Refreshed]:
    """Bring up to date what `place` names (empty: everything). One that fails does not stop the others.

    Raises:
        NotFound: nothing of that name was got.
    """
    chosen = [got for got in await asyncio.to_thread(book.all) if is_named(got, place)]
    if place and not chosen:
        raise NotFound(
            tr(
                "nothing was got as '{place}': `coterie refresh` brings up to date all that was got",
                place=place,
            )
        )
    return [await _one(book, got, fetch) for got in chosen]


def is_named(got: Got, place: str) -> bool:
    """Whether `place` means it: its path or the end of that, or the end of the place that it was got from."""
    wanted = os.path.normpath(place) if place else ""
    names: Sequence[str] = (got.target, f"/{got.place}" if got.place else "")
    theirs = wanted.partition("/")[2]
    return (
        not wanted
        or any(name == wanted or name.endswith(f"/{wanted}") for name in names)
        or (bool(theirs) and theirs == got.place)
    )


async def _one(book: GotBook, got: Got, fetch: Fetch) -> Refreshed:
    target = Path(got.target)
    if not await asyncio.to_thread(os.path.lexists, target):
        if not target.parent.is_dir():
            return Refreshed(got.target, problem=f"{target.parent} is not there now")
        await asyncio.to_thread(book.forget, got.id)
        return Refreshed(
            got.target, problem="is not there any more, so it is refreshed no more; get it again"
        )
    try:
        return Refreshed(got.target, await fetch(got))
    except CoterieError as error:
        return Refreshed(got.target, problem=str(error))
