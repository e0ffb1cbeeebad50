"""Receiving: nothing under the final name until it is complete, nothing outside the destination ever."""

import errno
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.content import Kind, LargeFile, Staging, TargetExists, check_space, discard_partial, partials
from coterie.content import file_steps as place
from coterie.content import manifest as m
from coterie.content.merge import Merge, Old
from coterie.content.names import WINDOWS
from coterie.content.refusals import EntryRefused
from coterie.content.versions import Versions
from coterie.content.writer import SPACE_RESERVE_BYTES, staging_path
from coterie.errors import StorageError, UsageError
from coterie.quantity import say_bytes

ROOT = b"\xab" * 32


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def staging(parent: Path) -> Iterator[Staging]:
    opened = Staging.open(parent, "tree", ROOT, Kind.TREE, 1000)
    yield opened
    opened.close()


def small(
    staging: Staging, folder: tuple[str, ...], name: str, data: bytes, executable: bool = False
) -> None:
    staging.write_small(folder, name, [data], executable=executable, mtime_ns=5)


def overwriting(parent: Path) -> Merge:
    return Merge(Versions(parent.parent / "versions"), lambda _: Old.KEEP, why="", source="", mark="mine")


def chunk(piece: bytes) -> m.Chunk:
    return blake3(piece).digest(), len(piece)


def listing(top: Path) -> dict[str, object]:
    return {
        str(path.relative_to(top)): os.readlink(path)
        if path.is_symlink()
        else path.is_dir() or path.read_bytes()
        for path in top.rglob("*")
    }


def test_what_is_done_while_a_tree_is_flushed_sees_all_of_it_before_it_has_its_name(
    staging: Staging, parent: Path
) -> None:
    small(staging, ("a",), "x", b"hello")
    seen: list[tuple[bool, bytes]] = []

    def meanwhile() -> None:
        staged = staging.path / "data" / "a" / "x"
        seen.append(((parent / "tree").exists(), staged.read_bytes()))

    staging.finish(meanwhile=meanwhile)
    assert seen == [(False, b"hello")]
    assert (parent / "tree" / "a" / "x").read_bytes() == b"hello"


