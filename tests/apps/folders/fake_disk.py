"""A disk in memory, with the rules of Linux, Windows or macOS: what `disk.Disk` does, and faults on demand."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from coterie.apps.folders import names
from coterie.apps.folders.register import Kind
from coterie.apps.folders.steps import (
    DiskStep,
    Free,
    Here,
    MakeFolder,
    MakeLink,
    Move,
    MoveFolder,
    Print,
    Put,
    Remove,
    RemoveFolder,
    SetMeta,
)
from coterie.content.names import NameRules, folded, local_names

FORGOTTEN = Print(Kind.OTHER)  # looks otherwise than everything


@dataclass(slots=True)
class Entry:
    """One thing on the disk. A file's content is its id; `is_open`: somebody writes to it."""

    name: str
    kind: Kind
    inode: int
    content: bytes = b""
    mtime_ns: int = 0
    ctime_ns: int = 0
    executable: bool = False
    target: str = ""
    is_open: bool = False
    size: int = 0

    def print(self) -> Print:
        if self.kind == Kind.FILE:
            return Print(
                Kind.FILE, self.inode, self.size, self.mtime_ns, self.ctime_ns, executable=self.executable
            )
        return Print(self.kind, self.inode, target=self.target)


class NotSo(Exception):
    """The step was dropped: look at `local` again."""


class Broken(Exception):
    """The disk refused."""


