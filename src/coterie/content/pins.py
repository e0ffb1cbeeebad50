"""Who keeps which content, under which name: the one table of owners in the content store. All methods block."""

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager

UNPINNED = "NOT EXISTS (SELECT 1 FROM pins WHERE pins.root = {root})"
"""A condition: nobody keeps the root that stands in the column `root`."""

Use = Callable[[], AbstractContextManager[sqlite3.Connection]]


class Pins:
    """The table. A pinned root may still have to come, and is never forgotten while it is pinned."""

    def __init__(self, read: Use, write: Use) -> None:
        """`write`: a transaction that is on disk when it ends."""
        self._read = read
        self._write = write

    def set(self, owner: str, name: str, roots: Collection[bytes], *, size: int = 0) -> None:
        """`owner` keeps these roots under `name` from now on, and no longer what it kept under that name before.

        None: the name is free again. Nothing is forgotten yet: see `Store.forget_root`. `size`: the bytes that `owner`
        has of each of them. It is on disk when this returns.
        """
        with self._write() as db:
            _set(db, owner, name, roots, size)

    def replace(self, owner: str, wanted: Mapping[str, Collection[bytes]], beginning: str = "") -> None:
        """Of the names of `owner` with this `beginning` there are these from now on, and no others.

        For each start: a crash may have come between the records of the owner and its pins.
        """
        with self._write() as db:
            known = _of(db, owner, beginning)
            for name in known.keys() - wanted.keys():
                _set(db, owner, name, (), 0)
            for name, roots in wanted.items():
                if set(roots) != set(known.get(name, ())):
                    _set(db, owner, name, roots, 0)

    def of(self, owner: str, beginning: str = "") -> dict[str, list[bytes]]:
        """What `owner` keeps, by name, of the names with this beginning."""
        with self._read() as db:
            return _of(db, owner, beginning)

    def at(self, owner: str, name: str) -> list[bytes]:
        """What `owner` keeps under exactly this name."""
        with self._read() as db:
            rows = db.execute("SELECT root FROM pins WHERE owner = ? AND name = ?", (owner, name))
            return [root for (root,) in rows]

    def names(self, owner: str, root: bytes) -> dict[str, int]:
        """The names under which `owner` keeps this root, each with the bytes that it has of it."""
        with self._read() as db:
            rows = db.execute(
                "SELECT name, bytes FROM pins WHERE root = ? AND owner = ? ORDER BY name", (root, owner)
            )
            return dict(rows.fetchall())

    def has(self, root: bytes) -> bool:
        """Whether anybody keeps it."""
        with self._read() as db:
            return db.execute("SELECT 1 FROM pins WHERE root = ? LIMIT 1", (root,)).fetchone() is not None

    def totals(self, owner: str) -> tuple[int, int]:
        """Names of `owner`, and the bytes of all that it keeps, each content once."""
        names = "SELECT count(DISTINCT name) FROM pins WHERE owner = ?"
        size = "SELECT coalesce(sum(bytes), 0) FROM (SELECT DISTINCT root, bytes FROM pins WHERE owner = ?)"
        with self._read() as db:
            found = db.execute(f"SELECT ({names}), ({size})", (owner, owner)).fetchone()
        return int(found[0]), int(found[1])


def _set(db: sqlite3.Connection, owner: str, name: str, roots: Collection[bytes], size: int) -> None:
    db.execute("DELETE FROM pins WHERE owner = ? AND name = ?", (owner, name))
    rows = [(owner, name, root, size) for root in dict.fromkeys(roots)]
    db.executemany("INSERT INTO pins VALUES (?, ?, ?, ?)", rows)


def _of(db: sqlite3.Connection, owner: str, beginning: str) -> dict[str, list[bytes]]:
    query = "SELECT name, root FROM pins WHERE owner = ? AND name >= ? AND substr(name, 1, ?) = ? ORDER BY name, root"
    found: dict[str, list[bytes]] = {}
    for name, root in db.execute(query, (owner, beginning, len(beginning), beginning)):
        found.setdefault(name, []).append(root)
    return found
