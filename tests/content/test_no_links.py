"""Files of shares are opened through no symbolic link, by each of the ways that systems have."""

import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.content import ChunkUnavailable, Store, import_path, no_links
from coterie.content import manifest as m
from coterie.content.bittorrent.hashing import hash_files
from coterie.content.bittorrent.torrent_file import TorrentEntry
from coterie.content.reader import CHANGED
from coterie.errors import StorageError
from tests.fakes.opened import never_opened


@pytest.fixture(params=["one call", "descriptors", "paths"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the system does it: Linux, others with descriptors of folders, and those without."""
    if request.param != "one call":
        monkeypatch.setattr(no_links, "_LIBC", None)
    if request.param == "paths":
        monkeypatch.setattr(no_links, "_HAS_DIR_FD", False)
        monkeypatch.setattr(no_links.os, "supports_fd", frozenset())


@pytest.fixture
def share(tmp_path: Path) -> Path:
    top = Path(os.path.realpath(tmp_path)) / "share"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    shutil.copytree(top / "sub", top.parent / "outside")
    return top


def link_the_folder(share: Path) -> None:
    (share / "sub").rename(share.parent / "aside")
    (share / "sub").symlink_to(share.parent / "outside")


def link_the_file(share: Path) -> None:
    (share / "sub" / "file").unlink()
    (share / "sub" / "file").symlink_to(share.parent / "outside" / "file")


def link_what_is_above(share: Path) -> None:
    aside = share.with_name("moved")
    share.rename(aside)
    share.symlink_to(aside)


LINKS = pytest.mark.parametrize("put", [link_the_folder, link_the_file, link_what_is_above])


@LINKS
def test_nothing_is_opened_through_a_link(share: Path, put: Callable[[Path], None]) -> None:
    path = share / "sub" / "file"
    assert no_links.status(path).st_size == 7
    put(share)
    with pytest.raises(OSError) as refused:
        no_links.open_file(path)
    assert refused.value.errno == errno.ELOOP


def test_a_folder_that_is_held_is_the_same_whatever_takes_its_place(share: Path) -> None:
    with no_links.held(share / "sub") as folder:
        if folder == share / "sub":
            pytest.skip("this system has no lasting paths")
        link_the_folder(share)
        (folder / "new").write_bytes(b"")
        with pytest.raises(FileNotFoundError):
            (folder / "no").stat()
    assert (share.parent / "aside" / "new").exists()
    assert not (share.parent / "outside" / "new").exists()
    with pytest.raises(OSError) as refused, no_links.held(share / "sub"):
        pass
    assert refused.value.errno == errno.ELOOP


def test_errors_within_a_folder_that_is_held_name_its_own_path(share: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, no_links.held(share / "sub") as folder:
        (folder / "no").stat()
    assert missing.value.filename == str(share / "sub" / "no")


def test_what_is_not_there_is_said_as_ever(share: Path) -> None:
    for path in (share / "no", share / "no" / "file", share / "sub" / "file" / "below"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            no_links.open_file(path)


def test_the_entries_of_a_folder(share: Path) -> None:
    with no_links.entries(str(share)) as (found, _):
        assert [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found] == [("sub", True)]
    link_the_folder(share)
    with pytest.raises(OSError), no_links.entries(str(share / "sub")):
        pass


@LINKS
def test_a_share_serves_nothing_through_a_link_that_came_later(
    tmp_path: Path, share: Path, put: Callable[[Path], None]
) -> None:
    with Store.open(tmp_path / "home" / "content.db") as store:
        shared = import_path(store, share)
        (leaf,) = [entry for entry in _entries(store, shared.root) if isinstance(entry, m.DirectoryEntry)]
        chunks = store.chunks_of(leaf.tree)
        assert list(store.read_chunks(chunks)) == [b"content"]
        put(share)
        (answer,) = store.read_chunks(chunks)
        assert isinstance(answer, ChunkUnavailable)
        assert answer.reason == CHANGED


def _entries(store: Store, root: bytes) -> tuple[m.Entry, ...]:
    node = m.decode(store.manifest(root) or b"")
    assert isinstance(node, m.TreeLeaf)
    return node.entries


@LINKS
def test_a_torrent_is_made_of_nothing_behind_a_link(share: Path, put: Callable[[Path], None]) -> None:
    entries = [TorrentEntry(("sub", "file"), 7, False)]
    assert hash_files(share, entries, 16384, is_folder=True)
    put(share)
    with pytest.raises(StorageError, match="symbolic link"):
        hash_files(share, entries, 16384, is_folder=True)


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="Linux")
def test_pipes_sockets_and_devices_are_looked_at_and_never_opened(tmp_path: Path) -> None:
    top = Path(os.path.realpath(tmp_path))
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))
        for path in (top / "pipe", top / "socket", Path("/dev/null")):
            with never_opened(path):
                assert not stat.S_ISREG(no_links.status(path).st_mode)
                with pytest.raises(OSError, match="No such device"):
                    no_links.open_file(path)
    (top / "link").symlink_to("pipe")
    for ask in (no_links.status, no_links.open_file):
        with pytest.raises(OSError) as said:
            ask(top / "link")
        assert said.value.errno == errno.ELOOP


def test_the_status_of_a_file_takes_no_walk_where_one_call_does_it(
    share: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A tree that arrived has each file looked at: a walk from the root is ten times as many calls."""
    if no_links._LIBC is None or not hasattr(os, "O_PATH"):  # a system without that call
        pytest.skip("no openat2 here")

    def refuse(*args: object, **options: object) -> int:
        raise AssertionError("opened folder by folder")

    monkeypatch.setattr(no_links.os, "open", refuse)
    assert no_links.status(share / "sub" / "file").st_size == len(b"content")