class FakeDisk:
    """The tree, by folded local name; `seen` is what was reported."""

    def __init__(
        self, rules: NameRules, clock: Callable[[], int], *, bits: bool = True, links: bool = True
    ) -> None:
        self.rules = rules
        self.bits = bits
        self.links = links
        self.clock = clock
        self.entries: dict[str, Entry] = {}
        self.seen: dict[str, Print] = {}
        self.versions: set[bytes] = set()
        self.before_replacing: Callable[[str], None] = lambda local: None
        self._inodes = 0

    # ---- what programs do

    def key(self, local: str) -> str:
        return (
            local if self.rules == _ANY else "/".join(folded(part, self.rules) for part in local.split("/"))
        )

    def get(self, local: str) -> Entry | None:
        return self.entries.get(self.key(local))

    def spelled(self, key: str) -> str:
        """The local name as a listing has it (composed, where the disk does not tell forms apart)."""
        parts, at = [], ""
        for part in key.split("/"):
            at = f"{at}/{part}" if at else part
            parts.append(self.entries[at].name)
        local = "/".join(parts)
        return unicodedata.normalize("NFC", local) if self.rules.folds_unicode else local

    def may_be(self, name: str) -> bool:
        return local_names([name], self.rules) == [name]

    def listing(self) -> dict[str, Entry]:
        return {self.spelled(key): entry for key, entry in self.entries.items()}

    def write(self, local: str, content: bytes, *, in_place: bool = False, is_open: bool = False) -> bytes:
        """Write a file; returns what was there before. `in_place`: the same inode, else beside it and renamed."""
        key, now = self.key(local), self.clock()
        old = self.entries.get(key)
        if self._parent_kind(key) != Kind.FOLDER or (old is not None and old.kind == Kind.FOLDER):
            raise Broken(local)
        was = old.content if old is not None else b""
        size = content[0]
        if old is not None and in_place and old.kind == Kind.FILE:
            old.content, old.mtime_ns, old.ctime_ns, old.is_open, old.size = content, now, now, is_open, size
            return was
        name = old.name if old is not None else names.leaf(local)
        bit = old.executable if old is not None else False
        self.entries[key] = Entry(name, Kind.FILE, self._inode(), content, now, now, bit, "", is_open, size)
        return was

    def make_folder(self, local: str) -> None:
        key = self.key(local)
        if key in self.entries or self._parent_kind(key) != Kind.FOLDER:
            raise Broken(local)
        self.entries[key] = Entry(names.leaf(local), Kind.FOLDER, self._inode())

    def make_link(self, local: str, target: str) -> None:
        key = self.key(local)
        if key in self.entries or self._parent_kind(key) != Kind.FOLDER or not self.links:
            raise Broken(local)
        self.entries[key] = Entry(names.leaf(local), Kind.LINK, self._inode(), target=target)

    def below(self, local: str) -> list[str]:
        start = self.key(local) + "/"
        return [key for key in self.entries if key.startswith(start)]

    def delete(self, local: str) -> list[bytes]:
        """Delete with all that is below; the contents that were there."""
        gone = [*self.below(local), self.key(local)]
        return [entry.content for key in gone if (entry := self.entries.pop(key, None)) and entry.content]

    def rename(self, local: str, to: str) -> None:
        """As rename(2), but never onto something else."""
        source, target = self.key(local), self.key(to)
        entry = self.entries.get(source)
        if entry is None or (target in self.entries and target != source):
            raise Broken(to)
        if self._parent_kind(target) != Kind.FOLDER or target.startswith(source + "/"):
            raise Broken(to)
        below = self.below(local)
        del self.entries[source]
        self.entries[target] = replace(entry, name=names.leaf(to), ctime_ns=self.clock())
        for key in below:
            self.entries[target + key[len(source) :]] = self.entries.pop(key)

    def _inode(self) -> int:
        self._inodes += 1
        return self._inodes

    def _parent_kind(self, key: str) -> Kind:
        folder = names.parent(key)
        if not folder:
            return Kind.FOLDER
        entry = self.entries.get(folder)
        return entry.kind if entry is not None else Kind.GONE

    # ---- what the shell does

    def scan(self) -> tuple[dict[str, Here | None], dict[str, str]]:
        """What differs from the last look; what is written to waits. Also: new names of old files."""
        found: dict[str, Here | None] = {}
        now: dict[str, Print] = {}
        for local, entry in self.listing().items():
            if entry.is_open:
                if local in self.seen:
                    now[local] = self.seen[local]
                continue
            now[local] = seen = entry.print()
            if self.seen.get(local) != seen:
                found[local] = Here(seen)
        gone = {local: seen for local, seen in self.seen.items() if local not in now}
        by_inode = {(seen.inode, seen.size, seen.mtime_ns): local for local, seen in gone.items()}
        moved = {
            local: old
            for local, here in found.items()
            if here is not None and here.print.kind == Kind.FILE
            if (old := by_inode.get((here.print.inode, here.print.size, here.print.mtime_ns)))
        }
        found.update(dict.fromkeys(gone))
        self.seen = now
        return found, moved

    def hash(self, local: str) -> Here | None:
        """Print and content of a file now; None: it is being written, or gone."""
        entry = self.get(local)
        if entry is None or entry.kind != Kind.FILE or entry.is_open or self._spelled_otherwise(local):
            if local in self.seen:  # a later look says what became of it
                self.seen[local] = FORGOTTEN
            return None
        self.seen[local] = entry.print()
        return Here(entry.print(), entry.content)

    def _spelled_otherwise(self, local: str) -> bool:
        return self.spelled(self.key(local)) != local

    def apply(self, step: DiskStep) -> Print | None:
        """Do one step. Raises NotSo, Broken."""
        match step:
            case Put() | MakeLink():
                self._bring(step)
            case Remove():
                self._check(step.local, step.expects, step.expects_content)
                self.before_replacing(step.local)
                self.versions.update(self.delete(step.local))
            case Free():
                self._check(step.local, step.expects, step.expects_content)
                self.delete(step.local)
            case Move() | MoveFolder():
                self._check(step.local, step.expects, b"")
                self._must(lambda: self.rename(step.local, step.to))
            case MakeFolder():
                entry = self.get(step.local)
                if entry is None:
                    self._must(lambda: self.make_folder(step.local))
                elif entry.kind != Kind.FOLDER or self._spelled_otherwise(step.local):
                    raise NotSo(step.local)
            case RemoveFolder():
                entry = self.get(step.local)
                if entry is not None and (entry.kind != Kind.FOLDER or self.below(step.local)):
                    raise NotSo(step.local)
                self.entries.pop(self.key(step.local), None)
            case SetMeta():
                entry = self._check(step.local, step.expects, b"")
                entry.executable, entry.mtime_ns = step.value.executable and self.bits, step.value.mtime_ns
                entry.ctime_ns = self.clock()
        return self._note(step)

    def _note(self, step: DiskStep) -> Print | None:
        if isinstance(step, Move | MoveFolder):
            below = [one for one in self.seen if one.startswith(f"{step.local}/")]
            moved = {step.to + one[len(step.local) :]: self.seen.pop(one) for one in below}
            self.seen.pop(step.local, None)
            self.seen |= moved
            local = step.to
        else:
            local = step.local
        entry = self.get(local)
        if entry is None:
            self.seen.pop(local, None)
            return None
        self.seen[local] = entry.print()
        return entry.print()

    def _bring(self, step: Put | MakeLink) -> None:
        if step.expects is not None:
            self._check(step.local, step.expects, step.expects_content)
            self.before_replacing(step.local)
            self.versions.update(self.delete(step.local))
        elif self.get(step.local) is not None:
            raise NotSo(step.local)
        if isinstance(step, MakeLink):
            self._must(lambda: self.make_link(step.local, step.value.target))
            return
        self._must(lambda: self.write(step.local, step.value.content))
        entry = self.entries[self.key(step.local)]
        entry.mtime_ns, entry.executable = step.value.mtime_ns, step.value.executable and self.bits

    def _check(self, local: str, expects: Print, content: bytes) -> Entry:
        entry = self.get(local)
        if entry is None or entry.print() != expects or entry.is_open or self._spelled_otherwise(local):
            raise NotSo(local)
        if content and entry.content != content:
            raise NotSo(local)
        return entry

    def _must(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Broken as error:
            raise NotSo(str(error)) from None


_ANY = NameRules()
