"""A disk with rules of its own for names, which can fail: `python -m tests.fakes.odd_disk MOUNTPOINT BACKING RULES`.

It keeps everything in the folder BACKING. RULES is a JSON file, read again at each step, so a test can change it:

    trims            dots and blanks at the end of a name vanish
    decomposes       names are kept in NFD, and found in any form
    folds_case       upper and lower case are one
    aliases          a long name is there as its short one too ("PROGRE~1.TXT", in any case)
    refused          characters that no name has
    no_links         no symbolic links
    file_bytes_max   larger files are refused
    room_bytes       of all files; over that the disk is full
    failing          names whose bytes cannot be written (EIO)
"""

import errno
import json
import os
import sys
import unicodedata
from pathlib import Path

import mfusepy


class OddDisk(mfusepy.Operations):
    """The names are odd, the rest is the folder below."""

    use_ns = True

    def __init__(self, backing: Path, rules: Path) -> None:
        self._backing = backing
        self._rules_path = rules

    @property
    def _rules(self) -> dict[str, object]:
        return dict(json.loads(self._rules_path.read_text()))

    def _stored(self, name: str) -> str:
        rules = self._rules
        if any(char in str(rules.get("refused", "")) for char in name):
            raise mfusepy.FuseOSError(errno.EINVAL)
        if rules.get("trims"):
            name = name.rstrip(". ") or name
        return unicodedata.normalize("NFD", name) if rules.get("decomposes") else name

    def _find(self, folder: Path, name: str) -> Path:
        """What `name` means in a folder: what is there, or what would be made."""
        name, rules = self._stored(name), self._rules
        if not os.path.lexists(folder / name):
            for there in sorted(os.listdir(folder)) if folder.is_dir() else []:
                if rules.get("folds_case") and there.casefold() == name.casefold():
                    return folder / there
                if rules.get("aliases") and alias(there) == name.upper():
                    return folder / there
        return folder / name

    def _at(self, path: str) -> Path:
        found = self._backing
        for part in path.strip("/").split("/"):
            found = self._find(found, part) if part else found
        return found

    def getattr(self, path: str, fh: int | None = None) -> dict[str, object]:
        status = os.lstat(self._at(path))
        names = ("mode", "nlink", "uid", "gid", "size", "blocks")
        times = {f"st_{which}time": getattr(status, f"st_{which}time_ns") for which in "amc"}
        return {f"st_{name}": getattr(status, f"st_{name}") for name in names} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & ~(os.O_EXCL | os.O_CREAT | getattr(os, "O_DIRECT", 0)))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        rules = self._rules
        if Path(path).name in rules.get("failing", []):  # type: ignore[operator]
            raise mfusepy.FuseOSError(errno.EIO)
        if offset + len(data) > int(rules.get("file_bytes_max", sys.maxsize)):  # type: ignore[call-overload]
            raise mfusepy.FuseOSError(errno.EFBIG)
        used = sum(p.lstat().st_size for p in self._backing.rglob("*") if p.is_file())
        if used + len(data) > int(rules.get("room_bytes", sys.maxsize)):  # type: ignore[call-overload]
            raise mfusepy.FuseOSError(errno.ENOSPC)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._at(path), length)

    def symlink(self, target: str, source: str) -> None:
        if self._rules.get("no_links"):
            raise mfusepy.FuseOSError(errno.EPERM)
        os.symlink(source, self._at(target))

    def rename(self, old: str, new: str) -> None:
        target = self._at(new)
        os.rename(self._at(old), target.with_name(self._stored(Path(new).name)))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self._at(path), ns=times, follow_symlinks=False)

    def statfs(self, path: str) -> dict[str, int]:
        room = os.statvfs(self._backing)
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize", "namemax")
        return {f"f_{name}": getattr(room, f"f_{name}") for name in names}

    def flush(self, path: str, fh: int) -> None: ...

    def fsync(self, path: str, datasync: int, fh: int) -> None: ...

    def release(self, path: str, fh: int) -> None:
        os.close(fh)


def alias(name: str) -> str:
    """The short name that FAT and NTFS give a long one: the first of its kind only, which is enough here."""
    stem, _, suffix = name.upper().rpartition(".") if "." in name[1:] else (name.upper(), "", "")
    kept = "".join(char for char in stem if char.isalnum() or char in "_-")
    if len(stem) <= 8 and kept == stem and len(suffix) <= 3:
        return name.upper()
    return f"{kept[:6]}~1" + (f".{suffix[:3]}" if suffix else "")


if __name__ == "__main__":
    mountpoint, backing, rules = sys.argv[1:]
    mfusepy.FUSE(
        OddDisk(Path(backing), Path(rules)),
        mountpoint,
        foreground=True,
        nothreads=True,
        attr_timeout=0,
        entry_timeout=0,
    )
