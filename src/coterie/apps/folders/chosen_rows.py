"""What is kept of the choices for one live folder, of what is to come or to leave by them, and of what is only here.

Blocking; any thread may call it. In the database of `store.py`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coterie.services.data.database import Database

STEP = """
    CREATE TABLE chosen (
        folder INTEGER PRIMARY KEY REFERENCES folders(number) ON DELETE CASCADE, choices TEXT NOT NULL
    );
    CREATE TABLE asked (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, path TEXT NOT NULL,
        PRIMARY KEY (folder, path)
    ) WITHOUT ROWID;
    CREATE TABLE leaving (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, local TEXT NOT NULL,
        content BLOB NOT NULL, marked INTEGER NOT NULL, PRIMARY KEY (folder, local)
    ) WITHOUT ROWID;
    CREATE TABLE alone (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, path TEXT NOT NULL,
        content BLOB NOT NULL, PRIMARY KEY (folder, path, content)
    ) WITHOUT ROWID;
"""
TABLES = ("chosen", "asked", "leaving", "alone")


class Leaving(NamedTuple):
    """A file that is to leave this disk if it has this content still."""

    local: str
    content: bytes


class ChosenRows:
    """Of one folder."""

    def __init__(self, db: Database, number: int) -> None:
        self._db = db
        self._number = number

    def choices(self) -> str:
        """As they were kept; "": none."""
        rows = self._db.execute("SELECT choices FROM chosen WHERE folder = ?", (self._number,))
        return str(rows[0][0]) if rows else ""

    def keep_choices(self, text: str) -> None:
        """Instead of those before."""
        self._db.execute("INSERT OR REPLACE INTO chosen VALUES (?, ?)", (self._number, text))

    # ---- what is to come nevertheless

    def asked(self) -> set[str]:
        """The paths whose contents are to come, though they are on demand."""
        rows = self._db.execute("SELECT path FROM asked WHERE folder = ?", (self._number,))
        return {path for (path,) in rows}

    def ask(self, paths: Iterable[str]) -> None:
        """Have these come."""
        with self._db.transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO asked VALUES (?, ?)", [(self._number, path) for path in paths]
            )

    def forget_asked(self, paths: Iterable[str]) -> None:
        """They came, or are not to come any more."""
        with self._db.transaction() as db:
            db.executemany(
                "DELETE FROM asked WHERE folder = ? AND path = ?", [(self._number, one) for one in paths]
            )

    # ---- what is to leave

    def leave(self, files: Iterable[Leaving]) -> None:
        """Have these leave."""
        with self._db.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO leaving VALUES (?, ?, ?, 0)", [(self._number, *one) for one in files]
            )

    def leaving(self, behind: str, count: int) -> list[Leaving]:
        """The next `count` behind a local name."""
        rows = self._db.execute(
            "SELECT local, content FROM leaving WHERE folder = ? AND local > ? ORDER BY local LIMIT ?",
            (self._number, behind, count),
        )
        return [Leaving(*row) for row in rows]

    def mark(self, locals_: Iterable[str]) -> None:
        """They leave right now: what is missed there after a crash is no deletion."""
        with self._db.transaction() as db:
            db.executemany(
                "UPDATE leaving SET marked = 1 WHERE folder = ? AND local = ?",
                [(self._number, one) for one in locals_],
            )

    def marked(self) -> list[str]:
        """What was leaving when the program ended."""
        rows = self._db.execute("SELECT local FROM leaving WHERE folder = ? AND marked", (self._number,))
        return [local for (local,) in rows]

    def unmark(self) -> None:
        """Nothing leaves now."""
        self._db.execute("UPDATE leaving SET marked = 0 WHERE folder = ? AND marked", (self._number,))

    def left(self, locals_: Iterable[str]) -> None:
        """They have left, or stay."""
        with self._db.transaction() as db:
            db.executemany(
                "DELETE FROM leaving WHERE folder = ? AND local = ?", [(self._number, one) for one in locals_]
            )

    # ---- what nobody else is known to have

    def only_here(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Of these (path, content) nobody else is known to have them."""
        with self._db.transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO alone VALUES (?, ?, ?)", [(self._number, *one) for one in files]
            )

    def alone(self, behind: tuple[str, bytes], count: int) -> list[tuple[str, bytes]]:
        """The next `count` (path, content) that nobody else is known to have."""
        return self._db.execute(
            "SELECT path, content FROM alone WHERE folder = ? AND (path, content) > (?, ?) "
            "ORDER BY path, content LIMIT ?",
            (self._number, *behind, count),
        )

    def alone_up_to(self, seq: int) -> list[tuple[str, bytes]]:
        """The same, of paths that changed last at this number or before."""
        return self._db.execute(
            "SELECT path, alone.content FROM alone JOIN registers USING (folder, path) "
            "WHERE folder = ? AND seq <= ?",
            (self._number, seq),
        )

    def shared(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Somebody else has these, or nobody needs them."""
        with self._db.transaction() as db:
            db.executemany(
                "DELETE FROM alone WHERE folder = ? AND path = ? AND content = ?",
                [(self._number, *one) for one in files],
            )
