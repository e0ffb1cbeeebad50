"""A live folder on the disk, without a node: made, looked at, changed."""

import os
import time
from pathlib import Path

from coterie.apps.folders.applying import Done, Result
from coterie.apps.folders.disk import Disk, DiskStep
from coterie.apps.folders.hints import ALL, Hints
from coterie.apps.folders.reading import Hashed
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.root import make_marker
from coterie.apps.folders.scanning import Scan
from coterie.apps.folders.steps import Here, MakeFolder, Print, Put, Remove
from coterie.content.builder import build_blob
from coterie.content.chunker import pack_small
from coterie.content.manifest import unpack_chunks
from coterie.content.versions import Versions

FOLDER, REPLICA = b"f" * 16, b"r" * 16
LATER_NS = 60_000_000_000  # every file was written long ago
MTIME_NS = 1_600_000_000_123_456_789


class Live:
    """One folder, and what its owner knows of it."""

    def __init__(self, folder: Path, home: Path, *, later_ns: int = LATER_NS) -> None:
        self.path = folder
        self.versions = Versions(home / "versions")
        if not (folder / ".coterie-folder/id").exists():
            make_marker(folder, FOLDER, REPLICA)
        self.disk = Disk(folder, FOLDER, REPLICA, self.versions, clock=lambda: time.time_ns() + later_ns)
        self.here: dict[str, Here] = {}

    def scan(self, hints: Hints = ALL) -> Scan:
        """Look, and hash what is new, as a service does."""
        scan = self.disk.scan(hints)
        known = {local: here.content for local, here in self.here.items()}
        for local, here in scan.found.items():
            if here is None:
                self.here.pop(local, None)
            else:
                self.here[local] = Here(here.print, known.get(scan.moved.get(local, "")))
        unknown = [
            local
            for local, here in self.here.items()
            if here.print.kind is Kind.FILE and here.content is None
        ]
        for one in self.disk.hash(unknown):
            if isinstance(one, Hashed):
                self.here[one.local] = Here(one.print, one.content)
        return scan

    def print(self, local: str) -> Print:
        """How it looked last."""
        return self.here[local].print

    def arrived(self, data: bytes, name: str = "1") -> Path:
        """A content that came whole."""
        path = self.disk.arrived / name
        path.write_bytes(data)
        return path

    def do(self, step: DiskStep, staged: Path | None = None) -> Result:
        """One step; what it made is known."""
        (result,) = self.disk.apply([(step, staged)], lambda _: "ben")
        return result

    def put(self, local: str, data: bytes, *, expects: Print | None = None) -> Result:
        """Give `data` the place `local`."""
        before = self.here.get(local)
        content = before.content if before is not None and expects is not None else None
        step = Put(local, local, value_of(data), expects, content or b"")
        result = self.do(step, self.arrived(data))
        if isinstance(result, Done) and result.print is not None:
            self.here[local] = Here(result.print, content_of(data))
        return result

    def remove(self, local: str) -> Result:
        """Remove a file as it was seen last."""
        here = self.here[local]
        return self.do(Remove(local, here.print, here.content or b""))

    def make_folder(self, local: str) -> Result:
        """Make a folder."""
        return self.do(MakeFolder(local))

    def kept(self) -> dict[str, bytes]:
        """What the versions have, by local name."""
        found = {}
        for version in self.versions.kept():
            path = self.versions.path_of(version.id)
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[version.original.relative_to(self.path).as_posix()] = data
        return found

    def files(self) -> dict[str, bytes]:
        """What a user sees."""
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file() and not path.is_symlink() and ".coterie-folder" not in path.parts
        }

    def left(self) -> list[str]:
        """What waits in the swap folder."""
        return sorted(name for name in os.listdir(self.path / ".coterie-folder/swap") if name != "journal")


def value_of(data: bytes, *, executable: bool = False) -> Value:
    """A file's value."""
    return Value(Kind.FILE, content_of(data), len(data), MTIME_NS, executable)


def content_of(data: bytes) -> bytes:
    """The content id of a small file."""
    return build_blob(unpack_chunks(pack_small(data)), lambda *_: None).id


def paths(*names: str) -> Hints:
    """Hints of these names."""
    return Hints(paths=frozenset(names))
