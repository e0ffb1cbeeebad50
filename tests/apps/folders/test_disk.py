"""A live folder on disks with rules of their own: exFAT, NTFS, and one that folds letters as Macs do."""

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coterie.apps.folders.applying import Done, Failed
from coterie.apps.folders.hints import ALL
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.steps import MakeLink, Move, MoveFolder
from tests.apps.folders.live import Live, content_of, paths
from tests.fakes.disks import odd_disk, real_disk


@contextmanager
def on(tmp_path: Path, kind: str) -> Iterator[Live]:
    """A live folder on such a disk."""
    disk = odd_disk(tmp_path, decomposes=True) if kind == "nfd" else real_disk(tmp_path, kind)
    with disk as mounted:
        (mounted / "folder").mkdir()
        yield Live(mounted / "folder", tmp_path)


@pytest.mark.parametrize("kind", ["exfat", "ntfs", "ntfs-case", "nfd"])
def test_everything_that_is_done_on_a_disk_is_done_on_odd_ones(tmp_path: Path, kind: str) -> None:
    with on(tmp_path, kind) as live:
        assert isinstance(live.make_folder("a"), Done)
        assert isinstance(live.put("a/x", b"1"), Done)
        assert not live.disk.scan(ALL).found  # what was done is known, whatever the disk made of its date
        assert isinstance(live.put("a/x", b"22", expects=live.print("a/x")), Done)
        assert isinstance(live.do(Move("a/x", "y", live.print("a/x"))), Done)
        assert live.files() == {"y": b"22"}
        assert not live.disk.scan(ALL).found
        assert list(live.kept().values()) == [b"1"]
        (live.path / "y").write_bytes(b"333")
        assert set(live.scan(paths("y")).found) == {"y"}
        assert live.here["y"].content == content_of(b"333")
        assert isinstance(live.remove("y"), Done)
        assert not live.files()
        assert sorted(live.kept().values()) == [b"1", b"333"]
        assert not live.left()
        link = live.do(MakeLink("link", "link", Value(Kind.LINK, target="a")))
        assert isinstance(link, Done) is live.disk.facts.links
        assert isinstance(link, Done) or (isinstance(link, Failed) and link.code == "name")
        assert not live.disk.scan(ALL).found


def test_names_that_differ_in_case_only_are_renamed_in_place(tmp_path: Path) -> None:
    with on(tmp_path, "exfat") as live:
        made = live.make_folder("folder")
        assert isinstance(made, Done)
        folder = made.print
        assert folder is not None
        live.put("folder/report.txt", b"1")
        assert isinstance(
            live.do(Move("folder/report.txt", "folder/REPORT.txt", live.print("folder/report.txt"))), Done
        )
        assert os.listdir(live.path / "folder") == ["REPORT.txt"]
        assert isinstance(live.do(MoveFolder("folder", "Folder", folder)), Done)
        assert "Folder" in os.listdir(live.path)
        assert not live.disk.scan(ALL).found
        os.rename(live.path / "Folder/REPORT.txt", live.path / "Folder/between")
        os.rename(live.path / "Folder/between", live.path / "Folder/report.TXT")
        found = live.disk.scan(paths("Folder/REPORT.txt", "Folder/report.TXT")).found
        assert found["Folder/REPORT.txt"] is None
        assert found["Folder/report.TXT"] is not None


def test_letters_have_one_form_whatever_the_disk_keeps(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "für/é.txt")
    with on(tmp_path, "nfd") as live:
        (live.path / composed).parent.mkdir()
        (live.path / composed).write_bytes(b"1")
        assert os.listdir(live.path)[-1] != composed.partition("/")[0]
        live.scan(paths(unicodedata.normalize("NFD", composed)))
        assert set(live.here) == {"für", composed}
        assert isinstance(live.put(composed, b"2", expects=live.print(composed)), Done)
        assert not live.disk.scan(ALL).found


def test_a_disk_whose_inodes_do_not_last_is_known_by_sizes_and_dates(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path)
    (live.path / "x").write_bytes(b"1")
    live.scan()
    marker = live.path / ".coterie-folder/id"
    inode = f'"inode":{os.stat(marker.parent).st_ino}'.encode()
    assert inode in marker.read_bytes()
    marker.write_bytes(
        marker.read_bytes().replace(inode, b'"inode":1')
    )  # another one after the disk was put in again
    again = Live(live.path, tmp_path)
    again.disk.remember((local, here.print) for local, here in live.here.items())
    assert not again.disk.facts.inodes
    assert not again.scan().found
    assert isinstance(again.put("y", b"2"), Done)
    assert again.print("y").inode == 0
    assert isinstance(again.put("y", b"3", expects=again.print("y")), Done)
    assert Live(live.path, tmp_path).disk.facts.inodes
