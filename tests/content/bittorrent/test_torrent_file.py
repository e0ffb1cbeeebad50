"""Torrent files, held against what libtorrent makes of the same files and says of ours."""

import os
import random
import threading
from hashlib import sha256
from pathlib import Path

import libtorrent as lt
import pytest

from coterie.content.bittorrent.hashing import HashingCancelled, hash_files
from coterie.content.bittorrent.torrent_file import (
    BLOCK_BYTES,
    INFO_BYTES_MAX,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    PIECES_WANTED_MAX,
    PieceHashes,
    Torrent,
    TorrentEntry,
    bencode,
    block_width,
    in_order,
    merkle_root,
    piece_size,
    torrent_file,
)
from coterie.errors import LimitExceeded, StorageError, UsageError

SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES, 65_536, 65_537, 300_001)


def write_files(top: Path, sizes: dict[str, int], seed: int = 7) -> list[TorrentEntry]:
    """Files of random bytes below `top`, and their entries."""
    source = random.Random(seed)
    entries = []
    for name, size in sizes.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
        entries.append(TorrentEntry(tuple(name.split("/")), size))
    return in_order(entries)


def make(top: Path, entries: list[TorrentEntry], piece: int, *, is_folder: bool = True) -> Torrent:
    hashes = hash_files(top, entries, piece, is_folder=is_folder)
    return torrent_file(top.name, entries, hashes, piece, is_folder=is_folder)


def made_by_libtorrent(
    top: Path, entries: list[TorrentEntry], piece: int, *, is_folder: bool = True
) -> bytes:
    """What libtorrent's own maker writes for the same files."""
    files = lt.file_storage()
    for entry in entries:
        files.add_file("/".join((top.name, *entry.path)) if is_folder else top.name, entry.size)
    creator = lt.create_torrent(files, piece, lt.create_torrent.canonical_files_no_tail_padding)
    lt.set_piece_hashes(creator, str(top.parent))
    return bytes(lt.bencode(creator.generate()[b"info"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("piece", [16_384, 65_536])
@pytest.mark.parametrize("names", ["f{}", "deep/er/{}", "ü{}/x y"])
def test_the_description_is_what_libtorrent_makes(tmp_path: Path, names: str, piece: int) -> None:
    top = tmp_path / "a folder"
    entries = write_files(top, {names.format(number): size for number, size in enumerate(SIZES)})
    made = make(top, entries, piece)
    assert sha256(made_by_libtorrent(top, entries, piece)).digest() == made.v2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_a_single_file_is_what_libtorrent_makes(tmp_path: Path, size: int) -> None:
    entries = write_files(tmp_path, {"alone": size})
    made = make(tmp_path / "alone", entries, 65_536, is_folder=False)
    theirs = made_by_libtorrent(tmp_path / "alone", entries, 65_536, is_folder=False)
    assert sha256(theirs).digest() == made.v2


def test_libtorrent_reads_both_versions_of_it(tmp_path: Path) -> None:
    top = tmp_path / "a"
    entries = write_files(top, {"x": 100_000, "y": 3})
    made = make(top, entries, 16_384)
    info = lt.load_torrent_buffer(made.metainfo).ti
    assert (info.info_hashes().v1.to_bytes(), info.info_hashes().v2.to_bytes()) == (made.v1, made.v2)


def test_programs_are_marked_and_trackers_stand_outside_the_description(tmp_path: Path) -> None:
    entries = [TorrentEntry(("run",), 1, executable=True), TorrentEntry(("z",), 1)]
    (tmp_path / "a").mkdir()
    for entry in entries:
        (tmp_path / "a" / entry.path[0]).write_bytes(b"x")
    hashes = hash_files(tmp_path / "a", entries, 16_384, is_folder=True)
    plain = torrent_file("a", entries, hashes, 16_384, is_folder=True)
    tracked = torrent_file("a", entries, hashes, 16_384, is_folder=True, trackers=["http://t/announce"])
    assert (plain.v1, plain.v2) == (tracked.v1, tracked.v2)
    read = lt.load_torrent_buffer(tracked.metainfo)
    assert list(read.trackers) == ["http://t/announce"]
    layout = read.ti.layout()
    assert [bool(int(layout.file_flags(i)) & int(layout.flag_executable)) for i in range(3)] == [
        True,
        False,
        False,
    ]


def test_too_many_files_are_refused() -> None:
    entries = in_order([TorrentEntry((f"{number:06}" + "n" * 200,), 1) for number in range(8_000)])
    one = [PieceHashes(bytes(20), bytes(32))]
    with pytest.raises(LimitExceeded, match=f"at most {INFO_BYTES_MAX:,}"):
        torrent_file("a", entries, [one] * len(entries), PIECE_BYTES_MIN, is_folder=True)


def test_a_torrent_has_at_least_one_file() -> None:
    with pytest.raises(UsageError, match="at least one file"):
        in_order([])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1], PIECE_BYTES_MIN),
        ([PIECES_WANTED_MAX * PIECE_BYTES_MIN], PIECE_BYTES_MIN),
        ([PIECES_WANTED_MAX * PIECE_BYTES_MIN + 1], 2 * PIECE_BYTES_MIN),
        ([1 << 50], PIECE_BYTES_MAX),
        ([100] * 50_000, PIECE_BYTES_MIN),
    ],
)
def test_pieces_are_as_small_as_their_number_allows(sizes: list[int], expected: int) -> None:
    assert piece_size(sizes) == expected


