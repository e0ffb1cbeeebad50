"""Looks at a live folder: what differs from the last look. Reads names and dates only, never contents.

What is below an unreadable folder or a mount point is not looked at, and counts as unchanged. A file that is being
written, or was a moment ago, is to be looked at again. What cannot be shared (pipes, sockets, devices, links that lead
out) is reported as OTHER: it has its name, and is left alone.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable
from unicodedata import normalize

import msgspec

from coterie.apps.folders import rows as table
from coterie.apps.folders.facts import DiskFacts
from coterie.apps.folders.hints import Hints, parent
from coterie.apps.folders.in_use import JOURNAL_AGAIN_S, has_journal, wait_s
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import Root, is_marked
from coterie.apps.folders.rows import Rows, is_file, is_folder
from coterie.apps.folders.steps import Here, Print
from coterie.content.manifest import DEPTH_MAX
from coterie.content.names import is_reserved, name_fault, symlink_allowed
from coterie.content.scan import Skipped, unreadable
from coterie.content.seen import FILE, LINK, PROGRAM, STAMP, clamped
from coterie.texts import tr

RENAMED_MAX = 64  # folders that are known again as a whole in one look; guess
SKIPPED_MAX = 10_000  # said one by one
INODE_MASK = (1 << 63) - 1  # what of an inode a stamp keeps
WINDOWS = os.name == "nt"
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Scan(msgspec.Struct):
    """What a look found that the last look had not.

    Fields:
        found: by local name; None: it is gone. Contents of files are not known yet, but see `moved`.
        folders: a folder here is the one that was there at the last look, and all in it looks as it did. Of both
            nothing is in `found`.
        moved: a file here is the one that was there at the last look, by inode, size and date: its content is known.
        again: files to look at again after so many seconds; they are not in `found`.
        skipped: what cannot be read or shared, and why.
    """

    found: dict[str, Here | None] = msgspec.field(default_factory=dict)
    folders: dict[str, str] = msgspec.field(default_factory=dict)
    moved: dict[str, str] = msgspec.field(default_factory=dict)
    again: dict[str, float] = msgspec.field(default_factory=dict)
    skipped: list[Skipped] = msgspec.field(default_factory=list)


class Look:
    """One look at a folder. `seen`: how its folders looked last, by local name; it is brought up to date."""

    def __init__(self, root: Root, seen: dict[str, Rows], now_ns: int, facts: DiskFacts) -> None:
        self._root = root
        self._seen = seen
        self._now_ns = now_ns
        self._bit = stat.S_IXUSR if facts.bits else 0
        self._inode_mask = INODE_MASK if facts.inodes else 0
        self._composes = facts.names.folds_unicode
        self._unlisted: list[str] = []  # folders that are new
        self._left: dict[
            bytes, str
        ] = {}  # what was seen last where it is no more: where, by inode, size and date
        self.scan = Scan()

    def at(self, hints: Hints) -> Scan:
        """Look where the hints say."""
        if hints.trees and hints.paths and self._inode_mask and not self._composes:
            hints = self._renamed(hints)
        for folder in hints.trees:
            self._folder(folder, deep=True)
        for folder in hints.folders:
            self._folder(folder, deep=False)
        for path in hints.paths:
            self._path(path)
        self._match()
        return self.scan

    # -- folders that were renamed --

    def _renamed(self, hints: Hints) -> Hints:
        """Know folders again that are elsewhere, with all in them as it was; the hints without those."""
        new = {
            stamp: one
            for one in sorted(hints.trees)[:RENAMED_MAX]
            if one and one not in self._seen and parent(one) in self._seen
            if is_folder(stamp := self._stamp_at(one))
        }
        if not new:
            return hints
        for one in sorted(hints.paths):
            to = new.get(self._known(one)) if one in self._seen else None
            if to is not None and not to.startswith(f"{one}/") and self._is_as_it_was(one, to):
                self._rename(one, to)
        over = {one for move in self.scan.folders.items() for one in move}
        starts = tuple(f"{one}/" for one in over)

        def left(names: Iterable[str]) -> frozenset[str]:
            return frozenset(one for one in names if one not in over and not one.startswith(starts))

        return Hints(left(hints.paths), left(hints.folders), left(hints.trees)) if over else hints

    def _stamp_at(self, path: str) -> bytes | None:
        try:
            status = self._root.status(path)
        except OSError:
            return None
        return None if status is None else self._stamp(status)

    def _known(self, path: str) -> bytes | None:
        """The stamp by which a name was seen last."""
        rows = self._seen.get(parent(path))
        return None if rows is None else rows.get(_name(path))

    def _is_as_it_was(self, one: str, to: str) -> bool:
        """Whether `to` has what was seen at `one` and below, all of it plain files and folders."""
        if self._stamp_at(one) == self._known(one):
            return False
        for folder, rows in self._below(one):
            place = to + folder[len(one) :]
            try:
                with self._root.entries(place) as entries:
                    now = Rows(*self._listed(place, entries))
            except OSError:
                return False
            is_plain = all(is_file(stamp) or is_folder(stamp) for _, stamp in now.items())
            if not is_plain or place.count("/") + 1 > DEPTH_MAX or not rows.has_same(now):
                return False
        return True

    def _below(self, folder: str) -> list[tuple[str, Rows]]:
        return [one for one in self._seen.items() if one[0] == folder or one[0].startswith(f"{folder}/")]

    def _rename(self, one: str, to: str) -> None:
        stamp = self._known(one)
        self._root.let_go(one)
        for folder, rows in self._below(one):
            del self._seen[folder]
            self._seen[to + folder[len(one) :]] = rows
        for path, now in ((one, None), (to, stamp)):
            self._seen[parent(path)] = self._seen[parent(path)].with_entry(_name(path), now)
        self.scan.folders[to] = one

    # -- one name --

    def _path(self, path: str) -> None:
        """Look at one name, if the folder that it is in is known; else at that folder."""
        if not path or any(is_reserved(part) for part in path.split("/")):
            return
        folder = parent(path)
        rows = self._seen.get(folder)
        if rows is None:
            if folder:
                self._path(folder)
            else:
                self._folder("", deep=True)
            return
        name = _name(path)
        try:
            status = self._root.status(path)
        except OSError as error:
            if error.errno in _GONE and folder:
                self._path(folder)
            else:
                self._skip(path, unreadable(error))
            return
        before = rows.get(name)
        after = None if status is None else self._stamp(status)
        if before != after:
            after = self._entry(path, before, after)
            self._seen[folder] = rows.with_entry(name, after)
            self._list_new()

    def _stamp(self, status: os.stat_result) -> bytes:
        return stamp_of(status, self._root.device, self._inode_mask, self._bit)

    # -- folders --

    def _folder(self, top: str, *, deep: bool) -> None:
        """List a folder; `deep`: and all below. What is new in it is listed in any case."""
        if top and top not in self._seen:
            self._path(top)
            return
        waiting = [(top, deep)]
        while waiting:
            folder, deep = waiting.pop()
            try:
                with self._root.entries(folder) as entries:
                    names, stamps = self._listed(folder, entries)
            except OSError as error:
                if error.errno in _GONE and folder:
                    self._path(folder)
                else:
                    self._skip(folder, unreadable(error))
                continue
            self._compare(folder, names, stamps)
            new, self._unlisted = self._unlisted, []
            waiting += [(one, True) for one in new]
            if deep:
                kinds = (stamp[0] for stamp in stamps)
                known = [
                    table.join(folder, name)
                    for name, kind in zip(names, kinds, strict=True)
                    if kind == table.FOLDER
                ]
                waiting += [(one, True) for one in known if one in self._seen and one not in new]

    def _list_new(self) -> None:
        new, self._unlisted = self._unlisted, []
        for folder in new:
            self._folder(folder, deep=True)

    def _listed(self, folder: str, entries: Iterable[os.DirEntry[str]]) -> tuple[list[bytes], list[bytes]]:
        """Names and stamps of all entries that are not our own. Most of the time of a look passes here."""
        mask, bit, pack, is_regular = self._inode_mask, self._bit, STAMP.pack, stat.S_ISREG
        names: list[bytes] = []
        stamps: list[bytes] = []
        for entry in entries:
            name = entry.name
            if name[0] == "." and is_reserved(name):
                continue
            if not name.isascii() and self._is_odd(folder, name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            mode = status.st_mode
            if is_regular(mode):
                kind = PROGRAM if mode & bit else FILE
                inode = status.st_ino & mask
                try:
                    stamps.append(pack(kind, inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                except struct.error:  # a date after 2262
                    stamps.append(self._stamp(status))
            else:
                stamps.append(self._stamp(status))
            names.append(os.fsencode(normalize("NFC", name) if self._composes else name))
        return names, stamps

    def _is_odd(self, folder: str, name: str) -> bool:
        """Whether it is our own, or has a name that no other computer could have."""
        fault = name_fault(name)
        if fault:
            self._skip(f"{folder}/{name}" if folder else name, tr("its name {fault}", fault=fault))
        return fault is not None or is_reserved(name)

    def _compare(self, folder: str, names: list[bytes], stamps: list[bytes]) -> None:
        """Report what differs in a folder."""
        before, after = self._seen.get(folder), Rows(names, stamps)
        if before is not None and before.looks_as(after):
            return
        old, new = dict(before.items() if before is not None else ()), dict(zip(names, stamps, strict=True))
        for name, stamp in old.items():
            if name not in new:
                self._entry(table.join(folder, name), stamp, None)
        for name, stamp in list(new.items()):
            was = old.get(name)
            if was != stamp:
                kept = self._entry(table.join(folder, name), was, stamp)
                if kept is None:
                    del new[name]
                else:
                    new[name] = kept
        self._seen[folder] = Rows(new.keys(), new.values())

    # -- what is found --

    def _entry(self, path: str, before: bytes | None, after: bytes | None) -> bytes | None:
        """Report one entry that looks otherwise; the stamp by which it is to be known."""
        if after is None:
            self._leave(path, before)
            if before is not None:
                self.scan.found[path] = None
            return None
        if is_file(after):
            seen = table.print_of(after)
            if wait := wait_s(lambda: self._root.at(path), seen.mtime_ns, seen.ctime_ns, self._now_ns):
                self.scan.again[path] = wait
                return before
            if has_journal(lambda: self._root.at(path), seen.size):
                self.scan.again[path] = JOURNAL_AGAIN_S
                return before
            self._leave(path, before)
            self.scan.found[path] = Here(seen)
            return after
        if is_folder(after):
            return self._new_folder(path, before, after)
        if is_folder(before) and after[0] == table.OTHER and self._is_mount(path):
            self._skip(path, tr("another disk is mounted there"))  # what it hides is as it was
            return before
        self._leave(path, before)
        self.scan.found[path] = Here(self._link(path, after) if after[0] == LINK else table.print_of(after))
        return after

    def _new_folder(self, path: str, before: bytes | None, after: bytes) -> bytes | None:
        if path.count("/") + 1 > DEPTH_MAX:
            self._skip(path, tr("it lies more than {depth_max} folders deep", depth_max=DEPTH_MAX))
            return before
        if is_marked(self._root, path):
            self._skip(path, tr("it is a live folder of its own"))
            after = bytes([table.OTHER]) + after[1:]
            self._leave(path, before)
            self.scan.found[path] = Here(table.print_of(after))
            return after
        if is_file(before):
            self._leave(path, before)
        self.scan.found[path] = Here(table.print_of(after))
        self._seen.setdefault(path, Rows())
        self._unlisted.append(path)
        return after

    def _link(self, path: str, stamp: bytes) -> Print:
        try:
            target = os.readlink(self._root.at(path))
        except OSError:
            target = ""
        if symlink_allowed(target, path.count("/"), windows=WINDOWS):
            return table.print_of(stamp, target)
        self._skip(path, tr("a symbolic link that may lead out of the folder: {target!r}", target=target))
        return table.print_of(bytes([table.OTHER]) + stamp[1:])

    def _is_mount(self, path: str) -> bool:
        status = self._root.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def _leave(self, path: str, before: bytes | None) -> None:
        """What was at `path` is not there any more; nor what was in it."""
        if is_file(before) and before is not None:
            self._left[table.copied(before)] = path
        if not is_folder(before) and path not in self._seen:
            return
        self._root.let_go(path)
        for folder in [one for one in self._seen if one == path or one.startswith(path + "/")]:
            for name, stamp in self._seen.pop(folder).items():
                inner = table.join(folder, name)
                if is_file(stamp):
                    self._left[table.copied(stamp)] = inner
                self.scan.found.setdefault(inner, None)

    def _match(self) -> None:
        """Know files again that lie elsewhere now."""
        if not self._left or not self._inode_mask:
            return
        for path, here in self.scan.found.items():
            if here is not None and here.print.kind is Kind.FILE:
                was = self._left.get(table.copied(table.stamp_of(here.print)))
                if was is not None and was != path:
                    self.scan.moved[path] = was

    def _skip(self, path: str, reason: str) -> None:
        if len(self.scan.skipped) < SKIPPED_MAX:
            self.scan.skipped.append(Skipped(path, reason))


def _name(path: str) -> bytes:
    return os.fsencode(path.rpartition("/")[2])


def stamp_of(status: os.stat_result, device: int, inode_mask: int, bit: int) -> bytes:
    """The stamp of what has this status, in a folder on `device`. `bit` of its mode says that it is executable."""
    mode, inode = status.st_mode, status.st_ino & inode_mask
    dates = clamped(status.st_mtime_ns), clamped(status.st_ctime_ns)
    if stat.S_ISREG(mode):
        return STAMP.pack(PROGRAM if mode & bit else FILE, inode, status.st_size, *dates)
    if stat.S_ISLNK(mode):
        return STAMP.pack(LINK, inode, status.st_size, *dates)
    if stat.S_ISDIR(mode) and status.st_dev == device:
        return STAMP.pack(table.FOLDER, inode, 0, 0, 0)
    return STAMP.pack(table.OTHER, inode, 0, 0, 0)
