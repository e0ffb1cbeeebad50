"""Downloads onto disks with rules of their own: what cannot be there is renamed or listed, the rest arrives."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content.names import ANY_NAME
from coterie.errors import StorageError
from coterie.net import MemoryNetwork
from coterie.transfer.results import Received
from tests.apps.files.nodes import memory_node
from tests.fakes.disks import FORMATS, odd_disk, real_disk, set_rules
from tests.support import run

LARGE = 3 << 20  # more than one chunk


def files_of(top: Path) -> dict[str, bytes]:
    return {
        p.relative_to(top).as_posix(): p.read_bytes()
        for p in top.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


async def brought(source: Path, target: Path, work: Path, **options: object) -> Received:
    """Share `source` on one node and get it on another."""
    network = MemoryNetwork()
    async with (
        memory_node(network, work / "home-anna") as anna,
        memory_node(network, work / "home-ben") as ben,
    ):
        shared = await anna.files.share(source)
        return await ben.files.get(shared.ticket, target, **options)


def source_with(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "source"


@pytest.fixture(params=list(FORMATS))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with real_disk(tmp_path, request.param) as mounted:
        yield mounted


ODD = {
    "a:b": b"1",
    "what?": b"2",
    "end.": b"3",
    "end ": b"4",
    "end": b"5",
    "aux.txt": b"6",
    "Case": b"7",
    "case": b"8",
}
ODD |= {"folder. /in:it": b"9", "plain/x": b"10", "large": bytes(range(256)) * (LARGE // 256)}


def test_a_tree_of_names_that_the_disk_cannot_hold_arrives_whole(tmp_path: Path, disk: Path) -> None:
    source = source_with(tmp_path, ODD)
    (source / "link").symlink_to("plain/x")

    async def main() -> None:
        received = await brought(source, disk / "copy", tmp_path)
        found = files_of(disk / "copy")
        assert sorted(found.values()) == sorted(ODD.values())
        assert found["plain/x"] == b"10"
        assert {one.path for one in received.failed} <= {"link"}
        assert bool(received.failed) is not (disk / "copy" / "link").is_symlink()
        names = {name.lower() for name in found}  # one of the disks keeps all in lower case
        assert names >= {"a%3ab", "what%3f", "large", "end", "case"}
        again = await brought(source, disk / "copy", tmp_path, on_existing="overwrite")
        assert files_of(disk / "copy") == found
        assert (again.new, again.replaced) == (0, 0)
        assert os.listdir(disk) == ["copy"] or set(os.listdir(disk)) <= {"copy", "System Volume Information"}

    run(main())


def test_a_share_whose_own_name_the_disk_cannot_hold(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "what?").write_bytes(b"this")

    async def main() -> None:
        received = await brought(tmp_path / "what?", disk, tmp_path)
        assert Path(received.path) == disk / "what%3F"
        assert Path(received.path).read_bytes() == b"this"

    run(main())


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ({"trims": True}, ["meeting", "meeting.", "meeting..", "folder/x", "folder./y"]),
        ({"aliases": True}, ["progress report.txt", "progre~1.txt"]),
        ({"decomposes": True}, ["\u00e9.txt", "e\u0301.txt"]),
        ({"folds_case": True}, ["A/x", "a/x", "B", "b"]),
    ],
)
def test_names_that_the_disk_takes_for_one_are_files_of_their_own(
    tmp_path: Path, rules: dict[str, object], names: list[str]
) -> None:
    files = {name: f"{number} {name}".encode() for number, name in enumerate(names)}
    source = source_with(tmp_path, files)

    async def main() -> None:
        with odd_disk(tmp_path, **rules) as disk:
            received = await brought(source, disk / "copy", tmp_path)
            assert sorted(files_of(disk / "copy").values()) == sorted(files.values())
            assert received.changed_names
            assert not received.failed

    run(main())


def test_a_collision_that_no_trial_foresees_is_listed_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes names for one by a rule that is not tried: here because nothing is."""
    monkeypatch.setattr("coterie.content.writer.rules_of", lambda _: ANY_NAME)
    large = bytes(range(256)) * (LARGE // 256)
    files = {
        "meeting": b"1",
        "meeting.": b"2",
        "large": large,
        "large.": large[::-1],
        "folder/x": b"3",
        "folder./x": b"4",
    }
    source = source_with(tmp_path, files)
    (source / "link").write_bytes(b"5")
    (source / "link.").symlink_to("meeting")

    async def main() -> None:
        with odd_disk(tmp_path, trims=True) as disk:
            received = await brought(source, disk / "copy", tmp_path)
            found = files_of(disk / "copy")
            assert sorted(found) == ["folder/x", "large", "link", "meeting"]
            assert set(found.values()) <= {*files.values(), b"5"}
            assert len(received.failed) == 4
            assert all("takes its name for that of another" in one.reason for one in received.failed)

    run(main())


def test_one_entry_that_the_disk_refuses_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.content.writer.rules_of", lambda _: ANY_NAME)
    files = {"ok": b"1", "bad!": b"2", "bad! folder/x": b"3", "too large": bytes(LARGE), "in/ok": b"4"}
    source = source_with(tmp_path, files)
    (source / "link").symlink_to("ok")

    async def main() -> None:
        with odd_disk(tmp_path, refused="!", no_links=True, file_bytes_max=LARGE - 1) as disk:
            received = await brought(source, disk / "copy", tmp_path)
            assert files_of(disk / "copy") == {"ok": b"1", "in/ok": b"4"}
            assert [one.path for one in received.failed] == ["bad!", "bad! folder", "link", "too large"]

    run(main())


def test_a_disk_that_is_full_or_fails_says_so_and_it_goes_on_afterwards(tmp_path: Path) -> None:
    files = {f"{number}": bytes([number]) * 40_000 for number in range(12)} | {"sick": b"sick" * 100}
    source = source_with(tmp_path, files)

    async def main() -> None:
        network = MemoryNetwork()
        with odd_disk(tmp_path, room_bytes=200_000) as disk:
            async with (
                memory_node(network, tmp_path / "home-anna") as anna,
                memory_node(network, tmp_path / "home-ben") as ben,
            ):
                shared = await anna.files.share(source)
                with pytest.raises(StorageError, match="disk full"):
                    await ben.files.get(shared.ticket, disk / "copy")
                set_rules(tmp_path, failing=["sick"])
                with pytest.raises(StorageError, match="Input/output error"):
                    await ben.files.get(shared.ticket, disk / "copy")
                assert not (disk / "copy").exists()
                set_rules(tmp_path)
                await ben.files.get(shared.ticket, disk / "copy")
                assert files_of(disk / "copy") == files
                assert os.listdir(disk) == ["copy"]

    run(main())
