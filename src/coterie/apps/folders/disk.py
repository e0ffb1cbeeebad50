"""A live folder on this disk: looks at it, knows contents, and makes it as it shall be.

Blocking; for one thread at a time. Nothing is done, and nothing concluded, while the folder is not the one that joined
(`root`).
"""

import contextlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unicodedata import normalize

import msgspec

from coterie.apps.folders import rows as table
from coterie.apps.folders.applying import (
    Applying,
    Done,
    Failed,
    NotSo,
    Result,
    failed,
    flush_arrived,
    result_of,
)
from coterie.apps.folders.facts import DiskFacts, probed
from coterie.apps.folders.hints import Hints, parent
from coterie.apps.folders.reading import Hashed, NotHashed, hash_files
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import ARRIVED, MARKER, SWAP, FolderGone, Root, entered, is_entered_still
from coterie.apps.folders.rows import Rows
from coterie.apps.folders.scanning import INODE_MASK, Look, Scan, stamp_of
from coterie.apps.folders.steps import (
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
from coterie.apps.folders.swap import Changed, Swap
from coterie.content.versions import Versions
from coterie.errors import StorageError
from coterie.private_file import write_private
from coterie.texts import tr

DiskStep = Put | Remove | Free | Move | MoveFolder | MakeFolder | RemoveFolder | MakeLink | SetMeta


class Disk:
    """One folder. `facts` are known once it was entered."""

    def __init__(
        self,
        path: Path,
        folder: bytes,
        replica: bytes,
        versions: Versions,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`path`: absolute and real, with the marker of this copy (`root.make_marker`). `clock`: ns since 1970."""
        self.path = path
        self._folder = folder
        self._replica = replica
        self._versions = versions
        self._clock = clock
        self._seen: dict[str, Rows] = {"": Rows()}
        self._facts: DiskFacts | None = None
        self._can_exchange = True

    @property
    def arrived(self) -> Path:
        """Where contents lie that came whole."""
        return self.path / MARKER / ARRIVED

    @property
    def facts(self) -> DiskFacts:
        """What the disk can hold.

        Raises:
            FolderGone: the folder is away.
        """
        if self._facts is not None:
            return self._facts
        with self._entered() as root:
            return self._facts or self._begin(root)

    # -- looking --

    def remember(self, known: Iterable[tuple[str, Print]]) -> None:
        """Begin with what was seen last, by local name: it is not reported unless it looks otherwise."""
        folders: dict[str, tuple[list[bytes], list[bytes]]] = {"": ([], [])}
        said: set[str] = set()
        for local, seen in known:
            folder = parent(local)
            name = os.fsencode(local[len(folder) + 1 :] if folder else local)
            stamp = table.stamp_of(seen)
            names, stamps = folders.setdefault(folder, ([], []))
            names.append(name)
            stamps.append(stamp)
            if seen.kind is Kind.FOLDER:
                folders.setdefault(local, ([], []))
                said.add(local)
        for folder in list(folders):
            at = folder
            while at and at not in said:  # it went, and what is in it was not noted yet: it is reported
                said.add(at)
                names, stamps = folders.setdefault(parent(at), ([], []))
                names.append(os.fsencode(at.rpartition("/")[2]))
                stamps.append(table.stamp_of(Print(Kind.FOLDER)))
                at = parent(at)
        self._seen = {folder: Rows(*entries) for folder, entries in folders.items()}

    def scan(self, hints: Hints) -> Scan:
        """Look where the hints say; what differs from the last look.

        Raises:
            FolderGone: the folder is away, or fails while it is looked at: nothing is concluded.
        """
        with self._entered() as root:
            facts = self.facts
            if facts.folds:
                hints = _unfolded(hints)
            before = dict(self._seen)
            try:
                scan = Look(root, self._seen, self._clock(), facts).at(hints)
                if (scan.folders or None in scan.found.values()) and not is_entered_still(root, self.path):
                    raise FolderGone(
                        tr(
                            "{path} went away while it was looked at: nothing of it counts as deleted",
                            path=self.path,
                        )
                    )
            except BaseException:
                self._seen = before
                raise
            return scan

    def renamed(self, local: str, to: str) -> tuple[dict[str, Here | None], dict[str, str]]:
        """`Scan.found` and `Scan.moved` of a folder that was renamed from `local` to `to`, name by name."""
        found: dict[str, Here | None] = dict.fromkeys([local])
        moved: dict[str, str] = {}
        stamp = self._seen[parent(to)].get(os.fsencode(to.rpartition("/")[2]))
        found[to] = Here(table.print_of(stamp)) if stamp is not None else None
        for folder, rows in list(self._seen.items()):
            if folder != to and not folder.startswith(f"{to}/"):
                continue
            for name, stamp in rows.items():
                new = table.join(folder, name)
                old = local + new[len(to) :]
                found[new], found[old] = Here(table.print_of(stamp)), None
                if table.is_file(stamp):
                    moved[new] = old
        return found, moved

    def hash(
        self, local: Iterable[str], cancel: threading.Event | None = None
    ) -> Iterator[Hashed | NotHashed]:
        """The contents of these files, as they come. What is not hashed is reported by a later look again.

        Raises:
            FolderGone: the folder is away.
        """
        with self._entered() as root:
            facts = self.facts
            cancel = cancel or threading.Event()
            for one in hash_files(root, local, cancel, has_inodes=facts.inodes, has_bits=facts.bits):
                self._note(
                    one.local,
                    one.print if isinstance(one, Hashed) else None,
                    is_known=isinstance(one, Hashed),
                )
                yield one

    def forget(self, local: Iterable[str]) -> None:
        """Report these again, even if they look the same."""
        for one in local:
            self._note(one, None, is_known=False)

    # -- changing --

    def apply(
        self,
        steps: Sequence[tuple[DiskStep, Path | None]],
        source: Callable[[DiskStep], str] = lambda step: "",
    ) -> list[Result]:
        """Do these steps in their order; what became of each. What was done is on the disk then.

        Args:
            steps: with each `Put` its content, a file in `arrived`, which the step takes over if it is done.
            source: what is noted with the version of what a step replaces or removes: from whom that came.

        Raises:
            FolderGone: the folder is away.
        """
        with self._entered() as root:
            try:
                flush_arrived(root, [staged for _, staged in steps if staged is not None])
            except OSError as error:
                return [failed(step.local, error) for step, _ in steps]
            swap = self._swap(root)
            applying = Applying(root, swap, self._clock(), partial(self._print, root))
            results: list[Result] = []
            missing: tuple[
                str, ...
            ] = ()  # folders that did not get their place: another may answer to that name
            try:
                for step, staged in steps:
                    if step.local.startswith(missing):
                        results.append(NotSo((step.local,)))
                        continue
                    swap.source = source(step)
                    results.append(result_of(step.local, partial(self._do, applying, step, staged)))
                    if isinstance(step, MakeFolder | MoveFolder) and not isinstance(results[-1], Done):
                        missing = (*missing, f"{step.to if isinstance(step, MoveFolder) else step.local}/")
                applying.flush()
            except OSError as error:  # nothing counts as done that may not last
                return [failed(step.local, error) for step, _ in steps]
            finally:
                self._can_exchange = swap.can_exchange
                swap.close()
            for (step, _), result in zip(steps, results, strict=True):
                self._after(step, result)
            return results

    def restore(self, version_id: str, local: str) -> Result:
        """Bring a copy of a version back to `local`, as if the owner did; what is there becomes a version itself.

        The next look finds it as a change. A folder above that is gone is made again.

        Raises:
            FolderGone: the folder is away. NotFound: there is no such version.
        """
        kept = self._versions.path_of(version_id)
        with self._entered() as root:
            swap = self._swap(root)
            applying = Applying(root, swap, self._clock(), partial(self._print, root))
            staged = Path(root.folder(f"{MARKER}/{ARRIVED}")) / f"restored-{version_id}"
            try:
                parts = local.split("/")[:-1]
                for count in range(len(parts)):
                    applying.make_folder("/".join(parts[: count + 1]))
                shutil.copy2(kept, staged, follow_symlinks=False)
                status = root.status(local)
                before = None if status is None else self._print(root, local, status)
                return result_of(local, partial(applying.bring_back, staged, local, before))
            except Changed:
                return NotSo((local,))
            except OSError as error:
                return failed(local, error)
            finally:
                staged.unlink(missing_ok=True)
                swap.close()

    def _do(self, applying: Applying, step: DiskStep, staged: Path | None) -> Print | None:
        match step:
            case Put():
                return applying.put(
                    staged or self.arrived / step.value.content.hex(),
                    step.local,
                    mtime_ns=step.value.mtime_ns,
                    executable=step.value.executable,
                    expects=step.expects,
                    content=step.expects_content,
                )
            case MakeLink():
                return applying.make_link(step.local, step.value.target, step.expects, step.expects_content)
            case Remove():
                applying.remove(step.local, step.expects, step.expects_content)
                return None
            case Free():
                applying.free(step.local, step.expects, step.expects_content)
                return None
            case Move() | MoveFolder():
                return applying.move(step.local, step.to, step.expects)
            case MakeFolder():
                return applying.make_folder(step.local)
            case RemoveFolder():
                applying.remove_folder(step.local)
                return None
            case SetMeta():
                meta = step.value
                return applying.set_meta(
                    step.local, mtime_ns=meta.mtime_ns, executable=meta.executable, expects=step.expects
                )

    def _after(self, step: DiskStep, result: Result) -> None:
        """Know what was done, so that it is not reported as found."""
        match result:
            case Failed():
                return
            case NotSo():
                self.forget(result.paths)
                return
        match step:
            case Move() | MoveFolder():
                self._rename(step.local, step.to, result.print)
            case _:
                self._note(step.local, result.print)

    # -- what was seen last --

    def _note(self, local: str, seen: Print | None, *, is_known: bool = True) -> None:
        """`local` looks so now; None: it is gone, or how it looks is not known."""
        folder = parent(local)
        rows = self._seen.get(folder)
        name = os.fsencode(local[len(folder) + 1 :] if folder else local)
        if rows is None or (not is_known and rows.get(name) is None):
            return
        stamp = table.stamp_of(seen) if seen is not None else None if is_known else table.FORGOTTEN
        self._seen[folder] = rows.with_entry(name, stamp)
        if seen is not None and seen.kind is Kind.FOLDER:
            self._seen.setdefault(local, Rows())
        elif is_known and local in self._seen:
            for one in [one for one in self._seen if one == local or one.startswith(local + "/")]:
                del self._seen[one]

    def _rename(self, local: str, to: str, seen: Print | None) -> None:
        below = [one for one in self._seen if one == local or one.startswith(local + "/")]
        moved = {to + one[len(local) :]: self._seen[one] for one in below}
        self._note(local, None)
        self._note(to, seen)
        self._seen |= moved

    # -- entering --

    @contextmanager
    def _entered(self) -> Iterator[Root]:
        with entered(self.path, self._folder, self._replica) as root:
            if self._facts is None:
                self._begin(root)
            yield root

    def _begin(self, root: Root) -> DiskFacts:
        """Learn what the disk can hold, and bring to its place what a crash left."""
        own = os.lstat(root.at(MARKER)).st_ino & INODE_MASK
        try:
            for name in (ARRIVED, SWAP):
                os.makedirs(root.at(f"{MARKER}/{name}"), mode=0o700, exist_ok=True)
            facts = probed(Path(root.folder(f"{MARKER}/{SWAP}")), has_inodes=own == root.marker.inode)
            if own != root.marker.inode:
                marker = msgspec.structs.replace(root.marker, inode=own)
                write_private(Path(root.at(f"{MARKER}/id")), msgspec.json.encode(marker))
        except (OSError, StorageError):  # a disk that may not be written: each step will say so
            facts = DiskFacts(inodes=own == root.marker.inode)
        if not facts.inodes:
            self._seen = {folder: rows.mapped(table.without_inode) for folder, rows in self._seen.items()}
        self._facts = facts
        with contextlib.suppress(OSError, StorageError):  # what is left stays there for the next time
            self._swap(root).recover()
        return facts

    def _swap(self, root: Root) -> Swap:
        can_exchange = self._can_exchange and self._facts is not None and self._facts.inodes
        return Swap(root, self._versions, self.path, can_exchange=can_exchange)

    def _print(self, root: Root, local: str, status: os.stat_result) -> Print:
        """The fingerprint of a status; that of a link with its target."""
        facts = self.facts
        stamp = stamp_of(
            status, root.device, INODE_MASK if facts.inodes else 0, stat.S_IXUSR if facts.bits else 0
        )
        return table.print_of(stamp, os.readlink(root.at(local)) if stat.S_ISLNK(status.st_mode) else "")


def _unfolded(hints: Hints) -> Hints:
    """Where to look on a disk on which one entry answers to several names: a name does not say how it is spelt."""
    folders, trees = ([normalize("NFC", one) for one in names] for names in (hints.folders, hints.trees))
    return Hints(
        folders=frozenset([*folders, *(parent(normalize("NFC", path)) for path in hints.paths)]),
        trees=frozenset(trees),
    )
