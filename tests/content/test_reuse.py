"""Chunks that lie on this computer: found, verified, copied or shared on the disk."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content import Kind, Store
from coterie.content import manifest as m
from coterie.content.importer import import_path
from coterie.content.manifest import Chunk
from coterie.content.reuse import CLONE_BYTES_MIN, clone_known, known_chunks, stretches
from coterie.content.writer import Staging

ROOT = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home" / "store.db") as opened:
        yield opened


def known(store: Store, path: Path, data: bytes) -> list[Chunk]:
    """The chunks of a file with this content that the store knows."""
    path.write_bytes(data)
    import_path(store, path)
    return m.unpack_chunks(store.known_files([str(path)])[str(path)].chunks)


def test_known_chunks_are_found_verified_and_the_others_left_out(store: Store, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    chunks = known(store, tmp_path / "file", data)
    wanted = [*chunks, (bytes(32), 1000)]
    found = dict(known_chunks(store, wanted, range(len(wanted))))
    assert b"".join(found[index] for index in range(len(chunks))) == data
    assert len(chunks) not in found


def test_only_what_is_wanted_is_read(store: Store, tmp_path: Path) -> None:
    chunks = known(store, tmp_path / "file", random.Random(2).randbytes(3_000_000))
    assert [index for index, _ in known_chunks(store, chunks, [2, 5])] == [2, 5]


def test_a_file_that_changed_gives_nothing_wrong(store: Store, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(3_000_000)
    chunks = known(store, tmp_path / "file", data)
    (tmp_path / "file").write_bytes(data[:1_000_000] + b"?" + data[1_000_001:])
    found = dict(known_chunks(store, chunks, range(len(chunks))))
    assert 0 < len(found) < len(chunks)
    at = 0
    for index, (_, size) in enumerate(chunks):
        assert found.get(index, data[at : at + size]) == data[at : at + size]
        at += size


def test_a_file_that_is_gone_gives_nothing(store: Store, tmp_path: Path) -> None:
    chunks = known(store, tmp_path / "file", random.Random(4).randbytes(1_000_000))
    (tmp_path / "file").unlink()
    assert not list(known_chunks(store, chunks, range(len(chunks))))


def test_stretches_are_neighbours_in_both_files() -> None:
    chunks = [(bytes([n]) * 32, 10) for n in range(6)]
    places = {
        chunks[0][0]: (1, 0, 10, 99, b"/a"),
        chunks[1][0]: (1, 10, 10, 99, b"/a"),
        chunks[2][0]: (1, 40, 10, 99, b"/a"),  # a neighbour here only
        chunks[3][0]: (2, 50, 10, 99, b"/b"),  # in another file
        chunks[5][0]: (2, 60, 10, 99, b"/b"),  # a neighbour there only
        chunks[4][0]: (2, 60, 11, 99, b"/b"),  # of another size: no such chunk
    }
    found = stretches(places, chunks, range(6))
    assert [(s.first, s.last, s.size, str(s.path), s.offset) for s in found] == [
        (0, 1, 20, "/a", 0),
        (2, 2, 10, "/a", 40),
        (3, 3, 10, "/b", 50),
        (5, 5, 10, "/b", 60),
    ]


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of our own that can share blocks between files."""
    folder = tmp_path_factory.mktemp("btrfs")
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    try:
        subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root, btrfs-progs and a loop device, which not every machine has: {error}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)
    image.unlink()


def staged(folder: Path, size: int) -> Staging:
    return Staging.open(folder, "new", ROOT, Kind.BLOB, size)


def test_where_the_disk_can_a_known_stretch_is_shared_and_takes_no_room(btrfs: Path) -> None:
    data = random.Random(5).randbytes(40_000_000)
    with Store.open(btrfs / "home" / "store.db") as store:
        chunks = known(store, btrfs / "old", data)
        os.sync()
        free = os.statvfs(btrfs).f_bavail * os.statvfs(btrfs).f_bsize
        staging = staged(btrfs, len(data))
        file = staging.large_file((), "data", len(data), executable=False)
        there = clone_known(store, file, 0, chunks, range(len(chunks)))
        assert len(there) >= len(chunks) - 1  # the last chunk ends within a block
        os.sync()
        assert free - os.statvfs(btrfs).f_bavail * os.statvfs(btrfs).f_bsize < len(data) / 10
        file.finish(0)
        staging.close()
        assert (staging.path / "data").read_bytes()[: sum(s for _, s in chunks[:-1])] == data[
            : -chunks[-1][1]
        ]


def test_a_shared_stretch_is_verified(btrfs: Path) -> None:
    data = random.Random(6).randbytes(20_000_000)
    with Store.open(btrfs / "home2" / "store.db") as store:
        chunks = known(store, btrfs / "old2", data)
        (btrfs / "old2").write_bytes(data[:5_000_000] + b"\0" * 1000 + data[5_001_000:])
        staging = staged(btrfs, len(data))
        file = staging.large_file((), "data", len(data), executable=False)
        there = set(clone_known(store, file, 0, chunks, range(len(chunks))))
        starts = [sum(size for _, size in chunks[:index]) for index in range(len(chunks))]
        touched = {
            index
            for index, (_, size) in enumerate(chunks)
            if starts[index] < 5_001_000 and starts[index] + size > 5_000_000
        }
        assert there
        assert not there & touched
        file.close()
        staging.discard()


def test_a_disk_that_cannot_share_and_stretches_askew_say_so(tmp_path: Path, btrfs: Path) -> None:
    size = 2 * CLONE_BYTES_MIN
    for folder in (tmp_path, btrfs):
        (folder / "source").write_bytes(os.urandom(size))
        staging = staged(folder, size)
        file = staging.large_file((), "data", size, executable=False)
        assert not file.clone(folder / "source", 1, 0, size - 1)  # not block by block
        assert not file.clone(folder / "source", 0, 0, 100)  # not one whole block
        assert not file.clone(folder / "gone", 0, 0, size)
        (folder / "linked").symlink_to(folder / "source")
        assert not file.clone(folder / "linked", 0, 0, size)
        file.close()
        staging.discard()
    assert not staged_clone(btrfs / "source", tmp_path, size)  # to another disk


def staged_clone(source: Path, folder: Path, size: int) -> bool:
    staging = staged(folder, size)
    file = staging.large_file((), "data", size, executable=False)
    try:
        return file.clone(source, 0, 0, size)
    finally:
        file.close()
        staging.discard()
