"""What people look at and do in one live folder: lists, conflicts, versions, undo; and what joining it would do."""

import asyncio
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from coterie.apps.context import Context
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.file_content import content_of, read_kept
from coterie.apps.folders.hints import ALL
from coterie.apps.folders.names import join, key
from coterie.apps.folders.reading import Hashed
from coterie.apps.folders.register import Dot, Kind, Register, Value, copies, unpack, winner
from coterie.apps.folders.results import ConflictLine, EntryLine, EventLine, JoinPlan, VersionLine
from coterie.apps.folders.root import MARKER
from coterie.apps.folders.undoing import Change, Undoing
from coterie.content.versions import Version
from coterie.errors import NotFound, StorageError, UsageError
from coterie.moments import iso
from coterie.texts import tr

EVENTS_SHOWN_MAX = 1_000
KINDS = {Kind.FILE: "file", Kind.FOLDER: "folder", Kind.LINK: "link"}


class Deeds:
    """Of one folder."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self._data = engine.book.data

    # ---- lists

    def entries(self, place: str) -> list[EntryLine]:
        """What is in a folder of it, here or not. Raises NotFound: there is no such folder."""
        rows = dict(sorted(self._data.children(place), key=lambda one: (one[0], one[1] is not None)))
        if place and not rows and self._data.register(place) is None:
            raise NotFound(tr("there is no {place} in {name}", place=place, name=self._engine.name))
        contents = [row[2] for row in rows.values() if row is not None and row[2]]
        here = {content for _, content in self._data.agreed_with(contents)}
        selecting = self._engine.selecting
        lines = []
        for name, row in rows.items():
            path = join(place, name)
            first = winner(unpack(row[3])) if row is not None else None
            if row is None or first is None or row[0] == Kind.GONE:
                if self._data.lives_below(path):  # a folder for what is in it
                    lines.append(EntryLine(path=path, kind="folder", here=True))
                continue
            kind, size, content, _ = row
            lines.append(
                EntryLine(
                    path=path,
                    kind=KINDS[Kind(kind)],
                    size=size,
                    here=kind != Kind.FILE or content in here,
                    state=selecting.state(path, size, is_here=content in here) if kind == Kind.FILE else "",
                    by=self._engine.name_of(first[1].by),
                    changed=iso(first[1].at_ms / 1000),
                )
            )
        return lines

    def conflicts(self) -> list[ConflictLine]:
        """Every version that stands beside another, with that."""
        lines = []
        for path, raw in self._data.in_conflict():
            shown = self._shown(path)
            for number, (dot, value) in enumerate(_versions_of(unpack(raw)), 1):
                lines.append(
                    ConflictLine(
                        folder=self._engine.name,
                        path=path,
                        version=str(number),
                        shown=shown.get(dot, path),
                        by=self._engine.name_of(value.by),
                        size=value.size,
                        changed=iso(value.at_ms / 1000),
                    )
                )
        return lines

    def versions(self, path: str) -> list[VersionLine]:
        """What was replaced or removed here, newest first. In a thread."""
        return [
            VersionLine(
                id=version.id,
                folder=self._engine.name,
                path=local,
                size=version.content_bytes,
                kept=iso(version.at),
                why=version.source or version.why,
            )
            for local, version in reversed(self._kept())
            if not path or local == path or local.startswith(f"{path}/")
        ]

    async def events(self) -> list[EventLine]:
        """What came from others and can be undone, newest first; a folder that was renamed once."""
        changes = await asyncio.to_thread(Undoing(self._data).changes)
        return [self._line(change) for change in changes[:EVENTS_SHOWN_MAX]]

    def _line(self, change: Change) -> EventLine:
        return EventLine(
            id=str(change.event.number),
            folder=self._engine.name,
            path=change.path,
            what=change.what,
            to=change.to,
            by=self._engine.name_of(change.event.by),
            changed=iso(change.event.at),
        )

    # ---- deeds

    async def resolve(self, path: str, version: str) -> None:
        """One of the versions is the file from now on. Raises NotFound, UsageError."""
        raw = self._data.register(path)
        versions = _versions_of(unpack(raw)) if raw is not None else []
        if len(versions) < 2:
            raise NotFound(tr("{path} has no conflict: `coterie folder conflicts` lists them", path=path))
        if not version.isascii() or not version.isdigit() or not 1 <= int(version) <= len(versions):
            raise UsageError(
                tr("{path} has the versions 1 to {last}: say one of them", path=path, last=len(versions))
            )
        await self._write(path, versions[int(version) - 1][1])

    async def restore(self, version: str) -> str:
        """An earlier version is the file again; the path. Raises NotFound, StorageError."""
        kept = await asyncio.to_thread(self._kept)
        found = next(((local, one) for local, one in kept if one.id == version), None)
        if found is None:
            raise NotFound(
                tr("no version '{version}': `coterie folder versions` lists them", version=version)
            )
        local, one = found
        value = await asyncio.to_thread(self._read_version, one)
        path = self._path_of(local)
        await self._write(path, value)
        return path

    async def undo(self, change: str) -> list[EventLine]:
        """A change that came from others is taken back. Raises NotFound."""
        undoing = Undoing(self._data)
        changes = await asyncio.to_thread(undoing.changes)
        found = next((one for one in changes if str(one.event.number) == change), None)
        if found is None:
            raise NotFound(tr("no change '{change}': `coterie folder undo` lists them", change=change))
        if found.moved:
            writes = await asyncio.to_thread(undoing.back, found, *self._engine.stamp())
            await self._engine.rewrite(writes)
            return [self._line(found)]
        first = winner(unpack(found.event.body))
        if first is not None:
            if first[1].kind == Kind.FILE:
                await asyncio.to_thread(self._find_content, found.path, first[1].content)
            await self._write(found.path, first[1])
        return [self._line(found)]

    async def preview(self, name: str, path: Path) -> JoinPlan:
        """What would become of what is at `path`, and of what is in the folder."""
        await self._engine.heard()
        here = await asyncio.to_thread(self._contents_at)
        same = differing = only_there = size = 0
        seen = set()
        for one, raw in self._data.registers_below(""):
            first = winner(unpack(raw))
            if first is None or first[1].kind != Kind.FILE:
                continue
            seen.add(one)
            if one not in here:
                only_there, size = only_there + 1, size + first[1].size
            elif here[one] == first[1].content:
                same += 1
            else:
                differing += 1
        only_here = len(here.keys() - seen)
        return JoinPlan(
            name=name,
            path=str(path),
            same=same,
            differing=differing,
            only_here=only_here,
            only_there=only_there,
            size=size,
        )

    async def _write(self, path: str, value: Value) -> None:
        written = msgspec.structs.replace(
            value, by=bytes(self._context.me.peer_id), at_ms=int(time.time() * 1000)
        )
        await self._engine.write(path, written)

    # ---- in threads

    def _contents_at(self) -> dict[str, bytes]:
        """The contents of all files that are there, by path."""
        disk = self._engine.disk
        found = [
            local for local, here in disk.scan(ALL).found.items() if here and here.print.kind == Kind.FILE
        ]
        return {key(one.local): one.content for one in disk.hash(found) if isinstance(one, Hashed)}

    def _kept(self) -> list[tuple[str, Version]]:
        """What was kept of this folder, oldest first: (local name, version)."""
        top = f"{self._engine.path}{os.sep}"
        found = []
        for version in self._context.blobs.versions.kept():
            original = str(version.original)
            if original.startswith(top) and not original.startswith(f"{top}{MARKER}"):
                found.append((original[len(top) :].replace(os.sep, "/"), version))
        return found

    def _read_version(self, version: Version) -> Value:
        """What a version has in it; the content store knows where its chunks lie from now on."""
        path = self._context.blobs.versions.path_of(version.id)
        try:
            if path.is_symlink():
                return Value(Kind.LINK, target=os.readlink(path))
            status = path.stat()
        except OSError as error:
            raise StorageError(
                tr("{path} cannot be read: {strerror}", path=path, strerror=error.strerror)
            ) from error
        if path.is_dir():
            raise UsageError(
                tr("{path} is a folder: `coterie trash restore` brings it back", path=version.original)
            )
        file = read_kept(path, self._engine.cancel)
        if file is None:
            raise StorageError(tr("{path} cannot be read", path=path))
        self._context.blobs.store.add_locations([file])
        content = content_of(file.chunks)
        self._data.save(contents=[(content, file.chunks)])
        is_executable = bool(status.st_mode & stat.S_IXUSR)
        return Value(Kind.FILE, content, file.size, file.mtime_ns, is_executable)

    def _find_content(self, path: str, content: bytes) -> None:
        """Look for a content among the versions, so that it need not come from elsewhere."""
        locals_ = {path, *(local for local, _ in self._data.agreed_at([path]))}
        for local, version in reversed(self._kept()):
            if local in locals_ and version.kind == "file" and self._read_version(version).content == content:
                return

    # ---- names

    def _shown(self, path: str) -> dict[Dot, str]:
        """Under which local name each version of a path is shown."""
        return {dot: local for local, agreed in self._engine.book.agreed_at(path) for dot in agreed.dots}

    def _path_of(self, local: str) -> str:
        agreed = self._engine.book.agreed(local)
        return agreed.path if agreed is not None else key(local)


def _versions_of(register: Register) -> Sequence[tuple[Dot, Value]]:
    first = winner(register)
    return [first, *copies(register)] if first is not None else []
