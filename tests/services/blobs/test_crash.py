"""Killed between each two steps: what is pinned is there, what a caller was told is true, and nothing is left over.

The process that works is a real one and really killed, before each step that it takes on the disk.
"""

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.content import Store
from coterie.content.pins import Pins
from coterie.services.blobs import BlobFolder
from coterie.services.blobs.folder import Incoming

STEPS_MAX = 200
CONTENT = {
    name: random.Random(name).randbytes(size) for name, size in (("x", 90_000), ("y", 10), ("z", 0), ("w", 5))
}
BEFORE = {("a", "keep"): "x", ("b", "same"): "x", ("b", "slot"): "y"}
WORK: list[tuple[str, str, str]] = [  # owner, name, and what is kept under it from now on
    ("a", "new", "z"),
    ("b", "slot", "w"),
    ("a", "keep", ""),
    ("b", "same", ""),
    ("a", "back", "x"),
]


def put(folder: BlobFolder, owner: str, name: str, data: bytes) -> bytes:
    incoming = folder.open()
    incoming.write(data)
    try:
        return folder.keep(incoming, owner, name)
    finally:
        folder.drop(incoming)


def work(folder: BlobFolder, owner: str, name: str, content: str) -> None:
    if content:
        put(folder, owner, name, CONTENT[content])
    else:
        folder.unpin(owner, name)


def kept(store: Store, folder: BlobFolder) -> dict[tuple[str, str], str]:
    """By owner and name, which content is there and can be read to its end."""
    known = {data: name for name, data in CONTENT.items()}
    return {
        (owner, name): known[b"".join(folder.read(root, 0, None))]
        for owner in ("a", "b")
        for name, (root,) in store.pins.of(owner).items()
    }


def die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have this process killed before the step of this number."""
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return function(*args, **kwargs)

        return call

    for owner, name in (
        *((os, name) for name in ("replace", "fsync", "open")),
        *((Path, name) for name in ("unlink", "mkdir")),
        *((Store, name) for name in ("add_root", "add_locations", "leave", "forget_root")),
        (Incoming, "write"),
        (Pins, "set"),
    ):
        patch.setattr(owner, name, stepped(getattr(owner, name)))


def run_until(home: Path, step: int, told: Path) -> bool:
    """Do WORK in a process that dies at that step; whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        with pytest.MonkeyPatch.context() as patch, Store.open(home / "store.db") as store:
            folder = BlobFolder(home / "blobs", store)
            out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            die_at(step, patch)
            for number, (owner, name, content) in enumerate(WORK):
                work(folder, owner, name, content)
                os.write(out, bytes([number]))
            folder.sweep()
        os._exit(0)
    finally:
        os._exit(3)


def test_killed_between_each_two_steps(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with Store.open(template / "store.db") as store:
        folder = BlobFolder(template / "blobs", store)
        for (owner, name), content in BEFORE.items():
            put(folder, owner, name, CONTENT[content])
        roots = {content: store.pins.of(owner)[name][0] for (owner, name), content in BEFORE.items()}
    assert len(set(roots.values())) == 2
    is_whole, step = False, 0
    while not is_whole:
        step += 1
        assert step < STEPS_MAX
        home, told = tmp_path / f"home-{step}", tmp_path / f"told-{step}"
        shutil.copytree(template, home)
        relocate(home, template)
        is_whole = run_until(home, step, told)
        done = len(told.read_bytes()) if told.exists() else 0
        with Store.open(home / "store.db") as store:
            folder = BlobFolder(home / "blobs", store)
            found = kept(store, folder)
            assert found in (expected(done), expected(done + 1)), step
            put(folder, "c", "after", b"after")  # sweeps first
            folder.unpin("c", "after")
            assert kept(store, folder) == found
            files = {path.name for path in (home / "blobs").glob("*/*")}
            pinned = {root.hex() for owner in ("a", "b") for (root,) in store.pins.of(owner).values()}
            assert files == pinned, step
            assert {root.id.hex() for root in store.roots()} == pinned
            store.collect_garbage()
            assert kept(store, folder) == found
            assert folder.sweep() == 0
        shutil.rmtree(home)
    assert found == expected(len(WORK))
    assert step > 20, "the steps are no longer those that are counted"


def relocate(home: Path, template: Path) -> None:
    """The store names files by whole paths: make it as if it had been written in `home`."""
    db = sqlite3.connect(home / "store.db")
    for table in ("files", "places"):
        for (path,) in db.execute(f"SELECT path FROM {table}").fetchall():
            moved = os.fsencode(str(home)) + path.removeprefix(os.fsencode(str(template)))
            db.execute(f"UPDATE {table} SET path = ? WHERE path = ?", (moved, path))
    db.commit()
    db.close()


def expected(done: int) -> dict[tuple[str, str], str]:
    """What is kept after so many of WORK."""
    found = dict(BEFORE)
    for owner, name, content in WORK[:done]:
        found[owner, name] = content
        if not content:
            del found[owner, name]
    return found
