"""The Merkle trees of the images of this computer: made once and kept, made anew when an image changes. Blocking."""

import threading
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.apps.disks import tree
from coterie.apps.disks.image import Image, Stamp
from coterie.decoding import decoder
from coterie.errors import StorageError
from coterie.private_file import write_private

READ_BLOCKS = 16  # hashed at once: 4 MiB


class Tree(msgspec.Struct, frozen=True):
    """Of an image that looked like `stamp`: its pages, and the list of them."""

    stamp: tuple[int, int, int]
    pages: list[bytes]
    listed: bytes
    root: bytes

    def page(self, number: int) -> bytes | None:
        """A page; None: there is none."""
        return self.pages[number] if 0 <= number < len(self.pages) else None


class Trees:
    """For any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._found: dict[str, Tree] = {}

    def get(self, disk: str, stamp: Stamp) -> Tree | None:
        """The tree of a disk as it is now, where it is made already."""
        with self._lock:
            found = self._found.get(disk)
        if found is None:
            try:
                found = _read_tree((self._folder / f"{disk}.tree").read_bytes())
            except (OSError, StorageError):
                return None
            with self._lock:
                self._found[disk] = found
        return found if found.stamp == tuple(stamp) else None

    def make(self, disk: str, path: Path, is_wanted: threading.Event) -> Tree | None:
        """Read the image, and keep its tree; None: it changed meanwhile, or `is_wanted` was cleared.

        Raises `OSError`, and `CoterieError` as `Image`.
        """
        image = Image(path)
        try:
            if image.form != "image" or not 0 < image.size <= tree.TREE_BYTES_MAX:
                return None
            stamp = image.stamp()
            if (known := self.get(disk, stamp)) is not None:
                return known
            digests: list[bytes] = []
            step = READ_BLOCKS * tree.BLOCK_BYTES
            for at in range(0, image.size, step):
                if not is_wanted.is_set():
                    return None
                data = memoryview(bytearray(min(step, image.size - at)))
                image.read(at, data)
                digests += [
                    blake3(data[block : block + tree.BLOCK_BYTES]).digest()
                    for block in range(0, len(data), tree.BLOCK_BYTES)
                ]
            if image.stamp() != stamp:
                return None
        finally:
            image.close()
        pages = tree.pages(digests)
        listed = tree.listed(pages)
        made = Tree(
            (stamp.size, stamp.mtime_ns, stamp.inode), pages, listed, tree.root_of(stamp.size, listed)
        )
        with self._lock:
            self._found[disk] = made
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._folder / f"{disk}.tree", msgspec.msgpack.encode(made))
        return made

    def forget(self, disk: str) -> None:
        """The disk is shared no more."""
        with self._lock:
            self._found.pop(disk, None)
        (self._folder / f"{disk}.tree").unlink(missing_ok=True)


@decoder(StorageError, "the Merkle tree of an image")
def _read_tree(raw: bytes) -> Tree:
    found = msgspec.msgpack.decode(raw, type=Tree)
    if tree.listed(found.pages) != found.listed or tree.root_of(found.stamp[0], found.listed) != found.root:
        raise ValueError("it is damaged")
    return found
