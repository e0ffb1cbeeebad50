"""Importing: everything that can be shared, once, on all cores, whatever interrupts it."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content import (
    ChunkUnavailable,
    ImportCancelled,
    ImportProgress,
    Kind,
    Store,
    hashing,
    import_path,
    importer,
    no_links,
)
from coterie.content import manifest as m
from coterie.content import scan as scanning
from coterie.errors import NotFound, StorageError, UsageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "home" / "content.db")
    yield opened
    opened.close()


def later() -> int:
    """A clock that is ahead: everything lay still for a while when we looked."""
    return time.time_ns() + 10_000_000_000


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with some of everything that can be shared."""
    top = tmp_path / "shared"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "a.txt").write_bytes(b"hello")
    (top / "nothing").write_bytes(b"")
    (top / "sub" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "sub" / "run.sh").chmod(0o755)
    (top / "sub" / "deep" / "big").write_bytes(random.Random(2).randbytes(5 << 20))
    (top / "sub" / "up").symlink_to("../a.txt")
    os.utime(top / "a.txt", ns=(0, -1_234_567_890_123_456_789))
    os.utime(top / "empty", ns=(0, 1_000_000_001))
    return top


def read_back(store: Store, root: bytes, kind: Kind) -> dict[str, object]:
    """Path to content, for a whole root, with nothing but what a peer would get."""
    if kind is Kind.BLOB:
        return {"": blob(store, root)}
    found: dict[str, object] = {}
    waiting: list[tuple[str, bytes]] = [("", root)]
    while waiting:
        prefix, node_id = waiting.pop()
        assert store.in_root(root, node_id)
        data = store.manifest(node_id)
        assert data is not None
        node = m.decode(data, node_id)
        if isinstance(node, m.TreeIndex):
            waiting += [(prefix, page.node) for page in node.pages]
            continue
        assert isinstance(node, m.TreeLeaf)
        for entry in node.entries:
            name = prefix + entry.name
            if isinstance(entry, m.DirectoryEntry):
                found[name + "/"] = entry.mtime_ns
                waiting.append((name + "/", entry.tree))
            elif isinstance(entry, m.LinkEntry):
                found[name] = entry.target
            else:
                data = blob(store, entry.blob) if entry.blob else chunks(store, m.unpack_chunks(entry.chunks))
                assert len(data) == entry.size
                found[name] = (entry.executable, entry.mtime_ns, data)
    return found


def blob(store: Store, node_id: bytes) -> bytes:
    data = store.manifest(node_id)
    assert data is not None
    node = m.decode(data, node_id)
    return b"".join(blob(store, child.id) for child in m.children(node)) + chunks(store, m.leaf_chunks(node))


def chunks(store: Store, wanted: list[m.Chunk]) -> bytes:
    pieces = list(store.read_chunks(wanted))
    assert all(isinstance(piece, bytes) for piece in pieces)
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def expected(top: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name + "/"] = path.stat().st_mtime_ns
        else:
            found[name] = (os.access(path, os.X_OK), path.stat().st_mtime_ns, path.read_bytes())
    return found


def test_a_folder_comes_back_whole(store: Store, shared: Path) -> None:
    done = import_path(store, shared)
    assert (done.kind, done.name, done.files, done.skipped) == (Kind.TREE, "shared", 4, [])
    assert done.bytes == 5 + 10 + (5 << 20)
    assert read_back(store, done.root, done.kind) == expected(shared)
    (root,) = store.roots()
    assert (root.id, root.files, root.bytes, root.paths) == (done.root, done.files, done.bytes, (shared,))


@pytest.mark.parametrize("size", [0, 1, 32768, 32769, 524_288, 3 << 20])
def test_a_single_file_comes_back(store: Store, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(size).randbytes(size))
    path.chmod(0o700)
    done = import_path(store, path)
    assert (done.kind, done.files, done.bytes, done.executable) == (Kind.BLOB, 1, size, True)
    assert done.mtime_ns == path.stat().st_mtime_ns
    assert read_back(store, done.root, done.kind) == {"": path.read_bytes()}


def test_a_large_file_in_segments_is_the_same_content(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(3).randbytes(20 << 20))
    whole = import_path(store, path).root
    monkeypatch.setattr(hashing, "SEGMENT_BYTES", 3 << 20)
    again = Store.open(tmp_path / "other" / "db")
    assert import_path(again, path, workers=3).root == whole
    assert read_back(again, whole, Kind.BLOB) == {"": path.read_bytes()}
    again.close()


