"""What arrives into a folder that is there: nothing of the user's goes away but to where it can be had back."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.content import no_links
from coterie.content.merge import Merge, Old
from coterie.content.versions import Versions, VersionsFull


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "versions")


def merging(versions: Versions, old: Old = Old.KEEP) -> Merge:
    return Merge(
        versions, lambda _: old, why="replaced", source="x from anna", mark="changed here, 2026-11-28"
    )


def build(top: Path, **texts: str) -> Path:
    """A folder with these files; "__" in a name is "/"."""
    for name, text in texts.items():
        path = top / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def texts(top: Path) -> dict[str, str]:
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def test_what_is_only_there_stays_and_what_differs_is_kept(tmp_path: Path, versions: Versions) -> None:
    mine = build(tmp_path / "t", same="same", both="mine", deep__both="mine", deep__only="mine", only="mine")
    new = build(
        tmp_path / "s", same="same", both="new", deep__both="new", deep__new="new", more__x="x", more__y="y"
    )
    merge = merging(versions)
    assert merge.into(new, mine) == mine
    assert texts(mine) == {
        "same": "same", "both": "new", "deep/both": "new", "deep/only": "mine", "only": "mine",
        "deep/new": "new", "more/x": "x", "more/y": "y",
    }  # fmt: skip
    assert (merge.new, merge.replaced, merge.beside, merge.numbered) == (3, 2, [], [])
    kept = versions.kept()
    assert {version.original: versions.path_of(version.id).read_text() for version in kept} == {
        mine / "both": "mine",
        mine / "deep" / "both": "mine",
    }
    assert {(version.why, version.source) for version in kept} == {("replaced", "x from anna")}


def test_what_was_changed_on_both_sides_is_moved_beside(tmp_path: Path, versions: Versions) -> None:
    mine = build(
        tmp_path / "t", **{"a.txt": "mine", "a (changed here, 2026-11-28).txt": "earlier", "README": "r"}
    )
    merge = merging(versions, Old.BESIDE)
    merge.into(build(tmp_path / "s", **{"a.txt": "new", "README": "new"}), mine)
    assert texts(mine) == {
        "a.txt": "new",
        "a (changed here, 2026-11-28).txt": "earlier",
        "a (changed here, 2026-11-28 2).txt": "mine",
        "README": "new",
        "README (changed here, 2026-11-28)": "r",
    }
    assert versions.kept() == []
    assert len(merge.beside) == 2


def test_what_is_to_stay_stays(tmp_path: Path, versions: Versions) -> None:
    mine = build(tmp_path / "t", a="mine")
    merge = merging(versions, Old.STAY)
    merge.into(build(tmp_path / "s", a="new"), mine)
    assert (texts(mine), merge.new, merge.replaced) == ({"a": "mine"}, 0, 0)


def test_no_link_is_followed_and_no_folder_gives_way_to_a_file(tmp_path: Path, versions: Versions) -> None:
    outside = build(tmp_path / "outside", x="mine")
    mine = build(tmp_path / "t", folder__x="mine")
    (mine / "link").symlink_to(outside)
    os.mkfifo(mine / "pipe")
    merge = merging(versions)
    merge.into(build(tmp_path / "s", folder="new", link__x="new", pipe="new"), mine)
    assert texts(outside) == {"x": "mine"}
    assert (mine / "folder" / "x").read_text() == "mine"
    assert (mine / "folder (2)").read_text() == "new"
    assert (mine / "link" / "x").read_text() == "new"
    assert not (mine / "link").is_symlink()
    assert (mine / "pipe").is_fifo()
    assert (mine / "pipe (2)").read_text() == "new"
    assert sorted(path for path, _ in merge.numbered) == ["folder (2)", "pipe (2)"]
    assert [version.kind for version in versions.kept()] == ["link"]


def test_a_full_store_is_said_before_anything_is_touched(
    tmp_path: Path, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"total": 70_000, "free": 0}))
    mine = build(tmp_path / "t", a="m" * 5_000, b="m" * 5_000)
    new = build(tmp_path / "s", a="n" * 5_000, b="n" * 5_000)
    with pytest.raises(VersionsFull):
        merging(versions).into(new, mine)
    assert {text[0] for text in texts(mine).values()} == {"m"}
    assert len(texts(new)) == 2
    monkeypatch.undo()
    merging(versions).into(new, mine)
    assert {text[0] for text in texts(mine).values()} == {"n"}


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("old", [Old.KEEP, Old.BESIDE])
def test_a_merge_that_crashes_anywhere_goes_on_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Old
) -> None:
    step, has_ended = 0, False
    while not has_ended:
        top = tmp_path / str(step)
        mine = build(top / "t", a="mine a", b__c="mine c", only="mine")
        new = build(top / "s", a="new a", b__c="new c", b__d="new d")
        left = [step]

        def dying(call: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def once(*args: Any, **options: Any) -> Any:
                if left[0] == 0:
                    raise Crash
                left[0] -= 1
                return call(*args, **options)

            return once

        with monkeypatch.context() as patched:
            patched.setattr(
                "coterie.content.file_steps._rename_new", lambda *_: None
            )  # plain calls, which can be seen
            for name in ("rename", "replace", "link", "unlink", "write"):
                patched.setattr(os, name, dying(getattr(os, name)))
            with contextlib.suppress(Crash):
                merging(Versions(top / "versions"), old).into(new, mine)
                has_ended = True
        again = Versions(top / "versions")
        if not has_ended:
            merging(again, old).into(new, mine)
        found = texts(mine)
        assert {name: found[name] for name in ("a", "b/c", "b/d", "only")} == {
            "a": "new a", "b/c": "new c", "b/d": "new d", "only": "mine",
        }, step  # fmt: skip
        everywhere = [*found.values(), *(again.path_of(v.id).read_text() for v in again.kept())]
        assert {"mine a", "mine c"} <= set(everywhere), step
        step += 1
    assert step > 5


def test_a_disk_that_is_mounted_below_the_target_gets_a_copy(
    tmp_path: Path, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = build(tmp_path / "t", a="mine", disk__b="mine", disk__only="mine", disk__same="same")
    new = build(tmp_path / "s", a="new", disk__b="new", disk__same="same", disk__more__x="x")
    os.utime(new / "disk" / "more" / "x", ns=(1, 1_600_000_000_000_000_007))
    far = [mine / "disk", *(mine / "disk").rglob("*")]
    monkeypatch.setattr(
        "coterie.content.merge._is_elsewhere",
        lambda _, target: Path(os.path.realpath(target.parent)) in far,
    )
    build(mine / "disk", **{".coterie-partial-b-carried": "left by an earlier attempt"})
    merge = merging(versions)
    merge.into(new, mine)
    assert texts(mine) == {
        "a": "new", "disk/b": "new", "disk/only": "mine", "disk/same": "same", "disk/more/x": "x",
    }  # fmt: skip
    assert (mine / "disk" / "more" / "x").stat().st_mtime_ns == 1_600_000_000_000_000_007
    assert {version.original for version in versions.kept()} == {mine / "a", mine / "disk" / "b"}


@pytest.mark.skipif(not no_links.HAS_FD_PATHS, reason="weaker here: see the threat model")
@pytest.mark.parametrize("when", ["within the folder", "before it is opened"])
def test_a_link_that_is_put_there_meanwhile_leads_nothing_out_of_the_target(
    tmp_path: Path, versions: Versions, when: str
) -> None:
    """Another user who may write into the target swaps a folder of it while files arrive there."""
    mine = build(tmp_path / "t", sub__a="mine", sub__b="mine")
    private = build(tmp_path / "private", a="private", b="private")
    new = build(tmp_path / "s", sub__a="new", sub__b="new", sub__c="new", sub__d="new", sub__e__f="new")

    asked: list[tuple[str, ...]] = []
    at = ("sub", "a") if when == "within the folder" else ("a",)

    def judge(parts: tuple[str, ...]) -> Old:
        asked.append(parts)
        if parts == at and asked.count(at) == 2:  # the first question is about the room
            (mine / "sub").rename(mine / "moved")
            (mine / "sub").symlink_to(private)
        return Old.KEEP

    merge = Merge(versions, judge, why="replaced", source="x from anna", mark="changed here")
    if when == "within the folder":
        merge.into(new, mine)
        assert texts(mine / "moved") == dict.fromkeys(("a", "b", "c", "d", "e/f"), "new")
        assert {version.original for version in versions.kept()} == {mine / "sub" / "a", mine / "sub" / "b"}
    else:
        build(mine, a="mine")
        build(new, a="new")  # comes before the folder
        merge.into(new, mine)
        assert (mine / "sub" / "b").read_text() == "new"
    assert texts(private) == {"a": "private", "b": "private"}
