"""Real programs in live folders: editors, git, SQLite, Office. What arrives is whole, and nothing of it is lost."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from coterie.apps.folders.app import APP
from coterie.apps.folders.in_use import has_journal
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import files_in, pair, until

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}


async def ran(*command: str, cwd: Path) -> str:
    """What a program printed; fails when it does."""
    made = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=cwd,
        env=GIT | {"HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, (command, made.stdout, made.stderr)
    return made.stdout + made.stderr


async def git(cwd: Path, *words: str) -> str:
    return await ran("git", "-c", "user.name=x", "-c", "user.email=x@x", *words, cwd=cwd)


def saved_by_renames(path: Path, text: str) -> None:
    """The save dance of many editors: the old file gets another name, the new one is written beside and renamed."""
    lock, backup, new = (
        path.with_name(f".{path.name}.swp"),
        path.with_name(f"{path.name}~"),
        path.with_name("4913"),
    )
    lock.write_text("lock")
    new.touch()
    new.unlink()
    path.rename(backup)
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    backup.unlink()
    lock.unlink()


def saved_by_office(path: Path, text: str) -> None:
    """LibreOffice and Word: a lock file while it is open, a temporary file beside, renamed over the document."""
    locks = [path.with_name(f".~lock.{path.name}#"), path.with_name(f"~${path.name}")]
    for lock in locks:
        lock.write_text("anna")
    new = path.with_name("~WRD0001.tmp")
    new.write_text(text)
    new.replace(path)
    for lock in locks:
        lock.unlink()


def test_files_saved_by_editors_arrive_whole_and_without_conflict(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        plan, letter = here / "plan.txt", here / "letter.odt"
        plan.write_text("first")
        letter.write_text("first")
        await until(lambda: len(files_in(there)) == 2, "both files")
        for number in range(5):
            saved_by_renames(plan, f"plan {number}")
            saved_by_office(letter, f"letter {number}")
            await asyncio.sleep(0.05)
        expected = {"plan.txt": b"plan 4", "letter.odt": b"letter 4"}
        await until(lambda: files_in(there) == expected, "the last of each")
        if shutil.which("vim") or "CI" in os.environ:
            command = ["-c", "set writebackup backupcopy=no", "-c", "normal oby vim", "-c", "wq", "plan.txt"]
            await ran("vim", "-u", "NONE", "-es", *command, cwd=here)
            expected |= {"plan.txt": b"plan 4\nby vim\n"}
            await until(lambda: files_in(there) == expected, "what vim wrote")
        assert anna.folders.conflicts("") == []
        assert files_in(here) == expected

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_repositories_of_two_computers_survive_commits_at_once(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, _, here, there = await pair(cast, tmp_path)
        for place, who in ((here, "anna"), (there, "ben")):
            await git(place, "init", "-q", "-b", "main")
            (place / f"{who}.txt").write_text(f"{who} begins\n")
        await until(lambda: set(os.listdir(here)) >= {"ben.txt", "anna.txt"}, "files of both")
        await until(lambda: set(os.listdir(there)) >= {"ben.txt", "anna.txt"}, "files of both")
        for number in range(4):
            for place, who in ((here, "anna"), (there, "ben")):
                (place / f"{who}.txt").write_text(f"{who} {number}\n")

            async def commit(place: Path, number: int = number) -> None:
                await git(place, "add", "anna.txt" if place == here else "ben.txt")
                await git(place, "commit", "-qm", f"commit {number}")

            await asyncio.gather(commit(here), commit(there))
        await asyncio.gather(git(here, "gc", "-q", "--prune=now"), git(there, "pack-refs", "--all"))
        last = {"anna.txt": "anna 3\n", "ben.txt": "ben 3\n"}
        for place in (here, there):
            await until(
                lambda place=place: {n: (place / n).read_text() for n in last} == last, "the last of both"
            )
        for place in (here, there):
            said = await git(place, "fsck", "--strict", "--full")
            assert "error" not in said
            assert "warning" not in said
            assert len((await git(place, "log", "--oneline")).splitlines()) == 4
        await git(here, "fetch", "-q", str(there), "main:of-ben")
        assert len((await git(here, "log", "--oneline", "of-ben")).splitlines()) == 4

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_repository_that_is_taken_along_is_whole_once_it_is_quiet(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, _, here, there = await pair(cast, tmp_path)
        (here / ".coterieignore").write_text("!.git\n")
        await until(lambda: ".coterieignore" in files_in(there), "the pattern")
        await git(here, "init", "-q", "-b", "main")
        for number in range(3):
            (here / "a.txt").write_text(f"{number}\n")
            await git(here, "add", ".")
            await git(here, "commit", "-qm", f"commit {number}")
        await until(lambda: files_in(there) == files_in(here), "all of the repository")
        assert len((await git(there, "log", "--oneline")).splitlines()) == 3
        await git(there, "commit", "-q", "--allow-empty", "-m", "by ben")
        await until(lambda: files_in(there) == files_in(here), "what ben committed")
        assert len((await git(here, "log", "--oneline")).splitlines()) == 4
        assert "error" not in await git(here, "fsck", "--strict", "--full")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def rows_in(path: Path, copy: Path) -> int:
    """How many rows a database has, as somebody sees it who opens just this file; -1: it is not there."""
    try:
        shutil.copyfile(path, copy)
    except FileNotFoundError:
        return -1
    db = sqlite3.connect(copy)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        db.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_is_taken_and_replaced_whole_or_not_at_all(tmp_path: Path, mode: str) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        copy = tmp_path / "copy.db"
        db = sqlite3.connect(here / "data.db", isolation_level=None)
        db.execute(f"PRAGMA journal_mode={mode}")
        db.execute("PRAGMA wal_autocheckpoint=20")
        db.execute("CREATE TABLE t (x)")
        for _ in range(40):
            db.execute("INSERT INTO t VALUES (?)", (os.urandom(3_000),))
            await asyncio.sleep(0.02)
            rows_in(there / "data.db", copy)
        if mode == "wal":
            assert has_journal(lambda: str(here / "data.db"), 512)
            assert rows_in(there / "data.db", copy) in (-1, 0), "not while it is open"
        db.close()
        await until(lambda: rows_in(there / "data.db", copy) == 40, "all rows, once it is closed")
        assert set(files_in(there)) == {"data.db"}
        bens = sqlite3.connect(there / "data.db", isolation_level=None)
        bens.execute(f"PRAGMA journal_mode={mode}")
        bens.execute("BEGIN IMMEDIATE")
        inode = os.stat(there / "data.db").st_ino
        bens.execute("INSERT INTO t VALUES ('by ben')")
        if mode == "wal":
            bens.execute("COMMIT")
        db = sqlite3.connect(here / "data.db")
        db.execute("DELETE FROM t")
        db.commit()
        db.close()
        await until(lambda: ben.folders.entries("Projects", "")[0].state == "coming", "ben knows")
        assert os.stat(there / "data.db").st_ino == inode, "what ben has open stays"
        assert bens.execute("SELECT count(*) FROM t").fetchone() == (41,), (
            "what ben has open is not taken away"
        )
        if mode != "wal":
            bens.execute("COMMIT")
        bens.close()
        for place in (here, there):
            await until(
                lambda place=place: (
                    sorted(rows_in(place / name, copy) for name in files_in(place)) == [0, 41]
                ),
                "both versions",
            )

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_journals_that_are_over_hold_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    assert not has_journal(lambda: str(path), 4_096)
    journal = tmp_path / "data.db-journal"
    journal.write_bytes(bytes(600))
    assert not has_journal(lambda: str(path), 4_096)
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
    assert has_journal(lambda: str(path), 4_096)
    assert not has_journal(lambda: str(path), 4_097)
    journal.unlink()
    (tmp_path / "data.db-wal").touch()
    assert not has_journal(lambda: str(path), 4_096)
    (tmp_path / "data.db-wal").write_bytes(b"x")
    assert has_journal(lambda: str(path), 4_096)