def test_the_same_tree_has_the_same_id_anywhere(store: Store, shared: Path, tmp_path: Path) -> None:
    first = import_path(store, shared)
    copy = tmp_path / "elsewhere" / "other name"
    shutil.copytree(shared, copy, symlinks=True)
    shutil.copystat(shared / "empty", copy / "empty")
    assert import_path(store, copy, workers=1).root == first.root
    (root,) = store.roots()
    assert set(root.paths) == {shared, copy}


def test_unchanged_files_are_not_read_again(store: Store, shared: Path) -> None:
    first = import_path(store, shared, clock=later)
    assert first.bytes_read == first.bytes
    assert import_path(store, shared).bytes_read == 0
    (shared / "a.txt").write_bytes(b"other")
    second = import_path(store, shared)
    assert second.bytes_read == 5
    assert second.root != first.root
    assert read_back(store, second.root, second.kind) == expected(shared)


def test_a_file_that_turned_out_changed_is_read_again(store: Store, shared: Path) -> None:
    path = shared / "a.txt"
    before = path.stat()
    first = import_path(store, shared, clock=later)
    path.write_bytes(b"HELLO")
    os.utime(path, ns=(0, before.st_mtime_ns))
    (unavailable,) = store.read_chunks([(importer.manifests.node_id(b"hello"), 5)])
    assert unavailable == ChunkUnavailable(path, "changed after it was shared")
    assert store.changed_files(first.root) == [path]
    second = import_path(store, shared)
    assert second.bytes_read == 5
    assert store.changed_files(second.root) == []


