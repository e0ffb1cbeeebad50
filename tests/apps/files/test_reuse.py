"""A download fetches only what is not on this computer yet."""

import asyncio
import os
import random
import shutil
import sqlite3
from pathlib import Path

from coterie.transfer.results import Received
from tests.apps.files.nodes import friends, pair, tree_of
from tests.support import run


def fetch(folder: Path, theirs: Path, ours: Path) -> Received:
    """Ben, who shares `ours`, gets `theirs` from anna."""

    async def main() -> Received:
        async with friends(folder) as (anna, ben):
            await ben.files.share(ours)
            shared = await anna.files.share(theirs)
            return await ben.files.get(shared.ticket, folder / "copy")

    return run(main())


def test_a_file_that_is_here_already_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(random.Random(1).randbytes(5_000_000))
    shutil.copy(tmp_path / "theirs", tmp_path / "ours")
    received = fetch(tmp_path, tmp_path / "theirs", tmp_path / "ours")
    assert (received.fetched, received.reused) == (0, 5_000_000)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_an_insertion_costs_the_chunks_around_it(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(20_000_000)
    (tmp_path / "ours").write_bytes(data)
    (tmp_path / "theirs").write_bytes(data[:7_000_000] + b"inserted" + data[7_000_000:])
    received = fetch(tmp_path, tmp_path / "theirs", tmp_path / "ours")
    assert received.fetched + received.reused == 20_000_008
    assert received.fetched < 2_000_000
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_tree_takes_what_it_shares_with_another_tree(tmp_path: Path) -> None:
    rng = random.Random(3)
    for number in range(200):
        path = tmp_path / "ours" / f"{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([0, 10, 5_000, 300_000])))
    shutil.copytree(tmp_path / "ours", tmp_path / "theirs")
    (tmp_path / "theirs" / "3").rename(tmp_path / "theirs" / "moved")
    (tmp_path / "theirs" / "new.txt").write_bytes(rng.randbytes(1_000))
    os.utime(tmp_path / "theirs" / "new.txt", ns=(1, 1_600_000_000_000_000_000))
    received = fetch(tmp_path, tmp_path / "theirs", tmp_path / "ours")
    assert received.fetched == 1_000
    assert received.reused > 1_000_000
    assert tree_of(tmp_path / "copy") == tree_of(tmp_path / "theirs")


def test_a_database_with_inserted_rows_costs_its_changes(tmp_path: Path) -> None:
    rng = random.Random(4)
    with sqlite3.connect(tmp_path / "ours") as db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text BLOB)")
        db.executemany("INSERT INTO notes (text) VALUES (?)", ((rng.randbytes(900),) for _ in range(20_000)))
    db.close()
    shutil.copy(tmp_path / "ours", tmp_path / "theirs")
    with sqlite3.connect(tmp_path / "theirs") as db:
        db.executemany("INSERT INTO notes (text) VALUES (?)", ((rng.randbytes(900),) for _ in range(200)))
    db.close()
    size = (tmp_path / "theirs").stat().st_size
    received = fetch(tmp_path, tmp_path / "theirs", tmp_path / "ours")
    assert received.fetched < 0.08 * size  # 200 rows are 1 % of it, and the first page changed too
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_known_file_that_was_damaged_is_fetched_instead(tmp_path: Path) -> None:
    data = random.Random(5).randbytes(5_000_000)
    (tmp_path / "theirs").write_bytes(data)
    (tmp_path / "ours").write_bytes(data)

    async def main() -> Received:
        async with friends(tmp_path) as (anna, ben):
            await ben.files.share(tmp_path / "ours")
            (tmp_path / "ours").write_bytes(bytes(5_000_000))
            shared = await anna.files.share(tmp_path / "theirs")
            return await ben.files.get(shared.ticket, tmp_path / "copy")

    received = run(main())
    assert (received.fetched, received.reused) == (5_000_000, 0)
    assert (tmp_path / "copy").read_bytes() == data


def test_what_was_received_is_not_fetched_twice(tmp_path: Path) -> None:
    rng = random.Random(6)
    for number in range(50):
        path = tmp_path / "v1" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.randbytes(3_000))
    (tmp_path / "v1" / "large").write_bytes(rng.randbytes(4_000_000))
    shutil.copytree(tmp_path / "v1", tmp_path / "v2")
    (tmp_path / "v2" / "7.txt").write_bytes(rng.randbytes(2_000))

    async def first() -> None:
        async with friends(tmp_path) as (anna, ben):
            await ben.files.get((await anna.files.share(tmp_path / "v1", name="copy")).ticket, tmp_path)

    async def second() -> Received:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "v2", name="copy")).ticket
            received = await ben.files.get(ticket, tmp_path, on_existing="overwrite")
        async with pair(tmp_path) as (_, ben):
            assert len(ben.store.roots()) == 1  # the second version took the place of the first
        return received

    run(first())
    received = run(second())
    assert (received.fetched, received.files) == (2_000, 51)
    assert tree_of(tmp_path / "copy") == tree_of(tmp_path / "v2")


def test_what_was_cancelled_leaves_nothing_in_the_index(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(random.Random(7).randbytes(30_000_000))

    async def main() -> None:
        async with friends(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "theirs")).ticket
            transfer = await ben.files.begin(ticket, tmp_path / "copy")
            while not ben.store.roots():
                await asyncio.sleep(0.001)
            await ben.files.cancel(transfer.record.id)
            assert ben.store.roots() == []

    run(main())
