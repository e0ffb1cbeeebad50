"""Torrent files: one description that clients of both versions of BitTorrent understand (BEP 3, BEP 47, BEP 52).

Pure functions. The hashes come from `bittorrent/hashing`. The file names the same bytes twice: by SHA-1 of pieces with
padding between files (version 1), and by a SHA-256 tree for each file (version 2).
"""

from collections.abc import Mapping, Sequence
from hashlib import sha1, sha256
from typing import Any

import msgspec

from coterie.errors import LimitExceeded, UsageError
from coterie.texts import tr

BLOCK_BYTES = 16 << 10  # BEP 52: a leaf of the hash tree; BEP 3: what is asked for at once
PIECE_BYTES_MIN = 16 << 10  # BEP 52
PIECE_BYTES_MAX = (
    16 << 20
)  # guess: larger ones make a swarm slow to share; libtorrent itself stops here by default
PIECES_WANTED_MAX = 2_000  # guess, the custom of most makers of torrents: a list of pieces of 40 kB
INFO_BYTES_MAX = (
    3_000_000  # libtorrent before 2.1 and those built on it refuse more from a magnet link (3 MiB)
)
NO_HASH = bytes(32)  # BEP 52: stands for a block beyond the end of a file


class TorrentEntry(msgspec.Struct, frozen=True):
    """One file of a torrent: where it is below the torrent's name, its size in bytes, and whether it is a program."""

    path: tuple[str, ...]
    size: int
    executable: bool = False


class PieceHashes(msgspec.Struct, frozen=True):
    """One piece of one file: SHA-1 of its bytes (with padding, where that counts) and the root of its blocks."""

    v1: bytes
    v2: bytes


class Torrent(msgspec.Struct, frozen=True):
    """A finished torrent file: its bytes, and its two names."""

    metainfo: bytes
    v1: bytes
    v2: bytes