def test_equal_content_is_stored_once(store: Store, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(10):
        (top / str(number)).write_bytes(b"the same")
    import_path(store, top)
    usage = store.usage()
    assert (usage.files, usage.chunks, usage.unique_bytes, usage.referenced_bytes) == (10, 1, 8, 80)


def test_what_cannot_be_shared_is_listed_and_the_rest_arrives(store: Store, shared: Path) -> None:
    os.mkfifo(shared / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(shared / "sock"))
    listener.close()
    (shared / "out").symlink_to("/etc/passwd")
    (shared / "up").symlink_to("..")
    with open(os.fsencode(shared) + b"/\xff\xfe", "wb"):
        pass
    (shared / ".coterie-partial-x-1").mkdir()
    (shared / ".coterie-partial-x-1" / "data").write_bytes(b"unfinished")
    (shared / ".coterie-versions-x").mkdir()
    (shared / ".coterie-versions-x" / "abc-mine").write_bytes(b"replaced")
    done = import_path(store, shared)
    assert {os.path.basename(skipped.path) for skipped in done.skipped} == {
        "pipe", "sock", "out", "up", "\udcff\udcfe", ".coterie-partial-x-1",
        ".coterie-versions-x",
    }  # fmt: skip
    reasons = {os.path.basename(skipped.path): skipped.reason for skipped in done.skipped}
    assert reasons["pipe"] == "a named pipe"
    assert reasons["sock"] == "a socket"
    assert "lead out" in reasons["out"]
    assert "UTF-8" in reasons["\udcff\udcfe"]
    assert done.files == 4


def test_files_that_cannot_be_read_are_listed(
    store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = no_links.open_file

    def refuse(path: object, *args: object, **options: object) -> int:
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(no_links, "open_file", refuse)
    done = import_path(store, shared)
    assert [(os.path.basename(s.path), s.reason) for s in done.skipped] == [
        ("a.txt", "unreadable: Permission denied")
    ]
    assert done.files == 3


def test_a_file_that_goes_away_is_listed(store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importer.scan

    def then_remove(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        (shared / "a.txt").unlink()
        return found

    monkeypatch.setattr(importer, "scan", then_remove)
    assert [os.path.basename(skipped.path) for skipped in import_path(store, shared).skipped] == ["a.txt"]


@pytest.mark.parametrize("size", [100, 100_000, 9 << 20])
def test_a_file_that_changed_meanwhile_is_read_once_more(
    store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(hashing, "SEGMENT_BYTES", 4 << 20)
    (shared / "late").write_bytes(b"first")
    real = importer.scan

    def then_change(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        (shared / "late").write_bytes(random.Random(1).randbytes(size))
        return found

    monkeypatch.setattr(importer, "scan", then_change)
    done = import_path(store, shared)
    assert done.skipped == []
    assert read_back(store, done.root, done.kind) == expected(shared)


@pytest.mark.parametrize("size", [100, 100_000, 9 << 20])
def test_a_file_that_keeps_changing_is_left_out(
    store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(hashing, "SEGMENT_BYTES", 4 << 20)
    path = shared / "log"
    path.write_bytes(bytes(size))
    real = no_links.open_file

    def change_and_open(opened: str, *args: int) -> int:
        fd = real(opened, *args)
        if opened == str(path):
            with path.open("ab") as log:
                log.write(b"more")
        return fd

    monkeypatch.setattr(no_links, "open_file", change_and_open)
    done = import_path(store, shared)
    assert [(s.path, s.reason) for s in done.skipped] == [(str(path), "it keeps changing while it is read")]
    assert done.files == 4


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the shared one, with the names of what is in its `sub`."""
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "run.sh").write_bytes(b"secret\n")
    (tmp_path / "outside" / "deep" / "big").write_bytes(b"secret\n" * 1_000_000)
    return tmp_path / "outside"


def put_link(shared: Path, outside: Path) -> None:
    (shared / "sub").rename(shared.parent / "aside")
    (shared / "sub").symlink_to(outside)


def test_a_link_in_place_of_a_folder_that_was_found_leads_nowhere(
    store: Store, shared: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importer.scan

    def then_put_link(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        put_link(shared, outside)
        return found

    monkeypatch.setattr(importer, "scan", then_put_link)
    done = import_path(store, shared)
    assert {os.path.basename(skipped.path) for skipped in done.skipped} == {"run.sh", "big"}
    assert all("symbolic link" in skipped.reason for skipped in done.skipped)
    assert not any(
        b"secret" in data
        for data in read_back(store, done.root, done.kind).values()
        if isinstance(data, bytes)
    )


def test_a_link_in_place_of_a_folder_about_to_be_listed_leads_nowhere(shared: Path, outside: Path) -> None:
    skipped: list[scanning.Skipped] = []
    looks = iter(range(10))

    def check() -> None:
        if next(looks) == 1:  # the top was listed
            put_link(shared, outside)

    found = scanning.scan(str(shared), 0, frozenset(), skipped.append, check)
    assert not any(file.name in ("run.sh", "big") for folder in found for file in folder.files)
    assert [(Path(s.path).name, "symbolic link" in s.reason) for s in skipped] == [("sub", True)]


def test_folders_too_deep_are_listed(store: Store, tmp_path: Path) -> None:
    top = tmp_path / "top"
    deepest = top.joinpath(*["d"] * (m.DEPTH_MAX + 1))
    deepest.mkdir(parents=True)
    (deepest / "lost").write_bytes(b"x")
    (deepest.parent / "kept").write_bytes(b"x")
    done = import_path(store, top)
    assert [skipped.reason for skipped in done.skipped] == [f"more than {m.DEPTH_MAX} folders deep"]
    assert done.files == 1


def test_a_path_through_a_link_is_followed(store: Store, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared)
    done = import_path(store, tmp_path / "link")
    assert done.name == "shared"
    assert done.files == 4


def test_coteries_own_data_is_not_shared(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    done = import_path(store, tmp_path, exclude=[tmp_path / "secret"])
    assert {Path(skipped.path).name for skipped in done.skipped} == {"home", "secret"}
    assert done.files == 1
    for own in (tmp_path / "home", tmp_path / "home" / "content.db"):
        with pytest.raises(UsageError, match="own data"):
            import_path(store, own)


def test_what_is_not_there_or_no_file_is_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        import_path(store, tmp_path / "none")
    with pytest.raises(UsageError, match="neither"):
        import_path(store, "/dev/null")
    with pytest.raises(UsageError, match="UTF-8"):
        import_path(store, os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))


def test_a_single_file_that_cannot_be_read_is_an_error(
    store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(no_links, "open_file", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        import_path(store, shared / "a.txt")


def test_progress_ends_at_the_totals(store: Store, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "PROGRESS_INTERVAL_S", 0.0)
    monkeypatch.setattr(hashing, "BATCH_FILES", 1)
    seen: list[ImportProgress] = []
    done = import_path(store, shared, progress=seen.append)
    assert (seen[-1].files, seen[-1].bytes) == (done.files, done.bytes)
    assert (seen[-1].files_total, seen[-1].bytes_total) == (done.files, done.bytes)
    assert [one.bytes for one in seen] == sorted(one.bytes for one in seen)


def test_progress_ends_at_the_totals_where_all_but_a_little_was_known(store: Store, shared: Path) -> None:
    import_path(store, shared)
    (shared / "new.txt").write_text("new")
    seen: list[ImportProgress] = []
    done = import_path(store, shared, progress=seen.append)
    assert (seen[-1].bytes, seen[-1].bytes_total) == (done.bytes, done.bytes)


@pytest.mark.parametrize("many", [True, False])
def test_cancelling_is_quick_and_what_was_read_is_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(importer, "PROGRESS_INTERVAL_S", 0.0)
    top = tmp_path / "top"
    top.mkdir()
    for number in range(3000 if many else 4):
        (top / f"{number}").write_bytes(random.Random(number).randbytes(1000 if many else 40 << 20))
    cancel = threading.Event()
    at: list[float] = []

    def stop(progress: ImportProgress) -> None:
        if progress.files >= (1000 if many else 1) and not at:
            at.append(time.monotonic())
            cancel.set()

    with pytest.raises(ImportCancelled):
        import_path(store, top, progress=stop, cancel=cancel)
    assert time.monotonic() - at[0] < 0.5
    assert store.roots() == []
    whole = import_path(store, top)
    assert whole.bytes_read < whole.bytes
    assert len(read_back(store, whole.root, whole.kind)) == whole.files


def test_cancelling_before_it_began(store: Store, shared: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(ImportCancelled):
        import_path(store, shared, cancel=cancel)


def test_garbage_collection_beside_an_import_takes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "PROGRESS_INTERVAL_S", 0.0)
    monkeypatch.setattr(importer, "COMMIT_FILES_MAX", 1)
    top = tmp_path / "top"
    top.mkdir()
    for number in range(600):
        (top / f"{number}").write_bytes(b"%d" % number)
    collected = []
    done = import_path(store, top, progress=lambda _: collected.append(store.collect_garbage().files))
    assert collected
    assert sum(collected) == 0
    assert len(read_back(store, done.root, done.kind)) == 600


KILLED = """
import sys
from pathlib import Path
from coterie.content import Store, import_path, importer, hashing
importer.COMMIT_FILES_MAX = 50
hashing.BATCH_FILES = 20
store = Store.open(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for root in store.roots():
        store.forget_root(root.id)
    store.collect_garbage()
    import_path(store, sys.argv[2])
"""


def test_killed_at_any_moment_the_store_is_usable(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for number in range(800):
        path = top / f"d{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(number).randbytes(number * 50))
    database = tmp_path / "home" / "db"
    moments = random.Random(11)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(database), str(top)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            threading.Event().wait(moments.uniform(0.0, 0.3))  # the moment is the point of the test
            process.send_signal(signal.SIGKILL)
        store = Store.open(database)
        for root in store.roots():
            assert len(read_back(store, root.id, root.kind)) == 807
        store.close()
    store = Store.open(database)
    done = import_path(store, top)
    assert read_back(store, done.root, done.kind) == expected(top)
    store.close()


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not tell what was read")
def test_a_sparse_file_is_shared_without_reading_its_holes(store: Store, tmp_path: Path) -> None:
    size, data = 10_000_000_000, random.Random(3).randbytes(1 << 20)
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        os.truncate(file.fileno(), size)
        file.seek(6_000_000_001)
        file.write(data)
    if disk.stat().st_blocks * 512 > 100 << 20:
        pytest.skip("this file system has no holes")

    def read_so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read_so_far()
    imported = import_path(store, disk)
    assert read_so_far() - before < 200 << 20
    assert imported.bytes == size
    full = tmp_path / "full.img"  # the same where there is no hole: one content
    with full.open("wb") as file:
        file.write(bytes(40 << 20) + data + bytes((20 << 20) + 1))
    hollow = tmp_path / "hollow.img"
    with hollow.open("wb") as file:
        os.truncate(file.fileno(), full.stat().st_size)
        file.seek(40 << 20)
        file.write(data)
    assert import_path(store, hollow).root == import_path(store, full).root
