"""What a new version of something costs to fetch when the old one is here: beside what rsync sends for it.

VERSIONS=old:new names two files or folders (two releases of a source archive, unpacked); without it, only the database
that is made here is measured.
"""

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

from bench.figures import Figure, installed, room
from coterie.identity import load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node

ROWS = 200_000  # of about 1 KB
INSERTS = 2_000


def versions() -> list[Figure]:
    """Bytes fetched for a new version, of its size and beside rsync's literal data."""
    with room() as place:
        figures = _measure("database", *_databases(place), place / "database-work")
        for number, pair in enumerate(filter(None, os.environ.get("VERSIONS", "").split(","))):
            old, new = map(Path, pair.split(":"))
            figures += _measure(new.name, old, new, place / f"work-{number}")
    return figures


def _databases(place: Path) -> tuple[Path, Path]:
    """A database, and the same with rows inserted and changed."""
    rng = random.Random(1)
    old, new = place / "old.db", place / "new.db"
    db = sqlite3.connect(old)
    with db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text BLOB)")
        db.executemany("INSERT INTO notes (text) VALUES (?)", ((rng.randbytes(1000),) for _ in range(ROWS)))
    db.close()
    shutil.copy(old, new)
    db = sqlite3.connect(new)
    with db:
        db.executemany(
            "INSERT INTO notes (text) VALUES (?)", ((rng.randbytes(1000),) for _ in range(INSERTS))
        )
        db.execute("UPDATE notes SET text = randomblob(1000) WHERE id BETWEEN 5000 AND 5100")
    db.close()
    return old, new


def _measure(name: str, old: Path, new: Path, work: Path) -> list[Figure]:
    work.mkdir()
    size, fetched = asyncio.run(_fetch(old, new, work))
    literal = _rsync_literal(old, new, work)
    figures = [
        Figure(f"version_{name}_fetched", fetched / 1e6, "MB", size / 1e6, fetched / size, "raw: its size")
    ]
    if literal is not None:
        figures.append(Figure(f"version_{name}_rsync", literal / 1e6, "MB", size / 1e6, literal / size))
    return figures


async def _fetch(old: Path, new: Path, work: Path) -> tuple[int, int]:
    """Ben gets the old version, then the new one in its place; (size, bytes fetched) of the second."""
    network = MemoryNetwork()
    homes = [work / "anna", work / "ben"]
    for home in homes:
        home.mkdir(mode=0o700)
    keys = [load_or_create_key(home / "key") for home in homes]
    target = work / "got"
    target.mkdir()
    async with (
        Node.open(homes[0], transport=network.bind(keys[0].peer_id)) as anna,
        Node.open(homes[1], transport=network.bind(keys[1].peer_id)) as ben,
    ):
        first = await anna.files.share(old, name="it")
        await ben.files.get(first.ticket, target)
        second = await anna.files.share(new, name="it")
        received = await ben.files.get(second.ticket, target, on_existing="overwrite")
    return received.size, received.fetched


def _rsync_literal(old: Path, new: Path, work: Path) -> int | None:
    """What rsync's own difference algorithm sends as data; None without rsync."""
    rsync = installed("rsync")
    if rsync is None:
        return None
    copy = work / "rsync"
    shutil.copytree(old, copy) if old.is_dir() else shutil.copy(old, copy)
    source = f"{new}/" if new.is_dir() else str(new)
    command = [rsync, "-a", "--no-whole-file", "--checksum", "--delete", "--stats", source, str(copy)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    found = re.search(r"Literal data: ([\d,]+)", done.stdout)
    return int(found[1].replace(",", "")) if found else None