def piece_size(sizes: Sequence[int]) -> int:
    """Bytes of a piece: the least power of two that keeps the list of pieces short.

    Many small files have a piece each whatever its size, and every file but the last is padded to whole pieces for
    clients of version 1: they keep small pieces.
    """
    wanted = max(PIECES_WANTED_MAX, 2 * len(sizes))
    size = PIECE_BYTES_MIN
    while size < PIECE_BYTES_MAX and sum(-(-one // size) for one in sizes) > wanted:
        size *= 2
    return size


def in_order(entries: Sequence[TorrentEntry]) -> list[TorrentEntry]:
    """Entries as both versions list them: by the bytes of each part of their path (BEP 52).

    Raises:
        UsageError: nothing is left to share.
    """
    if not entries:
        raise UsageError(tr("a torrent needs at least one file, and there is none"))
    return sorted(entries, key=lambda entry: [part.encode() for part in entry.path])


def merkle_root(leaves: Sequence[bytes], width: int, filler: bytes = NO_HASH) -> bytes:
    """The root over `leaves`, with `filler` up to `width` of them (a power of two)."""
    level = [*leaves, *[filler] * (width - len(leaves))]
    while len(level) > 1:
        level = [sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]


def block_width(size: int, piece: int) -> int:
    """How many leaves the tree over one piece has: fewer than a whole piece's only in a file of one piece (BEP 52)."""
    blocks = -(-min(size, piece) // BLOCK_BYTES)
    return 1 << (blocks - 1).bit_length() if size <= piece else piece // BLOCK_BYTES


def torrent_file(
    name: str,
    entries: Sequence[TorrentEntry],
    hashes: Sequence[Sequence[PieceHashes]],
    piece: int,
    *,
    is_folder: bool,
    trackers: Sequence[str] = (),
    hybrid: bool = True,
) -> Torrent:
    """The torrent of `entries` (`in_order`), whose pieces have `hashes`, file by file.

    `hybrid`: with version 2; without, for programs that stumble over it, and `v2` of what is returned is empty.

    Raises:
        LimitExceeded: so many files that other programs would not take it from a magnet link.
    """
    layers: dict[bytes, bytes] = {}
    tree: dict[str, Any] = {}
    for entry, pieces in zip(entries, hashes, strict=True):
        _plant(tree, entry, _file_root(entry.size, pieces, piece, layers))
    info: dict[str, Any] = {
        "name": name,
        "piece length": piece,
        "pieces": b"".join(one.v1 for pieces in hashes for one in pieces),
    }
    if is_folder:
        info["files"] = _v1_files(entries, piece)
    else:
        info["length"] = entries[0].size
        if entries[0].executable:
            info["attr"] = "x"
    outside: dict[str, Any] = {"created by": "coterie"}
    if hybrid:
        info |= {"file tree": tree if is_folder else {name: tree[entries[0].path[-1]]}, "meta version": 2}
        outside["piece layers"] = layers
    packed = bencode(info)
    if len(packed) > INFO_BYTES_MAX:
        raise LimitExceeded(
            tr(
                "{entries:,} files make a torrent of {packed:,} bytes, and other programs take at most "
                "{info_bytes_max:,}: share the folder in parts",
                entries=len(entries),
                packed=len(packed),
                info_bytes_max=INFO_BYTES_MAX,
            )
        )
    if trackers:
        outside |= {"announce": trackers[0], "announce-list": [[tracker] for tracker in trackers]}
    whole = _with_info(outside, packed)
    return Torrent(
        whole, sha1(packed, usedforsecurity=False).digest(), sha256(packed).digest() if hybrid else b""
    )


def _plant(tree: dict[str, Any], entry: TorrentEntry, root: bytes) -> None:
    """Put a file into the tree of version 2."""
    at = tree
    for part in entry.path:
        at = at.setdefault(part, {})
    at[""] = {"length": entry.size}
    if entry.size:
        at[""]["pieces root"] = root
    if entry.executable:
        at[""]["attr"] = "x"


def _file_root(size: int, pieces: Sequence[PieceHashes], piece: int, layers: dict[bytes, bytes]) -> bytes:
    """The root of a file's tree; of a file of several pieces their roots go into `layers`."""
    if len(pieces) < 2:
        return pieces[0].v2 if pieces else b""
    roots = [one.v2 for one in pieces]
    beyond = merkle_root([], piece // BLOCK_BYTES)
    root = merkle_root(roots, 1 << (len(roots) - 1).bit_length(), beyond)
    layers[root] = b"".join(roots)
    return root


def _v1_files(entries: Sequence[TorrentEntry], piece: int) -> list[dict[str, Any]]:
    """The list of version 1: every file but the last is followed by one of zeros to the next piece (BEP 47)."""
    listed: list[dict[str, Any]] = []
    last = max((at for at, entry in enumerate(entries) if entry.size), default=0)
    for at, entry in enumerate(entries):
        one: dict[str, Any] = {"length": entry.size, "path": list(entry.path)}
        if entry.executable:
            one["attr"] = "x"
        listed.append(one)
        padding = -entry.size % piece
        if padding and at < last:
            listed.append({"attr": "p", "length": padding, "path": [".pad", str(padding)]})
    return listed


def bencode(value: Any) -> bytes:
    """`value` (int, text, bytes, lists and dictionaries of them) as BEP 3 writes it: keys in the order of bytes."""
    match value:
        case bytes():
            return b"%d:%b" % (len(value), value)
        case str():
            return bencode(value.encode())
        case int():
            return b"i%de" % value
        case list() | tuple():
            return b"l%be" % b"".join(map(bencode, value))
        case dict():
            return b"d%be" % b"".join(key + content for key, content in _items(value))
    raise TypeError(f"{type(value).__name__} has no form in a torrent file")


def _items(value: Mapping[Any, Any]) -> list[tuple[bytes, bytes]]:
    keys = {key if isinstance(key, bytes) else key.encode(): content for key, content in value.items()}
    return [(bencode(key), bencode(keys[key])) for key in sorted(keys)]


def _with_info(outside: dict[str, Any], info: bytes) -> bytes:
    """The whole file; `info` is encoded already, and its bytes must stay as they are: they are what is hashed."""
    parts = dict(_items(outside)) | {bencode("info"): info}
    in_order = sorted(parts, key=lambda key: key.partition(b":")[2])
    return b"d%be" % b"".join(key + parts[key] for key in in_order)
