"""Commands that do one thing each that a face must be able to render."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from coterie.apps.command import Choice, Here, Progress, Secret, command
from coterie.errors import CoterieError, NotFound

if TYPE_CHECKING:
    from coterie_fake.service import FakeService


class Echo(msgspec.Struct):
    path: Path
    name: str
    count: int
    colour: str
    loud: bool
    tags: list[str]


class Greeting(msgspec.Struct):
    to: str

    def text(self) -> str:
        return f"Hello, {self.to}!"


class Part(msgspec.Struct):
    missing: list[str]

    def is_incomplete(self) -> bool:
        return bool(self.missing)


class Row(msgspec.Struct):
    id: int
    name: str
    size: int
    done: bool


class Note(msgspec.Struct):
    about: str


class Exists(CoterieError):
    code = "exists"


@command("path")
async def echo(
    fake: "FakeService",
    path: Path,
    *,
    name: str = "",
    count: int = 1,
    colour: Literal["red", "green"] = "red",
    loud: bool = False,
    tags: list[str] | None = None,
    limit: float | None = None,
) -> Echo:
    """Say back what was given.

    A second sentence of details.

    path: Any path.
    name: Any name.
    """
    return Echo(path, name, count, colour, loud, tags or [])


@command("to")
def greet(fake: "FakeService", to: str) -> Greeting:
    """Say hello."""
    return Greeting(to)


@command("ticket")
def unlock(
    fake: "FakeService", ticket: Secret, *, code: Secret | None = None, here: Here | None = None
) -> Greeting:
    """Open something.

    ticket: What opens it.
    """
    return Greeting(f"{ticket} {code or ''}".strip())


@command("text", path="where")
def where(fake: "FakeService", text: str, *, here: Here | None = None) -> Greeting:
    """Say what was typed, and where.

    text: Anything, perhaps a path.
    """
    return Greeting(f"{text} in {here}")


@command("missing")
async def fetch(fake: "FakeService", missing: list[str] = []) -> Part:  # noqa: B006  (never changed)
    """Fetch all but what is `missing`."""
    return Part(missing)


@command()
async def rows(fake: "FakeService") -> list[Row]:
    """List rows."""
    return [Row(1, "one", 1_500_000, True), Row(20, "evil\x1b[31m", 7, False)]


@command("id", path="rows pause")
async def pause(fake: "FakeService", id: int) -> None:
    """Pause one row."""
    fake.paused.append(id)


@command(interrupt_text="what arrived is kept; run it again to go on")
async def count(
    fake: "FakeService", *, to: int = 3, pause_s: float = 0.0
) -> AsyncIterator[Progress | Note | Greeting]:
    """Count with progress."""
    fake.started.append("count")
    try:
        yield Note("starting")
        for done in range(to + 1):
            yield Progress(phase="counting", done=done, total=to, unit="files", rate=2.0, eta_s=1.0)
            await asyncio.sleep(pause_s)
        yield Note("done")
        yield Greeting("all")
    except BaseException:
        fake.cancelled.append("count")
        raise


@command()
async def hang(fake: "FakeService") -> None:
    """Never return."""
    fake.started.append("hang")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        fake.cancelled.append("hang")
        raise


@command(interrupt_text="it was stubborn")
async def stubborn(fake: "FakeService") -> None:
    """Neither return nor let itself be cancelled."""
    fake.started.append("stubborn")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@command("how")
async def fail(fake: "FakeService", how: Literal["not-found", "late", "bug"]) -> AsyncIterator[Note]:
    """Fail in one way or another."""
    if how == "late":
        yield Note("first")
    if how == "bug":
        raise ZeroDivisionError("secret detail")
    raise NotFound("no such thing: x; try y")


@command(
    "name",
    asks={
        "exists": (
            Choice("o", "overwrite", {"overwrite": True}),
            Choice("k", "keep both", {"keep_both": True}),
        )
    },
)
async def put(
    fake: "FakeService", name: str, *, overwrite: bool = False, keep_both: bool = False
) -> Greeting:
    """Put something where something is."""
    if not overwrite and not keep_both:
        raise Exists(f"{name} exists already; use --overwrite or --keep-both")
    return Greeting("overwritten" if overwrite else "both kept")


@command("name", stays=True)
async def offer(fake: "FakeService", name: str) -> Greeting:
    """Offer something to others."""
    return Greeting(name)


@command(needs="store")
async def local(fake: "FakeService") -> Note:
    """What needs no network."""
    return Note(f"pid {fake.pid}")
