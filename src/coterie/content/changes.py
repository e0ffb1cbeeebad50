"""What changed on the disk since a file or folder was shared: its manifests beside what is there. No file is read."""

import os
import stat
from collections.abc import Callable, Collection

import msgspec

from coterie.content import manifest as m
from coterie.content.listing import entries_of
from coterie.content.scan import FoundFile, FoundFolder, date_of, found_file, scan
from coterie.content.store import Store

NAMES_MAX = 100  # of each kind; more are counted only

Check = Callable[[], None]


class Changes(msgspec.Struct):
    """How many files and links were added, changed or are gone; the first names of each, below what was shared."""

    added: int = 0
    changed: int = 0
    gone: int = 0
    added_names: list[str] = []
    changed_names: list[str] = []
    gone_names: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.gone)

    def text(self) -> str:
        """For people: "2 added, 1 gone"."""
        counts = ((self.added, "added"), (self.changed, "changed"), (self.gone, "gone"))
        return ", ".join(f"{number:,} {what}" for number, what in counts if number)

    def add(self, name: str, count: int = 1) -> None:
        """`name`, a folder with `count` files where it is one, is there now."""
        self.added += count
        _note(self.added_names, name)

    def change(self, name: str) -> None:
        """`name` is not as it was."""
        self.changed += 1
        _note(self.changed_names, name)

    def lose(self, name: str, count: int = 1) -> None:
        """`name`, a folder with `count` files where it is one, is there no more."""
        self.gone += count
        _note(self.gone_names, name)


def changes_since(store: Store, root: bytes, shared: m.FileEntry | None, path: str, check: Check) -> Changes:
    """What is other at `path` than in the content `root`. `shared`: how the file was, where it is a single one.

    Blocks: a walk over the folder. `check` is called often; it may raise. A change that kept size and date of a file
    shows only if somebody fetched it since.

    Raises:
        NotFound: its manifests are not here.
    """
    changes, real = Changes(), os.path.realpath(path)
    noticed = {str(file) for file in store.changed_files(root)}
    name = os.path.basename(real)
    try:
        status = os.stat(real)
    except OSError:
        changes.lose(name, 1 if shared else _files_in(store, root))
        return changes
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder and shared is None:
        tops = scan(real, date_of(status), frozenset([os.path.realpath(store.path.parent)]), _ignore, check)
        _Walk(store, changes, noticed, check).compare(tops[0], root)
    elif is_folder or shared is None:
        changes.lose(name, 1 if shared else _files_in(store, root))
        changes.add(name)
    elif _differs(found_file(real, status), shared) or real in noticed:
        changes.change(name)
    return changes


class _Walk:
    def __init__(self, store: Store, changes: Changes, noticed: Collection[str], check: Check) -> None:
        self._store = store
        self._changes = changes
        self._noticed = noticed
        self._check = check

    def compare(self, top: FoundFolder, tree: bytes) -> None:
        """Note what is other in `top`, and below, than in the `tree`."""
        waiting = [(top, tree, "")]
        while waiting:
            folder, tree, above = waiting.pop()
            self._check()
            known = {entry.name: entry for entry in entries_of(tree, self._store.manifest)}
            for file in folder.files:
                self._file(file, known, above + file.name)
            for link in folder.links:
                if known.get(link.name) != link:
                    self._other(known.pop(link.name, None), m.LinkEntry, above + link.name)
                known.pop(link.name, None)
            for inner in folder.folders:
                name = f"{above}{inner.name}/"
                match known.get(inner.name):
                    case m.DirectoryEntry(tree=below):
                        del known[inner.name]
                        waiting.append((inner, below, name))
                    case _:
                        self._changes.add(name, _count(inner))
            for entry in known.values():
                self._lose(entry, above + entry.name)

    def _file(self, file: FoundFile, known: dict[str, m.Entry], name: str) -> None:
        before = known.get(file.name)
        is_file = isinstance(before, m.FileEntry)
        if not is_file and not os.access(file.path, os.R_OK):
            return  # it cannot be shared
        if before is None or (is_file and not _differs(file, before) and file.path not in self._noticed):
            if before is None:
                self._changes.add(name)
        else:
            self._other(before, m.FileEntry, name)
        known.pop(file.name, None)

    def _other(self, before: m.Entry | None, kind: type[m.Entry], name: str) -> None:
        """Something is there now in place of what was `before`."""
        if isinstance(before, kind):
            self._changes.change(name)
            return
        if before is not None:
            self._lose(before, name)
        self._changes.add(name)

    def _lose(self, entry: m.Entry, name: str) -> None:
        if isinstance(entry, m.DirectoryEntry):
            self._changes.lose(f"{name}/", max(1, entry.files))
        else:
            self._changes.lose(name)


def _differs(file: FoundFile, before: m.Entry) -> bool:
    now = (file.size, file.mtime_ns, file.executable)
    return not isinstance(before, m.FileEntry) or now != (before.size, before.mtime_ns, before.executable)


def _files_in(store: Store, root: bytes) -> int:
    data = store.manifest(root)
    return m.totals(m.decode(data))[0] if data is not None else 0


def _count(folder: FoundFolder) -> int:
    """Files and links in a folder and below; 1 where there are none."""
    total, waiting = 0, [folder]
    while waiting:
        inner = waiting.pop()
        total += len(inner.files) + len(inner.links)
        waiting += inner.folders
    return max(1, total)


def _note(names: list[str], name: str) -> None:
    if len(names) < NAMES_MAX:
        names.append(name)


def _ignore(_: object) -> None:
    """What cannot be shared is told when it is."""