@pytest.mark.parametrize(
    ("size", "width"), [(1, 1), (BLOCK_BYTES + 1, 2), (3 * BLOCK_BYTES, 4), (65_536, 4), (65_537, 4)]
)
def test_the_tree_of_a_piece_is_as_wide_as_the_file_needs(size: int, width: int) -> None:
    assert block_width(size, 65_536) == width


def test_a_tree_is_filled_up_with_what_stands_for_nothing() -> None:
    leaf = sha256(b"x").digest()
    beside = sha256(leaf + bytes(32)).digest()
    assert merkle_root([leaf], 1) == leaf
    assert merkle_root([leaf], 4) == sha256(beside + sha256(bytes(64)).digest()).digest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, b"i0e"),
        (-3, b"i-3e"),
        ("ü", "2:ü".encode()),
        ([1, [b"a"]], b"li1el1:aee"),
        ({"b": 1, "a": {}, b"\xff": 2}, b"d1:ade1:bi1e1:\xffi2ee"),
    ],
)
def test_bencode(value: object, text: bytes) -> None:
    assert bencode(value) == text


def test_bencode_knows_nothing_else() -> None:
    with pytest.raises(TypeError, match="float"):
        bencode(1.5)


# ---- reading the files


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    entries = write_files(tmp_path / "a", {"x": 100_000, "y": 50_000})
    told: list[int] = []
    hash_files(tmp_path / "a", entries, 16_384, is_folder=True, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 150_000


def test_a_file_that_changed_its_size_is_noticed(tmp_path: Path) -> None:
    entries = write_files(tmp_path / "a", {"x": 100})
    (tmp_path / "a" / "x").write_bytes(b"less")
    with pytest.raises(StorageError, match="share it again"):
        hash_files(tmp_path / "a", entries, 16_384, is_folder=True)


def test_a_file_that_is_gone_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        hash_files(tmp_path, [TorrentEntry(("x",), 1)], 16_384, is_folder=True)


def test_it_can_be_stopped(tmp_path: Path) -> None:
    entries = write_files(tmp_path / "a", {"x": 100_000})
    stop = threading.Event()
    stop.set()
    with pytest.raises(HashingCancelled):
        hash_files(tmp_path / "a", entries, 16_384, is_folder=True, cancel=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("coterie-hash")]


def test_memory_is_bounded_while_reading(tmp_path: Path) -> None:
    top = tmp_path / "sparse"
    with top.open("wb") as file:
        os.truncate(file.fileno(), 300 << 20)
    import tracemalloc

    tracemalloc.start()
    hash_files(top, [TorrentEntry(("sparse",), 300 << 20)], 1 << 20, is_folder=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 << 20  # AHEAD_BYTES_MAX and one copy while it is read
