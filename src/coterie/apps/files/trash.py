"""What arrivals replaced or took away: listed, had back, deleted for good, and expired by itself."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from coterie.content.retention import KEPT_S
from coterie.content.versions import Version, Versions
from coterie.moments import iso, said
from coterie.quantity import count, say_bytes
from coterie.texts import tr

EXPIRE_EVERY_S = 6 * 3600.0  # guess: nothing is kept much longer than its time


class TrashLine(msgspec.Struct, frozen=True):
    """One version in the trash: `size` in bytes; `until` when it can be had back, ISO 8601."""

    id: str
    path: str
    kind: str
    size: int
    since: str
    until: str
    why: str
    source: str

    @classmethod
    def of(cls, version: Version) -> "TrashLine":
        """For one version."""
        path = str(version.original) if version.path else "?"
        since, until = iso(version.at), iso(version.at + KEPT_S)
        return cls(
            version.id, path, version.kind, version.content_bytes, since, until, version.why, version.source
        )

    def text(self) -> str:
        """For people."""
        whence = f" ({self.source})" if self.source else ""
        when = tr(
            "{size}, {since}, deleted {until}",
            size=say_bytes(self.size),
            since=said(self.since),
            until=said(self.until),
        )
        return f"{self.id}  {self.path}\n    {when}: {self.why}{whence}"


class Restored(msgspec.Struct, frozen=True):
    """A version that is back, at `path`."""

    id: str
    path: str

    def text(self) -> str:
        """For people."""
        return tr("Restored: {path}", path=self.path)


class Emptied(msgspec.Struct, frozen=True):
    """How much was deleted for good; `size` in bytes."""

    versions: int
    size: int

    def text(self) -> str:
        """For people."""
        return tr(
            "Deleted for good: {versions}, {size}",
            versions=count(self.versions, "version"),
            size=say_bytes(self.size),
        )


class Trash:
    """The commands about what is kept. Belongs to the event loop; the disk is touched in threads."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def lines(self) -> list[TrashLine]:
        """Everything that can be had back, oldest first."""
        return [TrashLine.of(version) for version in await asyncio.to_thread(self._versions.kept)]

    async def restore(self, version: str, to: Path | None = None) -> Restored:
        """Put one back where it lay, or at `to`; beside what is there by now. Errors as `Versions.restore`."""
        return Restored(version, str(await asyncio.to_thread(self._versions.restore, version, to)))

    async def empty(self, versions: Sequence[str] = ()) -> Emptied:
        """Delete these for good, or all. Errors as `Versions.empty`."""
        return Emptied(*await asyncio.to_thread(self._versions.empty, list(versions) or None))

    async def expire(self) -> None:
        """Delete what has been kept for its time, now and again."""
        while True:
            await asyncio.to_thread(self._versions.expire)
            await asyncio.sleep(EXPIRE_EVERY_S)
