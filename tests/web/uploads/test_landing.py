"""Batches of uploads get to their folder, whole, and over nothing that is there."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coterie.content.names import PARTIAL_PREFIX, WINDOWS, NameRules
from coterie.control.browsers import Browser
from coterie.errors import AccessDenied, NotFound, StorageError
from coterie.testing.checks import raised
from coterie.web.arrivals import Arrivals, Finish
from coterie.web.uploads import UploadFolder
from coterie.web.uploads.landing import Landings, plan
from coterie.web.uploads.rules import Named, Refused
from tests.support import run
from tests.web.uploads.serve import BATCH


def uploaded(
    folder: UploadFolder, path: str, content: bytes, batch: str = BATCH, size: int | None = None
) -> None:
    upload = folder.create(
        "anna", Named(tuple(path.split("/")), batch), len(content) if size is None else size
    )
    writing = folder.write(upload)
    writing.write(content)
    assert writing.close(is_whole=True)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_and_folders_get_names_beside_what_is_there(tmp_path: Path) -> None:
    folder, target = UploadFolder(tmp_path / "uploads"), tmp_path / "target"
    (target / "trip").mkdir(parents=True)
    (target / "a.jpg").write_text("old")
    (target / "trip" / "1.jpg").write_text("old")
    for path, content in (("a.jpg", "1"), ("a.jpg", "2"), ("trip/1.jpg", "3"), ("trip/day/2.jpg", "4")):
        uploaded(folder, path, content.encode())
    landings = Landings(folder)
    order = landings.land("anna", BATCH, target, "keep")
    assert contents(target) == {
        "a.jpg": "old", "a (2).jpg": "1", "a (2) (2).jpg": "2",
        "trip/1.jpg": "old", "trip (2)/1.jpg": "3", "trip (2)/day/2.jpg": "4",
    }  # fmt: skip
    assert [Path(path).name for path in order.landed] == ["a (2).jpg", "a (2) (2).jpg", "trip (2)"]
    assert folder.all() == []
    mode = os.umask(0)
    os.umask(mode)
    assert stat.S_IMODE((target / "a (2).jpg").stat().st_mode) == 0o666 & ~mode
    landings.done(order)
    assert Landings(folder).resume() == []


def test_a_batch_waits_until_all_of_it_is_there(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path / "uploads")
    uploaded(folder, "a", b"1")
    uploaded(folder, "b", b"1", size=2)
    with raised(Refused, "1 file is still to come") as refused:
        Landings(folder).land("anna", BATCH, tmp_path / "target")
    assert refused.value.status == 409
    with raised(NotFound):
        Landings(folder).land("bob", BATCH, tmp_path / "target")
    assert len(folder.all()) == 2
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("stop_at", ["staging", "named"])
def test_a_crash_within_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    """Whatever had been done, everything is there in the end, once."""
    folder, target = UploadFolder(tmp_path / "uploads"), tmp_path / "target"
    for path in ("trip/1", "trip/2", "note"):
        uploaded(folder, path, path.encode())
    steps = iter(range(100))
    name = "move_new" if stop_at == "staging" else "move_beside"
    from coterie.web.uploads import landing

    real = getattr(landing, name)

    def breaking(source: Path, to: Path) -> object:
        if next(steps) == 1:
            raise KeyboardInterrupt
        return real(source, to)

    monkeypatch.setattr(landing, name, breaking)
    with pytest.raises(KeyboardInterrupt):
        Landings(folder).land("anna", BATCH, target, "send to ben")
    monkeypatch.undo()
    (order,) = Landings(UploadFolder(tmp_path / "uploads")).resume()
    assert order.then == "send to ben"
    assert contents(target) == {"trip/1": "trip/1", "trip/2": "trip/2", "note": "note"}
    assert not [path for path in target.iterdir() if path.name.startswith(PARTIAL_PREFIX)]
    assert UploadFolder(tmp_path / "uploads").all() == []


def test_to_another_disk_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from coterie.web.uploads import landing

    def elsewhere(source: Path, to: Path) -> bool:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(landing, "move_new", elsewhere)
    folder = UploadFolder(tmp_path / "uploads")
    uploaded(folder, "a", b"1")
    Landings(folder).land("anna", BATCH, tmp_path / "target")
    assert contents(tmp_path / "target") == {"a": "1"}


def test_where_the_folder_cannot_be_written_the_batch_stays(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path / "uploads")
    uploaded(folder, "a", b"1")
    (tmp_path / "file").write_text("")
    with raised(StorageError, "cannot write in"):
        Landings(folder).land("anna", BATCH, tmp_path / "file" / "target")
    assert len(folder.all()) == 1
    Landings(folder).land("anna", BATCH, tmp_path / "target")
    assert contents(tmp_path / "target") == {"a": "1"}


@pytest.mark.parametrize(
    ("paths", "rules", "places"),
    [
        (["a", "a", "A"], NameRules(), ["a", "a (2)", "A"]),
        (["a", "A"], NameRules(folds_case=True), ["a", "A (2)"]),
        (["f/a", "f/a", "f"], NameRules(), ["f/a", "f/a (2)", "f (2)"]),
        (["F/a", "f/b"], NameRules(folds_case=True), ["F/a", "f (2)/b"]),
        (["con", "a:b"], WINDOWS, ["%63on", "a%3Ab"]),
    ],
)
def test_no_two_files_get_one_place(paths: list[str], rules: NameRules, places: list[str]) -> None:
    assert plan([tuple(path.split("/")) for path in paths], rules) == [tuple(p.split("/")) for p in places]


def test_what_was_ordered_earlier_needs_its_right_still(tmp_path: Path) -> None:
    """A phone that may no longer send does not have an order of earlier carried out by asking for something else."""
    folder = UploadFolder(tmp_path / "up")
    uploaded(folder, "a.txt", b"a")
    (target := tmp_path / "kept").mkdir()
    Landings(folder).land("anna", BATCH, target, "send:berta")  # and the node was killed before it was sent
    phone = Browser(id="anna", name="x", rights=("upload",), created=0, seen=0, digest="")
    calls: list[str] = []

    def called(words: str) -> Any:
        calls.append(words)
        raise AssertionError("nothing may be sent")

    uploads: Any = SimpleNamespace(folder=folder)
    arrivals = Arrivals(SimpleNamespace(), uploads, called, lambda browser: target, lambda id_: phone)
    with raised(AccessDenied, "send"):
        run(arrivals.finish(phone, Finish(BATCH, "keep")))
    assert not calls


@pytest.mark.parametrize("may", [("upload",), None], ids=["may no longer send", "was removed"])
def test_what_was_ordered_before_a_restart_needs_its_right_still(
    tmp_path: Path, may: tuple[str, ...] | None
) -> None:
    """The files stay where they landed; nothing is sent for a phone whose right was taken meanwhile."""
    folder = UploadFolder(tmp_path / "up")
    uploaded(folder, "a.txt", b"a")
    (target := tmp_path / "kept").mkdir()
    Landings(folder).land("anna", BATCH, target, "send:berta")  # and the node was killed before it was sent
    phone = may and Browser(id="anna", name="x", rights=may, created=0, seen=0, digest="")
    calls: list[str] = []
    told: list[str] = []

    def called(words: str) -> Any:
        calls.append(words)
        raise AssertionError("nothing may be sent")

    async def restart() -> None:
        started: list[Any] = []
        node = SimpleNamespace(
            tasks=SimpleNamespace(start=lambda work, what: started.append(work)),
            notices=SimpleNamespace(tell=lambda app, said, key: told.append(said)),
        )
        uploads: Any = SimpleNamespace(folder=folder)
        Arrivals(node, uploads, called, lambda browser: target, lambda id_: phone or None).start()
        await started[0]

    run(restart())
    assert not calls
    assert "may not do this: send" in told[0]
    assert contents(target) == {"a.txt": "a"}
