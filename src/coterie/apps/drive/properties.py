"""What programs note of files and folders (RFC 4918, 4: dead properties): kept in the home of who uses the drive.

They are the drive's, as locks are, and not the file's: who owns the file, and other computers, do not see them. They go
along when something is moved, copied or removed over the drive. All methods may be called from any thread.
"""

from collections.abc import Iterable
from typing import Any

from wsgidav.dav_error import HTTP_INSUFFICIENT_STORAGE, HTTP_REQUEST_ENTITY_TOO_LARGE, DAVError

from coterie.errors import CoterieError
from coterie.services.data.database import Database
from coterie.texts import tr

STEPS = (
    """CREATE TABLE properties (folder TEXT NOT NULL, name TEXT NOT NULL, property TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (folder, name, property)) WITHOUT ROWID""",
)
VALUE_CHARS_MAX = 64 << 10  # of one; guess: what programs note are dates, colours, comments
PROPERTIES_MAX = 500_000  # of a drive; guess: Windows notes four of each file that it copies


class KeptProperties:
    """See `wsgidav.prop_man.property_manager.PropertyManager`, whose addresses these are."""

    def __init__(self, database: Database, most: int = PROPERTIES_MAX) -> None:
        self._db = database
        self._most = most
        self._count = int(database.execute("SELECT count(*) FROM properties")[0][0])

    def set_verbose(self, level: int) -> None:
        """wsgidav's; nothing is logged here."""

    def get_properties(self, url: str, environ: dict[str, Any] | None = None) -> list[str]:
        """The names of what is noted of one."""
        if not self._count:
            return []
        rows = self._db.execute("SELECT property FROM properties WHERE folder = ? AND name = ?", _split(url))
        return [row[0] for row in rows]

    def noted_in(self, url: str) -> dict[str, list[str]]:
        """The names of what is noted of everything in a folder, by the last part of addresses."""
        found: dict[str, list[str]] = {}
        if self._count:
            folder = url.rstrip("/")
            for name, noted in self._db.execute(
                "SELECT name, property FROM properties WHERE folder = ?", (folder,)
            ):
                found.setdefault(name, []).append(noted)
        return found

    def get_property(self, url: str, name: str, environ: dict[str, Any] | None = None) -> str | None:
        """What is noted: an element as it is written; None: nothing."""
        rows = self._db.execute(
            "SELECT value FROM properties WHERE folder = ? AND name = ? AND property = ?",
            (*_split(url), name),
        )
        return rows[0][0] if rows else None

    def write_property(
        self, url: str, name: str, value: Any, dry_run: bool = False, environ: dict[str, Any] | None = None
    ) -> None:
        """Note it. Raises `DAVError`: it is too long, or there are too many."""
        text = str(value, "ascii") if isinstance(value, bytes) else str(value)  # wsgidav writes ASCII
        if len(text) > VALUE_CHARS_MAX or len(name) > VALUE_CHARS_MAX:
            raise DAVError(
                HTTP_REQUEST_ENTITY_TOO_LARGE,
                tr("a property has {most} characters at most", most=VALUE_CHARS_MAX),
            )
        if self._count >= self._most:
            raise DAVError(HTTP_INSUFFICIENT_STORAGE, tr("the drive keeps no more properties: remove some"))
        if not dry_run:
            self._change(
                ("INSERT OR REPLACE INTO properties VALUES (?, ?, ?, ?)", (*_split(url), name, text))
            )

    def remove_property(
        self, url: str, name: str, dry_run: bool = False, environ: dict[str, Any] | None = None
    ) -> None:
        """Forget one; that it is not there is no error."""
        if not dry_run:
            self._change(
                (
                    "DELETE FROM properties WHERE folder = ? AND name = ? AND property = ?",
                    (*_split(url), name),
                )
            )

    def remove_properties(self, url: str, environ: dict[str, Any] | None = None) -> None:
        """Forget all of one, and of what is in it."""
        whole = url.rstrip("/")
        self._change(
            ("DELETE FROM properties WHERE folder = ? AND name = ?", _split(url)),
            (
                "DELETE FROM properties WHERE folder = ? OR (folder > ? AND folder < ?)",
                (whole, *_below(whole)),
            ),
        )

    def copy_properties(self, url: str, to: str, environ: dict[str, Any] | None = None) -> None:
        """Note the same of another; of itself alone."""
        self._change(
            ("DELETE FROM properties WHERE folder = ? AND name = ?", _split(to)),
            (
                "INSERT INTO properties SELECT ?, ?, property, value FROM properties WHERE folder = ? AND name = ?",
                (*_split(to), *_split(url)),
            ),
        )

    def move_properties(
        self, url: str, to: str, with_children: bool, environ: dict[str, Any] | None = None
    ) -> None:
        """What was noted of one is of another now."""
        steps: list[tuple[str, tuple[Any, ...]]] = [
            ("DELETE FROM properties WHERE folder = ? AND name = ?", _split(to)),
            (
                "UPDATE properties SET folder = ?, name = ? WHERE folder = ? AND name = ?",
                (*_split(to), *_split(url)),
            ),
        ]
        if with_children:
            old, new = url.rstrip("/"), to.rstrip("/")
            steps += [
                (
                    "DELETE FROM properties WHERE folder = ? OR (folder > ? AND folder < ?)",
                    (new, *_below(new)),
                ),
                (
                    "UPDATE properties SET folder = ? || substr(folder, ?)"
                    " WHERE folder = ? OR (folder > ? AND folder < ?)",
                    (new, len(old) + 1, old, *_below(old)),
                ),
            ]
        self._change(*steps)

    def _change(self, *steps: tuple[str, Iterable[Any]]) -> None:
        """All of it or nothing. Raises `DAVError`: the disk refuses, or the quota of the app is used up."""
        if not self._count and not steps[0][0].startswith("INSERT"):
            return
        try:
            with self._db.transaction() as db:
                for sql, values in steps:
                    db.execute(sql, tuple(values))
                self._count = int(db.execute("SELECT count(*) FROM properties").fetchone()[0])
        except CoterieError as error:
            raise DAVError(HTTP_INSUFFICIENT_STORAGE, str(error)) from None


def _split(url: str) -> tuple[str, str]:
    """The folder of an address and its name there, with or without a slash at its end."""
    folder, _, name = url.rstrip("/").rpartition("/")
    return folder, name


def _below(folder: str) -> tuple[str, str]:
    """What addresses of folders within this one lie between."""
    return folder + "/", folder + "0"  # "0" follows "/"


class NoProperties(KeptProperties):
    """For those who change nothing: there are none."""

    def __init__(self) -> None:
        self._count = 0