def test_a_tree_that_the_disk_does_not_take_gets_no_name(
    staging: Staging, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    small(staging, (), "x", b"hello")
    monkeypatch.setattr(place, "flush_tree", fail)
    seen: list[bool] = []
    with pytest.raises(StorageError, match="Input/output error"):
        staging.finish(meanwhile=lambda: seen.append(True))
    assert seen == [True]
    assert os.listdir(parent) == [staging.path.name]


def test_a_tree_appears_whole_under_its_name(staging: Staging, parent: Path) -> None:
    staging.make_folder(("empty",), 1_000_000_007)
    staging.make_folder(("a",), 3_000_000_007)
    staging.make_folder(("a", "b"), 2_000_000_007)
    staging.add_link(("a",), "link", "../x")
    small(staging, (), "x", b"hello")
    staging.write_small(("a", "b"), "run", [b"#!", b"sh"], executable=True, mtime_ns=-7)
    small(staging, ("c",), "no folder was made for it", b"")
    assert os.listdir(parent) == [staging.path.name]
    assert staging.finish() == parent / "tree"
    assert os.listdir(parent) == ["tree"]
    top = parent / "tree"
    assert listing(top) == {
        "empty": True, "a": True, "a/b": True, "a/link": "../x", "x": b"hello", "a/b/run": b"#!sh", "c": True,
        "c/no folder was made for it": b"",
    }  # fmt: skip
    assert [(top / name).stat().st_mtime_ns for name in ("empty", "a/b", "a", "x", "a/b/run")] == [
        1_000_000_007, 2_000_000_007, 3_000_000_007, 5, -7,
    ]  # fmt: skip
    assert [os.access(top / name, os.X_OK) for name in ("a/b/run", "x")] == [True, False]


def test_a_single_file_appears_whole(parent: Path) -> None:
    staging = Staging.open(parent, "file", ROOT, Kind.BLOB, 5)
    file = staging.large_file((), "data", 5, executable=True)
    file.write_at(3, b"lo")
    file.write_at(0, b"hel")
    file.finish(77)
    staging.finish()
    assert (parent / "file").read_bytes() == b"hello"
    assert (parent / "file").stat().st_mtime_ns == 77
    assert (parent / "file").stat().st_mode & 0o100
    assert os.listdir(parent) == ["file"]


def test_a_small_single_file_in_one_go(parent: Path) -> None:
    staging = Staging.open(parent, "file", ROOT, Kind.BLOB, 5)
    small(staging, (), "data", b"hello")
    assert staging.finish().read_bytes() == b"hello"


def test_the_staging_area_is_for_its_owner_only(staging: Staging) -> None:
    assert staging.path.stat().st_mode & 0o777 == 0o700


def test_names_of_255_bytes(parent: Path) -> None:
    name = "é" * 127 + "x"
    staging = Staging.open(parent, name, ROOT, Kind.TREE, 1)
    small(staging, (name,), name, b"x")
    assert (staging.finish() / name / name).read_bytes() == b"x"


def test_deep_folders_beyond_the_longest_path(parent: Path) -> None:
    staging = Staging.open(parent, "deep", ROOT, Kind.TREE, 1)
    folder = tuple(f"{n:03}" * 20 for n in range(m.DEPTH_MAX))
    staging.make_folder(folder, 5)
    small(staging, folder, "x", b"found")
    small(staging, folder[:1], "y", b"found")
    assert (staging.finish() / folder[0] / "y").read_bytes() == b"found"


def test_many_folders_do_not_keep_many_descriptors(staging: Staging) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        small(staging, (f"{number % 50}", f"{number}"), "x", b"%d" % number)
    assert len(os.listdir("/proc/self/fd")) - before <= 40
    staging.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_nothing_is_written_through_a_link(staging: Staging, tmp_path: Path) -> None:
    """Even if somebody puts links into the staging area."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (staging.path / "data" / "folder").symlink_to(outside)
    (staging.path / "data" / "small").symlink_to(outside / "file")
    (staging.path / "data" / "large").symlink_to(outside / "file")
    with pytest.raises(StorageError):
        small(staging, ("folder",), "x", b"x")
    with pytest.raises(StorageError):
        small(staging, (), "small", b"x")
    with pytest.raises(StorageError):
        staging.large_file((), "large", 5, executable=False)
    assert listing(outside) == {"file": b"mine"}


# -- going on after an interruption --


def test_what_is_right_on_the_disk_is_found_again(parent: Path) -> None:
    pieces = [b"one", b"two", b"three", b"four"]
    chunks = [chunk(piece) for piece in pieces]
    with_first = Staging.open(parent, "file", ROOT, Kind.BLOB, 15)
    file = with_first.large_file((), "data", 15, executable=False)
    file.write_at(0, b"onetwX")
    file.write_at(6, b"thr")
    file.close()
    with_first.close()
    again = Staging.open(parent, "file", ROOT, Kind.BLOB, 15)
    file = again.large_file((), "data", 15, executable=False)
    assert file.matching_chunks(chunks) == [True, False, False, False]
    file.write_at(11, b"four")
    assert file.matching_chunks(chunks) == [True, False, False, True]
    file.write_at(3, b"twothree")
    file.finish(1)
    assert again.finish().read_bytes() == b"onetwothreefour"


def test_bytes_behind_the_end_are_cut_off(parent: Path) -> None:
    staging = Staging.open(parent, "file", ROOT, Kind.BLOB, 15)
    file = staging.large_file((), "data", 15, executable=False)
    file.write_at(0, b"x" * 15)
    file.close()
    file = staging.large_file((), "data", 5, executable=True)
    assert staging.path.joinpath("data").stat().st_mode & 0o100
    file.write_at(0, b"hello")
    file.finish(1)
    assert staging.finish().read_bytes() == b"hello"


def test_small_files_are_found_again_only_when_every_byte_is_right(parent: Path) -> None:
    first = Staging.open(parent, "tree", ROOT, Kind.TREE, 9)
    small(first, ("a",), "right", b"hello")
    small(first, ("a",), "wrong", b"hellO")
    small(first, ("a",), "long", b"hello!")
    small(first, ("a",), "mode", b"hello", executable=True)
    first.close()
    again = Staging.open(parent, "tree", ROOT, Kind.TREE, 9)

    def right(name: str) -> bool:
        return again.small_is_right(
            ("a",), name, [chunk(b"hel"), chunk(b"lo")], executable=False, mtime_ns=99
        )

    found = [name for name in ("right", "wrong", "long", "mode", "none") if right(name)]
    assert found == ["right", "mode"]
    small(again, ("a",), "long", b"hello")
    top = again.finish()
    assert (top / "a" / "right").stat().st_mtime_ns == 99
    assert (top / "a" / "long").read_bytes() == b"hello"
    assert not os.access(top / "a" / "mode", os.X_OK)


def test_what_earlier_runs_left_is_found_and_what_is_not_wanted_is_not_delivered(parent: Path) -> None:
    for name in ("first", "both", "unwanted"):
        staging = Staging.open(parent, "tree", ROOT, Kind.TREE, 9)
        small(staging, ("a",), name, name.encode())
        small(staging, (), "again", name.encode())
        staging.close()
    staging = Staging.open(parent, "tree", ROOT, Kind.TREE, 9)
    found = [
        staging.small_is_right(folder, name, [chunk(data)], executable=False, mtime_ns=1)
        for folder, name, data in (
            (("a",), "first", b"first"),
            (("a",), "both", b"both"),
            ((), "again", b"first"),
        )
    ]
    assert found == [True, True, False]
    small(staging, (), "again", b"new")
    assert listing(staging.finish()) == {"a": True, "a/first": b"first", "a/both": b"both", "again": b"new"}


def test_a_name_that_this_run_used_is_not_taken_for_something_left(staging: Staging) -> None:
    small(staging, (), "small", b"1")
    staging.large_file((), "large", 5, executable=False).close()
    staging.make_folder(("folder",), 1)
    for again in (
        lambda: small(staging, (), "small", b"2"),
        lambda: staging.large_file((), "small", 5, executable=False),
        lambda: staging.large_file((), "large", 5, executable=False),
        lambda: staging.make_folder(("folder",), 1),
        lambda: staging.make_folder(("small",), 1),
    ):
        with pytest.raises(EntryRefused) as refused:
            again()
        assert refused.value.reason == "this disk takes its name for that of another"
    staging.large_file((), "large", 5, executable=False, again=True).close()
    staging.add_link((), "small", "large")
    top = staging.finish()
    assert (top / "small").read_bytes() == b"1"
    assert [parts for parts, _ in staging.refused] == [("small",)]


def test_a_target_that_the_disk_cannot_hold_is_said_before_anything_is_fetched(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.content.writer.rules_of", lambda _: WINDOWS)
    with pytest.raises(UsageError, match="cannot hold the name 'a:b'"):
        Staging.open(parent, "a:b", ROOT, Kind.TREE, 1)


def test_two_transfers_do_not_share_a_staging_area(staging: Staging, parent: Path) -> None:
    with pytest.raises(StorageError, match="another transfer"):
        Staging.open(parent, "tree", ROOT, Kind.TREE, 1)
    Staging.open(parent, "tree", b"\xac" * 32, Kind.TREE, 1).close()
    staging.close()
    Staging.open(parent, "tree", ROOT, Kind.TREE, 1).close()


def test_after_closing_nothing_is_written(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.close()
    monkeypatch.chdir(tmp_path)
    for act in (
        lambda: small(staging, (), "x", b"x"),
        lambda: staging.make_folder(("x",), 1),
        staging.finish,
    ):
        with pytest.raises(UsageError, match="closed"):
            act()


def test_writing_beyond_the_end_is_refused(staging: Staging) -> None:
    file = staging.large_file((), "x", 5, executable=False)
    with pytest.raises(UsageError):
        file.write_at(3, b"xyz")
    file.close()
    file.close()


def test_a_flush_in_the_background_does_not_disturb(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.content.large_file.FLUSH_BYTES", 1000)
    data = random.Random(1).randbytes(100_000)
    staging = Staging.open(parent, "file", ROOT, Kind.BLOB, len(data))
    file: LargeFile = staging.large_file((), "data", len(data), executable=False)
    for at in range(0, len(data), 700):
        file.write_at(at, data[at : at + 700])
    file.finish(1)
    assert staging.finish().read_bytes() == data


# -- the final name --


@pytest.fixture(params=["renameat2", "portable"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "portable":
        monkeypatch.setattr(place, "_LIBC", None)
    return str(request.param)


def ready(parent: Path, kind: Kind) -> Staging:
    staging = Staging.open(parent, "a.txt", ROOT, kind, 5)
    small(staging, (), "data" if kind is Kind.BLOB else "new", b"new")
    return staging


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("there", ["file", "folder", "empty folder", "link", "broken link"])
class TestWhatIsThere:
    """Every kind of content against everything that may stand under its name."""

    def put(self, target: Path, there: str) -> None:
        target.parent.mkdir(parents=True)
        if there == "file":
            target.write_bytes(b"old")
        elif "folder" in there:
            target.mkdir()
            if there == "folder":
                (target / "old").write_bytes(b"old")
        else:
            (target.parent.parent / "elsewhere").mkdir()
            target.symlink_to("../elsewhere" if there == "link" else "nowhere")

    def is_new(self, target: Path) -> bool:
        new = target if target.is_file() else target / "new"
        return not target.is_symlink() and new.read_bytes() == b"new"

    def test_is_never_replaced_silently(self, parent: Path, kind: Kind, there: str) -> None:
        self.put(parent / "a.txt", there)
        before = listing(parent)
        staging = ready(parent, kind)
        with pytest.raises(TargetExists, match="overwrite"):
            staging.finish()
        assert {name: what for name, what in listing(parent).items() if not name.startswith(".")} == before
        assert self.is_new(staging.finish(keep_both=True))

    def test_stays_when_both_are_kept(self, parent: Path, kind: Kind, there: str) -> None:
        self.put(parent / "a.txt", there)
        before = listing(parent)
        (parent / "a (2).txt").write_bytes(b"")
        target = ready(parent, kind).finish(keep_both=True)
        assert target.name == "a (3).txt"
        assert self.is_new(target)
        assert before.items() <= listing(parent).items()

    def test_is_replaced_when_that_was_asked_for(self, parent: Path, kind: Kind, there: str) -> None:
        self.put(parent / "a.txt", there)
        target = ready(parent, kind).finish(into=overwriting(parent).into)
        assert self.is_new(target)
        beside = kind is Kind.BLOB and "folder" in there  # a file takes no folder's place
        assert sorted(os.listdir(parent)) == (["a (2).txt", "a.txt"] if beside else ["a.txt"])
        if there == "folder":
            assert (parent / "a.txt" / "old").read_bytes() == b"old"
        elif there != "empty folder":
            (version,) = Versions(parent.parent / "versions").kept()
            assert version.original == parent / "a.txt"


@pytest.mark.parametrize("kind", Kind)
def test_what_an_older_version_left_half_replaced_is_given_back(parent: Path, kind: Kind) -> None:
    """Version 0.1 was killed between the swap and the removal of what stood there before."""
    staging = ready(parent, kind)
    staging.close()
    (staging.path / "leaving").mkdir()
    (staging.path / "leaving" / "mine").write_bytes(b"mine")
    (staging.path / "replaced").write_bytes(b"mine too")
    ready(parent, kind).finish()
    assert (parent / "a (2).txt" / "mine").read_bytes() == b"mine"
    assert (parent / "a (2) (2).txt").read_bytes() == b"mine too"


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("options", ["", "overwrite", "keep_both"])
@pytest.mark.parametrize("kind", Kind)
def test_a_free_name_is_taken(parent: Path, options: str, kind: Kind) -> None:
    into = overwriting(parent).into if options == "overwrite" else None
    assert ready(parent, kind).finish(keep_both=options == "keep_both", into=into) == parent / "a.txt"
    assert os.listdir(parent) == ["a.txt"]


def test_a_link_left_by_an_earlier_attempt_is_made_again(staging: Staging, parent: Path) -> None:
    (parent / "tree").mkdir()
    staging.add_link((), "l", "x")
    with pytest.raises(TargetExists):
        staging.finish()
    assert os.readlink(staging.finish(into=overwriting(parent).into) / "l") == "x"


# -- the destination --


def test_what_the_destination_folds_is_found_out(staging: Staging) -> None:
    (staging.path / "Probe").touch()
    assert staging.rules.folds_case == (staging.path / "pROBE").exists()
    assert not any(name.startswith("coterie-") for name in os.listdir(staging.path))


def test_a_parent_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        Staging.open(tmp_path / "file", "x", ROOT, Kind.TREE, 1)
    (tmp_path / "d").mkdir()
    staging_path(tmp_path / "d", "x", ROOT).write_bytes(b"")
    with pytest.raises(StorageError, match="in the way"):
        Staging.open(tmp_path / "d", "x", ROOT, Kind.TREE, 1)


def test_leftovers_are_listed_and_discarded(staging: Staging, parent: Path) -> None:
    small(staging, ("a",), "x", b"x" * 100_000)
    (parent / "unrelated").mkdir()
    (found,) = partials(parent)
    assert found.path == staging.path
    assert found.bytes >= 100_000
    staging.discard()
    assert partials(parent) == []
    discard_partial(found.path)
    with pytest.raises(UsageError):
        discard_partial(parent / "unrelated")
    assert (parent / "unrelated").exists()


def test_too_little_space_is_said_before(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(StorageError, match=r"disk full: .* free"):
        check_space(tmp_path, 1 << 60)


def test_the_room_that_is_to_stay_free_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("usage", (), {"free": SPACE_RESERVE_BYTES + 99})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    check_space(tmp_path, 99)
    if Path("/proc/self").exists():
        with pytest.raises(StorageError, match="/proc is no place for files"):
            check_space(Path("/proc"), 100)
    with pytest.raises(
        StorageError, match=f"takes 100 B, and {say_bytes(SPACE_RESERVE_BYTES)} are to stay free"
    ):
        check_space(tmp_path, 100)


FULL = """
import sys
from pathlib import Path
from coterie.content import Kind, Staging
from coterie.errors import StorageError
parent = Path(sys.argv[1])
piece = bytes(range(256)) * 1024

def fill(staging):
    try:
        if staging.kind is Kind.TREE:
            for number in range(40):
                staging.write_small((), str(number), [piece], executable=False, mtime_ns=1)
        else:
            file = staging.large_file((), "data", 40 * len(piece), executable=False)
            try:
                for number in range(40):
                    file.write_at(number * len(piece), piece)
                file.finish(1)
            finally:
                file.close()
    except StorageError as error:
        return str(error)

for kind in Kind:
    (parent / "ballast").write_bytes(bytes(4 << 20))
    staging = Staging.open(parent, "x", b"r" * 32, kind, 40 * len(piece))
    text = fill(staging)
    assert text and "disk full" in text and "10.5 MB" in text, text
    assert not (parent / "x").exists()
    staging.close()
    (parent / "ballast").unlink()
    staging = Staging.open(parent, "x", b"r" * 32, kind, 40 * len(piece))
    assert fill(staging) is None
    target = staging.finish()
    parts = [target] if target.is_file() else [target / str(number) for number in range(40)]
    whole = b"".join(part.read_bytes() for part in parts)
    assert whole == piece * 40
    if target.is_file():
        target.unlink()
    else:
        for n in range(40):
            (target / str(n)).unlink()
        target.rmdir()
print("went on after space was freed")
"""


def test_a_full_disk_is_said_and_the_transfer_goes_on_once_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=12m none '{disk}'"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} && exec '{sys.executable}' -c \"$0\" '{disk}'", FULL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("went on after space was freed\n", "")
