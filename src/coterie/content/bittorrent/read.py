"""Torrent files and magnet links of others, taken apart by `libtorrent` within limits. Nothing is written."""

import os
from typing import Any

import msgspec

from coterie.content.bittorrent.layout import (
    DECODE_DEPTH_MAX,
    DECODE_TOKENS_MAX,
    METAINFO_BYTES_MAX,
    PIECES_MAX,
    TorrentFile,
)
from coterie.content.bittorrent.magnet import MAGNET_CHARS_MAX
from coterie.decoding import decoder
from coterie.errors import LimitExceeded, PeerError, TransportError, UsageError
from coterie.texts import tr


class Source(msgspec.Struct, frozen=True):
    """A torrent file that was read: what it holds, and its names. `metainfo` are its bytes.

    `files` lie one after the other, in pieces of `piece_bytes`.
    """

    metainfo: bytes
    name: str
    files: tuple[TorrentFile, ...]
    is_folder: bool
    size: int
    v1: bytes
    v2: bytes
    trackers: tuple[str, ...]
    piece_bytes: int = 0


@decoder(PeerError, "this torrent file")
def read_torrent(metainfo: bytes) -> Source:
    """Take a torrent file apart.

    Raises:
        LimitExceeded: it is larger than any honest one.
        PeerError: it is not one, is wrong in itself, or would take files of other torrents for its own.
        TransportError: libtorrent is not installed here.
    """
    lt = load()
    if len(metainfo) > METAINFO_BYTES_MAX:
        raise LimitExceeded(
            tr(
                "this torrent file is larger than {metainfo_bytes_max:,} bytes",
                metainfo_bytes_max=METAINFO_BYTES_MAX,
            )
        )
    made = torrent_parameters(lt, metainfo)
    info = made.ti
    if (
        info.similar_torrents() or info.collections()
    ):  # libtorrent links the user's files into such a one (BEP 38)
        raise PeerError("this torrent asks for files of other torrents on this computer: that is not done")
    layout = info.layout()
    name, hashes = info.name(), info.info_hashes()
    files = []
    for index in range(layout.num_files()):
        parts = tuple(layout.file_path(index).split(os.sep))
        flags = int(layout.file_flags(index))
        files.append(
            TorrentFile(
                index,
                parts[1:],
                int(layout.file_size(index)),
                executable=bool(flags & int(layout.flag_executable)),
                hidden=bool(flags & int(layout.flag_pad_file)),
                is_link=bool(flags & int(layout.flag_symlink)),
            )
        )
    return Source(
        metainfo=metainfo,
        name=name,
        files=tuple(files),
        is_folder=any(file.path for file in files),
        size=sum(file.size for file in files if not file.hidden),
        v1=hashes.v1.to_bytes() if hashes.has_v1() else b"",
        v2=hashes.v2.to_bytes() if hashes.has_v2() else b"",
        trackers=tuple(made.trackers),
        piece_bytes=int(info.piece_length()),
    )


@decoder(UsageError, "this magnet link")
def named_in(link: str) -> tuple[list[str], list[str]]:
    """What a magnet link names: the hashes of its torrent, in hexadecimal, and peers, "ip:port".

    Raises:
        UsageError: no such link.
    """
    made = linked(load(), link)
    found = made.info_hashes
    hashes = [*([found.v1] if found.has_v1() else []), *([found.v2] if found.has_v2() else [])]
    return [one.to_bytes().hex() for one in hashes], [f"{host}:{port}" for host, port in made.peers]


@decoder(UsageError, "this magnet link")
def linked(lt: Any, link: str) -> Any:
    """What libtorrent makes of a magnet link. Errors as `named_in`."""
    if len(link) > MAGNET_CHARS_MAX:
        raise UsageError(
            tr(
                "this magnet link is longer than {magnet_chars_max:,} characters",
                magnet_chars_max=MAGNET_CHARS_MAX,
            )
        )
    try:
        return lt.parse_magnet_uri(link)
    except RuntimeError as error:
        raise UsageError(tr("this magnet link cannot be read: {reason}", reason=reason(error))) from None


@decoder(PeerError, "this torrent file")
def torrent_parameters(lt: Any, metainfo: bytes) -> Any:
    """What libtorrent makes of a torrent file, within limits. Errors as `read_torrent`."""
    limits = {
        "max_buffer_size": METAINFO_BYTES_MAX,
        "max_pieces": PIECES_MAX,
        "max_decode_depth": DECODE_DEPTH_MAX,
        "max_decode_tokens": DECODE_TOKENS_MAX,
    }
    try:
        return lt.load_torrent_buffer(metainfo, limits)
    except RuntimeError as error:
        raise PeerError(f"this is not a torrent that can be fetched: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What libtorrent says, without its own numbers."""
    return str(error).partition(" [")[0]


def load() -> Any:
    """The library, loaded when it is first needed: it is large.

    Raises:
        TransportError: it is not installed here.
    """
    try:
        import libtorrent
    except ImportError as error:
        raise TransportError(
            tr(
                "BitTorrent needs the package libtorrent, which is not usable here ({error}); install it",
                error=error,
            )
        ) from None
    return libtorrent
