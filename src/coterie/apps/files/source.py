"""What somebody names to be fetched, told by what it is: a ticket, a place, a magnet link or a torrent file.

A place is written anna/photos, a torrent file by its path. What may be both is refused: ./anna/film is the file then,
//anna/film the place. Only `look` touches the disk.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from coterie.content.bittorrent.magnet import hint_of, link_in, link_of_hash
from coterie.content.bittorrent.plain import plain_metainfo
from coterie.errors import NotFound, StorageError, UsageError
from coterie.texts import tr
from coterie.wire import Ticket
from coterie.wire.pasted import bare
from coterie.wire.ticket import PREFIX, holds_ticket

BEGIN_BYTES = 64  # of a file: enough to tell a torrent file from others
_PATH = re.compile(r"\.{0,2}[/\\](?![/\\])|~[^/\\]*[/\\]|[A-Za-z]:[/\\]|\\\\|file:", re.IGNORECASE)
_WEB = re.compile(r"(https?|ftp)://", re.IGNORECASE)
_FILE_URL = re.compile(r"file:(//(localhost)?(?=/))?", re.IGNORECASE)
_TORRENT = re.compile(rb"d\d+:")  # a dictionary of bencode (BEP 3)
_LOOKED_AT_BYTES = 4096  # packed, they hold more than `BEGIN_BYTES`
_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """What somebody shares: the `path` at the one called `name`."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name}/{self.path}" if self.path else self.name


@dataclass(frozen=True, slots=True)
class MagnetSource:
    """A magnet link, in the form that every program reads."""

    link: str
    what: ClassVar[str] = "what a magnet link names"
    app: ClassVar[str] = "bittorrent"

    @property
    def ticket(self) -> str:
        """The ticket that the link carries, where it is a public share; empty when there is none."""
        hint = hint_of(self.link)
        if hint is None or not hint.ticket:
            return ""
        try:
            return str(Ticket.parse(hint.ticket))
        except UsageError:  # the link is good without it
            return ""


@dataclass(frozen=True, slots=True)
class TorrentFileSource:
    """A torrent file on this computer."""

    path: Path
    what: ClassVar[str] = "what a torrent file names"
    app: ClassVar[str] = "bittorrent"


Source = Ticket | Place | MagnetSource | TorrentFileSource


async def look(text: str, here: Path | None, is_known: Callable[[str], bool]) -> Source:
    """What `text` is, written by somebody who stands in the folder `here`. Errors as `read_source`.

    Raises:
        StorageError: the file cannot be read.
    """
    path = path_meant(text, here)
    begin = None if path is None else await asyncio.to_thread(_begin_of, path)
    return read_source(text, path=path, begin=begin, is_known=is_known)


def path_meant(text: str, here: Path | None) -> Path | None:
    """The file that `text` would be, seen from the folder `here` (None: only whole paths are); None: it is none."""
    raw = bare(text)
    if raw.startswith("//") or _WEB.match(raw) or link_in(text):
        return None
    if _FILE_URL.match(raw):
        raw = unquote(_FILE_URL.sub("", raw))
    path = Path(raw)
    if raw.startswith("~"):
        with contextlib.suppress(RuntimeError):  # nobody of that name: a file that begins with a tilde
            path = path.expanduser()
    if not path.is_absolute():
        return here / path if here is not None and raw else None
    return path


def spelled_path(text: str, here: Path | None) -> str:
    """`text` as a whole path where it is spelled as a path, like ./x or ../x; anything else as it is."""
    raw = bare(text)
    path = path_meant(raw, here) if _PATH.match(raw) else None
    return os.path.normpath(path) if path is not None else text


def read_source(
    text: str, *, path: Path | None, begin: bytes | None, is_known: Callable[[str], bool]
) -> Source:
    """What `text` is.

    Args:
        text: as somebody wrote or pasted it.
        path: `path_meant` of it.
        begin: the first `BEGIN_BYTES` of the file at `path` (`plain_metainfo`); None where there is no such file.
        is_known: whether somebody is called so here.

    Raises:
        UsageError: nothing that can be fetched, or it may be two things: says how to write each.
        NotFound: a path where there is no file.
    """
    if link := link_in(text):
        return MagnetSource(link)
    raw = bare(text)
    if _WEB.match(raw):
        raise UsageError(
            tr(
                "'{shown}' is on the web: fetch it with a browser, then name the torrent file",
                shown=_shown(raw),
            )
        )
    if raw.startswith("//"):
        return read_place(raw)
    if _PATH.match(raw):
        return _file(raw, path, begin)
    other = _other_than_file(raw, is_known)
    if path is not None and begin is not None and _TORRENT.match(begin):
        if isinstance(other, Place):
            raise UsageError(
                tr(
                    "'{shown}' is a torrent file here, and a place at {other}: write ./{shown} for the file, "
                    "//{shown} for the place",
                    shown=_shown(raw),
                    other=other.name,
                )
            )
        return TorrentFileSource(path)
    if other is not None:
        return other
    if holds_ticket(raw) or raw.lower() == PREFIX:
        return Ticket.parse(text)
    if begin is not None:
        return _file(raw, path, begin)
    if "/" in raw:
        return read_place(raw)
    if is_known(raw):
        raise UsageError(
            tr(
                "'{shown}' is nothing to get: say what of it, as `coterie ls {shown}` shows it",
                shown=_shown(raw),
            )
        )
    if path is not None and raw.lower().endswith(".torrent"):
        return _file(raw, path, begin)
    raise UsageError(
        tr(
            "'{shown}' is nothing that can be fetched: a ticket begins with '{prefix}', a place is "
            "like anna/photos, a link begins with 'magnet:?', a torrent file is named by its path",
            shown=_shown(raw),
            prefix=PREFIX,
        )
    )


def _begin_of(path: Path) -> bytes | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return plain_metainfo(file.read(_LOOKED_AT_BYTES), BEGIN_BYTES)
    except (OSError, ValueError) as error:
        if not isinstance(error, PermissionError):
            return None  # a name too long for a file, or with a zero byte, is none
        raise StorageError(
            tr("cannot read {path}: {strerror}", path=path, strerror=error.strerror)
        ) from error


def _other_than_file(raw: str, is_known: Callable[[str], bool]) -> Place | MagnetSource | None:
    name, slash, _ = raw.partition("/")
    if slash and is_known(name):
        return read_place(raw)
    link = link_of_hash(raw)
    return MagnetSource(link) if link else None


def read_place(text: str) -> Place:
    """The place that `text` names: a name, or a name and a path; slashes around do not matter. Raises `UsageError`."""
    raw = bare(text)
    name, _, path = raw.strip("/").partition("/")
    if not name:
        raise UsageError(tr("a place is a name and what it shares, like anna/photos"))
    return Place(name, path.strip("/"))


def _file(raw: str, path: Path | None, begin: bytes | None) -> TorrentFileSource:
    if path is None:
        raise UsageError(
            tr("'{shown}' is a path, and nobody said from which folder: give a whole path", shown=_shown(raw))
        )
    if begin is None:
        raise NotFound(tr("there is no file {path}", path=path))
    if not _TORRENT.match(begin):
        raise UsageError(tr("{path} is a file, but no torrent file", path=path))
    return TorrentFileSource(path)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
