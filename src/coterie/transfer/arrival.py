"""How one download comes into what is at its target already, and what is remembered of it. Blocking."""

import os
import stat
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.content import manifest as m
from coterie.content import no_links
from coterie.content.file_steps import set_executable, set_time
from coterie.content.merge import Merge, Old
from coterie.content.versions import Versions, disk_bytes
from coterie.content.walk import FileIn
from coterie.transfer.got import Got, GotBook, Written

TIME_STEPS_NS = (1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000)
"""In which file systems keep times: most, NTFS, those with microseconds, exFAT, HFS+, FAT."""
LISTED_MAX = 10_000  # files, of each kind of news; guess

Parts = tuple[str, ...]


class News(msgspec.Struct):
    """What an arrival did to what was there. Paths are below the target; `gone_count` may be more than are listed.

    `back`: files that were deleted here, and came again. `changed_here`: files that were changed here only; they were
    left alone. `beside`: changed on both sides.
    """

    is_update: bool = False
    new: int = 0
    back: list[str] = []
    replaced: int = 0
    removed: int = 0
    changed_here: list[str] = []
    beside: list[tuple[str, str]] = []
    numbered: list[tuple[str, str]] = []
    gone: list[str] = []
    gone_count: int = 0


class Arrival:
    """One download on its way to `target`. `got`: what was got there before, of the same thing; None: nothing."""

    def __init__(
        self,
        target: Path,
        versions: Versions,
        book: GotBook | None,
        got: Got | None,
        *,
        source: str,
        overwrite: bool = False,
        update: bool = False,
        mirror: bool = False,
    ) -> None:
        """`source`: what it is and from whom, for people. `overwrite`: also what the user changed.

        `book` None: nothing is remembered of it; then `got` is None, too.

        `update`: bring up to date what was got before. `mirror`: what is gone at the giver goes to the trash.
        """
        self.news = News(is_update=update)
        self._target = target
        self._versions = versions
        self._remembers = book
        self._got = got
        self._source = source
        self._overwrite = overwrite
        self._update = update
        self._mirror = mirror
        self._within: Parts = ()
        self._touch: list[tuple[Parts, int, bool]] = []

    @property
    def _book(self) -> GotBook:
        assert self._remembers is not None  # noqa: S101  (asked only about what is in one)
        return self._remembers

    @property
    def may_merge(self) -> bool:
        """Whether it may come into what is there."""
        return self._overwrite or self._update

    @property
    def is_remembered(self) -> bool:
        """Whether what came is noted."""
        return self._remembers is not None

    @property
    def may_keep(self) -> bool:
        """Whether anything at the target may be as it is to be."""
        return self._got is not None and self.may_merge

    def size(self) -> tuple[int, int]:
        """How many files, and bytes in them, were written there before."""
        return self._book.size(self._got.id) if self._got is not None else (0, 0)

    def has(self, parts: Parts, entry: FileIn, *, executable: bool) -> bool:
        """Whether this file need not be fetched: it is there as it is to be, or was changed here only."""
        if self._got is None or not self.may_merge:  # `may_keep`
            return False
        written = self._book.written(self._got.id, "/".join(parts))
        if written is not None and not os.path.lexists(self._target.joinpath(*parts)):
            _list(self.news.back, "/".join(parts))
        if (
            written is None or written.identity != entry.identity
        ):  # what is not asked for, this giver gave before
            return False
        status = self._file_at(parts)
        if status is None:
            if is_kept := not self._overwrite and self._is_other(parts):
                _list(self.news.changed_here, "/".join(parts))
            return is_kept
        same_size = status.st_size == entry.size
        if not written.is_at(status) and not (
            same_size and entry.chunks and self._matches(parts, entry.chunks)
        ):
            if not self._overwrite:
                _list(self.news.changed_here, "/".join(parts))
            return not self._overwrite
        if status.st_mtime_ns != entry.mtime_ns or bool(status.st_mode & stat.S_IXUSR) != executable:
            self._touch.append((parts, entry.mtime_ns, executable))
        return True

    def _real(self, parts: Parts) -> Path:
        """Where a file below the target is without the links that lead to the target."""
        return Path(os.path.realpath(self._target.parent), self._target.name, *parts)

    def _matches(self, parts: Parts, chunks: bytes) -> bool:
        """Whether a file below the target consists of just these packed chunks."""
        try:
            fd = no_links.open_file(self._real(parts))
        except OSError:
            return False
        try:
            return all(
                blake3(os.read(fd, size)).digest() == digest for digest, size in m.unpack_chunks(chunks)
            )
        except OSError:
            return False
        finally:
            os.close(fd)

    def _file_at(self, parts: Parts) -> os.stat_result | None:
        """The status of a regular file below the target, None where there is none or a link leads to it."""
        try:
            status = os.lstat(self._target.joinpath(*parts))
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) and self._is_within(parts[:-1]) else None

    def _is_other(self, parts: Parts) -> bool:
        """Whether something that is neither file nor link is there: a pipe, a device, a folder."""
        try:
            mode = os.lstat(self._target.joinpath(*parts)).st_mode
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and self._is_within(parts[:-1])

    def _is_within(self, folder: Parts) -> bool:
        """Whether no symbolic link stands for `folder`, or one above it."""
        if self._within != folder:
            above = (self._target.joinpath(*folder[: depth + 1]) for depth in range(len(folder)))
            if any(path.is_symlink() for path in above):
                return False
            self._within = folder
        return True

    def into(self, staged: Path, target: Path) -> Path:
        """Bring what was staged to `target`, where something is. Errors as `Merge.into`."""
        day = datetime.fromtimestamp(time.time(), UTC).date().isoformat()
        why = "replaced by --overwrite" if self._overwrite else "replaced by a newer version"
        merge = Merge(self._versions, self._judge, why=why, source=self._source, mark=f"changed here, {day}")
        try:
            return merge.into(staged, target)
        finally:
            self.news.new, self.news.replaced = max(0, merge.new - len(self.news.back)), merge.replaced
            self.news.beside, self.news.numbered = merge.beside, merge.numbered

    def _judge(self, parts: Parts) -> Old:
        """What becomes of the file that is there."""
        if self._overwrite:
            return Old.KEEP
        written = self._book.written(self._got.id, "/".join(parts)) if self._got is not None else None
        status = self._file_at(parts)
        if status is None:  # a link: it has no content that could be lost
            return Old.KEEP
        is_as_written = written is not None and written.is_at(status)
        return Old.KEEP if is_as_written else Old.BESIDE

    def settle(self, path: Path, present: Iterable[Parts]) -> None:
        """After it came to `path`: times of what need not be fetched; what is gone at the giver.

        `present`: every file that the content has.
        """
        self._target, self._within = path, ()
        for file, mtime_ns, executable in self._touch:
            if self._file_at(file) is None:  # gone, or something else, since it was looked at
                continue
            fd = no_links.open_file(self._real(file))
            try:
                set_executable(fd, executable)
                set_time(fd, mtime_ns)
            finally:
                os.close(fd)
        if self._update and self._got is not None:
            for old in self._book.others(self._got.id, ("/".join(parts) for parts in present)):
                self._take_leave(self._got, old)

    def _take_leave(self, got: Got, old: Written) -> None:
        """The giver has a file no more."""
        parts = tuple(old.path.split("/")) if old.path else ()
        path, status = self._target.joinpath(*parts), self._file_at(parts)
        if status is None:
            self._book.drop(got.id, [old.path])
        elif self._mirror and old.is_at(status):
            self._versions.check_room(path.parent, disk_bytes(path), 1)
            with no_links.held(self._real(parts).parent) as folder:
                self._versions.keep(
                    folder / path.name, "gone at the giver", source=self._source, original=path
                )
            self._book.drop(got.id, [old.path])
            self.news.removed += 1
        else:
            self.news.gone_count += 1
            _list(self.news.gone, old.path)

    def remember(self, got: Got, files: Iterable[Written]) -> None:
        """Note `got`, and each of these files; others stay as they were noted."""
        self._book.save(got)
        self._book.note(got.id, files)


def written(file: FileIn, status: os.stat_result | None) -> Written:
    """What is noted of a file of the content that has this status now; None: it is not there."""
    path = "/".join(file.parts)
    if status is None or status.st_size != file.size or not _is_time(status.st_mtime_ns, file.mtime_ns):
        return Written(path, file.identity, file.size, file.mtime_ns)  # as it came: it was changed since
    return Written(path, file.identity, status.st_size, status.st_mtime_ns)


def _is_time(kept_ns: int, set_ns: int) -> bool:
    """Whether a file system may keep the time that was set as this one."""
    if kept_ns == set_ns:
        return True
    steps = (set_ns - set_ns % step for step in TIME_STEPS_NS)
    return any(kept_ns in (at, at + step) for at, step in zip(steps, TIME_STEPS_NS, strict=True))


def _list(listed: list[str], path: str) -> None:
    if len(listed) < LISTED_MAX:
        listed.append(path)
