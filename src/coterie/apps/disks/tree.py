"""The Merkle tree of an image: blocks, pages of their digests, and the root over the digests of the pages. Pure.

Three levels whatever the size, so that one answer names the path: the root is known, the list of pages is checked
against the root, a page against the list, a block against its page. Whoever has the root can take blocks from anybody.
"""

import struct
from collections.abc import Iterable

from blake3 import blake3

from coterie.decoding import decoder
from coterie.errors import PeerError

BLOCK_BYTES = 256 << 10  # guess: 800 questions for 200 MB; a question costs as much as 30 kB
PAGE_BLOCKS = 1_024  # a page of digests has 32 KiB and stands for 256 MiB
PAGES_MAX = 16_384  # 4 TiB; the list of pages has 512 KiB and fits a frame
DIGEST_BYTES = 32
_HEAD = struct.Struct(">16sQ")
_NAME = b"coterie disk 1\0\0"

TREE_BYTES_MAX = PAGES_MAX * PAGE_BLOCKS * BLOCK_BYTES


def blocks_of(size: int) -> int:
    """How many blocks an image of `size` bytes has."""
    return -(-size // BLOCK_BYTES)


def pages_of(size: int) -> int:
    """How many pages of digests."""
    return -(-blocks_of(size) // PAGE_BLOCKS)


def block_bytes(size: int, block: int) -> int:
    """Bytes of one block; the last may be shorter."""
    return min(BLOCK_BYTES, size - block * BLOCK_BYTES)


def pages(digests: Iterable[bytes]) -> list[bytes]:
    """The pages of the digests of all blocks."""
    joined = b"".join(digests)
    step = PAGE_BLOCKS * DIGEST_BYTES
    return [joined[at : at + step] for at in range(0, len(joined), step)]


def listed(found: Iterable[bytes]) -> bytes:
    """The list of pages: the digest of each."""
    return b"".join(blake3(page).digest() for page in found)


def root_of(size: int, pages_listed: bytes) -> bytes:
    """The name of an image of `size` bytes with this list of pages."""
    return blake3(_HEAD.pack(_NAME, size) + pages_listed).digest()


@decoder(PeerError, "the pages of a Merkle tree")
def read_list(raw: bytes, size: int, root: bytes) -> list[bytes]:
    """The digests of the pages. Raises `PeerError`: they are not those of `root`."""
    if len(raw) != pages_of(size) * DIGEST_BYTES or root_of(size, raw) != root:
        raise PeerError("the pages of a Merkle tree are not those of its root")
    return _cut(raw)


@decoder(PeerError, "a page of a Merkle tree")
def read_page(raw: bytes, size: int, page: int, digest: bytes) -> list[bytes]:
    """The digests of its blocks. Raises `PeerError`: they are not those of `digest`."""
    count = min(PAGE_BLOCKS, blocks_of(size) - page * PAGE_BLOCKS)
    if len(raw) != count * DIGEST_BYTES or blake3(raw).digest() != digest:
        raise PeerError("a page of a Merkle tree is not the one of its digest")
    return _cut(raw)


def _cut(raw: bytes) -> list[bytes]:
    return [raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), DIGEST_BYTES)]
