"""One live folder as it is seen whole: as it lies on the disk, and in between what is not here. Blocking.

Names are those of this disk. What is not here has the name that the disk would give it.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

import msgspec

from coterie.apps.folders import names
from coterie.apps.folders.api import LiveEntry
from coterie.apps.folders.away import Wanted
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.records import unpack_agreed
from coterie.apps.folders.register import NOTHING, Kind, Value, copies, unpack, winner
from coterie.content import no_links
from coterie.content.file_steps import move_new
from coterie.content.names import is_reserved, name_fault
from coterie.errors import NotFound, StorageError, UsageError
from coterie.texts import tr
from coterie.transfer.open_file import OwnFile

WHY_REMOVED = "removed over a drive"

Writes = list[tuple[str, Value, Value | None]]
"""See `FolderBook.rewrite`."""


class LiveTree:
    """Of one folder; made for a look or two. For any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._book = engine.book
        self._data = engine.book.data

    def path_of(self, local: str) -> str:
        """The path whose register a name on this disk is, or would be, of."""
        agreed = self._book.agreed(local) if local else None
        if agreed is not None:
            return agreed.path
        folder = names.parent(local)
        return names.join(self.path_of(folder) if folder else "", names.key(names.leaf(local)))

    # ---- looking

    def listing(self, local: str) -> tuple[LiveEntry, ...]:
        """What is in a folder. Raises NotFound, StorageError."""
        found = self._on_disk(local)
        path = self.path_of(local)
        away = dict(self._away_in(path))
        if found is None:
            if self._data.agreed_at([path]) or not (away or self._is_folder(path)):
                raise _nothing(local)
            found = {}
        both = {**{entry.name: entry for entry, _ in away.values()}, **found}
        return tuple(both[name] for name in sorted(both))

    def look(self, local: str) -> LiveEntry:
        """What is at a name. Raises NotFound, StorageError."""
        if not local:
            return LiveEntry("", "folder")
        status = self._status(local)
        if status is not None:
            return _of(names.leaf(local), status)
        path = self.path_of(local)
        found = self._away_at(path, names.leaf(local))
        if found is None:
            raise _nothing(local)
        return found[0]

    def open(self, local: str, executor: Executor) -> OwnFile | Wanted:
        """A file that is here, or which content it would be. Raises NotFound, StorageError."""
        if self._status(local) is not None:
            with contextlib.suppress(NotFound):
                return OwnFile(self._at(local), executor)
        found = self._away_at(self.path_of(local), names.leaf(local))
        if found is None or found[0].kind != "file":
            raise _nothing(local)
        entry, value = found
        return Wanted(entry.name, value.content, value.size, value.mtime_ns)

    # ---- changing

    def removal(self, local: str) -> Writes:
        """Make a version of what is here of it; what is to be written for what is not.

        Raises:
            NotFound: nothing is there. StorageError: the disk.
        """
        entry = self.look(local)
        path = self.path_of(local)
        writes: Writes = [(one, Value(Kind.GONE), value) for one, value in self._away_below(path, entry)]
        target = self._at(local)
        if self._status(local) is not None:
            with no_links.held(target.parent) as folder:
                self._engine.versions.keep(folder / target.name, WHY_REMOVED, original=target)
        return self._signed(writes)

    def away(self, local: str) -> list[tuple[str, bytes]]:
        """(path, content) of the files at and below a name that are not on this disk. Errors as `look`."""
        found = self._away_below(self.path_of(local), self.look(local))
        return [(path, value.content) for path, value in found if value.content]

    def moving(self, local: str, to: str) -> Writes:
        """Rename what is here of it; what is to be written for what is not.

        Raises:
            NotFound: it is not there, or no folder for it. UsageError: something is at `to`, or it cannot be called so.
            StorageError: the disk.
        """
        entry = self.look(local)
        path, wanted = self.path_of(local), self.path_of(to)
        if fault := names.path_fault(wanted):
            raise UsageError(tr("{name!r} cannot be a name: it {fault}", name=to[-100:], fault=fault))
        if self._status(to) is not None or self._away_at(wanted, names.leaf(to)) is not None:
            raise UsageError(tr("{name} is there already", name=names.leaf(to)))
        if f"{to}/".startswith(f"{local}/"):
            raise UsageError(tr("{name} cannot be moved into itself", name=local))
        if self.look(names.parent(to)).kind != "folder":
            raise NotFound(tr("a file is no folder"))
        below = list(self._away_below(path, entry))
        if self._status(local) is not None:
            source, target = self._at(local), self._at(to)
            with no_links.held(source.parent) as folder, no_links.held(target.parent) as other:
                if not move_new(folder / source.name, other / target.name):
                    raise UsageError(tr("{name} is there already", name=names.leaf(to)))
        writes: Writes = []
        for one, value in below:
            new = wanted + one[len(path) :] if one.startswith(f"{path}/") else wanted
            writes += [(new, value, None), (one, Value(Kind.GONE), value)]
        return self._signed(writes)

    # ---- what is here

    def _at(self, local: str) -> Path:
        """Where a name lies. Raises NotFound: no name of a live folder."""
        parts = local.split("/") if local else []
        if any(map(name_fault, parts)) or any(map(is_reserved, parts)):
            raise _nothing(local)
        return self._engine.path.joinpath(*parts)

    def _status(self, local: str) -> os.stat_result | None:
        try:
            status = no_links.status(self._at(local))
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None

    def _on_disk(self, local: str) -> dict[str, LiveEntry] | None:
        """What lies in a folder; None: there is no folder."""
        found: dict[str, LiveEntry] = {}
        place = self._at(local)
        try:
            with no_links.entries(str(place)) as (entries, _):
                for entry in entries:
                    if is_reserved(entry.name):
                        continue
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                            found[entry.name] = _of(entry.name, status)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(
                tr("cannot read {place}: {strerror}", place=place, strerror=error.strerror)
            ) from None
        return found

    # ---- what is not

    def _away_in(self, path: str) -> Iterator[tuple[str, tuple[LiveEntry, Value]]]:
        """What is in a folder and not on this disk, by name: as an entry, and its value."""
        rows = list(self._data.children(path))
        paths = [names.join(path, name) for name, _ in rows]
        shown = {unpack_agreed(raw).path for _, raw in self._data.agreed_at(paths)}
        seen: set[str] = set()
        for name, row in rows:
            one = names.join(path, name)
            if one in shown:  # it is here, or was a moment ago
                continue
            if row is not None and row[0] == Kind.FILE:
                if not self._engine.leaving_out.ignored(one, False):
                    yield from self._entries_of(one, row[3])
            elif name not in seen:
                seen.add(name)
                is_written = row is not None and row[0] == Kind.FOLDER
                if (is_written or self._data.lives_below(one)) and not self._engine.leaving_out.ignored(
                    one, True
                ):
                    yield name, (LiveEntry(name, "folder", is_here=False), Value(Kind.FOLDER))

    def _entries_of(self, path: str, raw: bytes) -> Iterator[tuple[str, tuple[LiveEntry, Value]]]:
        """A file and its copies, none of which is here, by name."""
        register = unpack(raw)
        first = winner(register)
        if first is None:
            return
        values = [(names.leaf(path), first[1])]
        for _, value in copies(register):
            values.append(
                (names.copy_name(names.leaf(path), self._engine.name_of(value.by), value.at_ms), value)
            )
        for name, value in values:
            if value.kind == Kind.FILE:
                yield (
                    name,
                    (LiveEntry(name, "file", value.size, value.mtime_ns, False, value.content), value),
                )

    def _away_at(self, path: str, name: str) -> tuple[LiveEntry, Value] | None:
        """What is called `name`, has this path, and is not on this disk; a copy by its own name."""
        if self._data.agreed_at([path]):  # it was here a moment ago
            return None
        raw = self._data.register(path)
        first = winner(unpack(raw)) if raw is not None else None
        if first is not None and first[1].kind == Kind.FILE:
            return dict(self._entries_of(path, raw or b"")).get(names.leaf(path))
        if self._is_folder(path):
            return LiveEntry(name, "folder", is_here=False), Value(Kind.FOLDER)
        original = names.original_of_copy(name)
        beside = names.join(names.parent(path), original)
        raw = self._data.register(beside) if original else None
        if raw is None or self._data.agreed_at([beside]):
            return None
        return dict(self._entries_of(beside, raw)).get(name)

    def _is_folder(self, path: str) -> bool:
        """Whether it is one to everybody."""
        raw = self._data.register(path)
        first = winner(unpack(raw)) if raw is not None else None
        if first is not None and first[1].kind == Kind.FOLDER:
            return True
        return self._data.lives_below(path)

    def _away_below(self, path: str, entry: LiveEntry) -> Iterator[tuple[str, Value]]:
        """(path, value) of all at and below a path that is not on this disk, and lives."""
        rows: Sequence[tuple[str, bytes]]
        if entry.kind == "file":
            if entry.is_here:
                return
            original = names.original_of_copy(names.leaf(path))
            found = self._away_at(path, names.leaf(path))
            if found is not None:
                is_copy = self._data.register(path) is None and bool(original)
                yield (names.join(names.parent(path), original) if is_copy else path), found[1]
            return
        rows = list(self._data.registers_below(path))
        raw = self._data.register(path)
        if raw is not None:
            rows = [(path, raw), *rows]
        shown = {unpack_agreed(raw).path for _, raw in self._data.agreed_at([one for one, _ in rows])}
        for one, raw in rows:
            if one not in shown:
                register = unpack(raw) if raw is not None else NOTHING
                first = winner(register)
                for _, value in [*([first] if first is not None else []), *copies(register)]:
                    if value.kind != Kind.GONE:
                        yield one, value

    def _signed(self, writes: Writes) -> Writes:
        """The writes as those of this computer, now."""
        by, at_ms = self._engine.stamp()
        return [(path, msgspec.structs.replace(new, by=by, at_ms=at_ms), old) for path, new, old in writes]


def _of(name: str, status: os.stat_result) -> LiveEntry:
    if stat.S_ISDIR(status.st_mode):
        return LiveEntry(name, "folder", 0, status.st_mtime_ns)
    return LiveEntry(name, "file", status.st_size, status.st_mtime_ns)


def _nothing(local: str) -> NotFound:
    return NotFound(tr("there is no {path}", path=local))
