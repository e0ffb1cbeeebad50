"""What is kept of live folders, in the database of the app: rows of bytes, read where they are needed.

Nothing of a folder's files is held in memory: with 100,000 files the rows are some 40 MB on disk. Registers and what
was agreed upon are packed (`records.py` knows how); beside them stands what lists and counts ask for. All methods
block; any thread may call them; each batch is one transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from coterie.apps.folders import chosen_rows
from coterie.services.data.database import Database

CACHE_KB = 16_000  # of the rows, as far as they are used: a third of those of 100,000 files
QUERY_ITEMS_MAX = 500  # of one IN (...)
PAGE_ROWS = 5_000  # read together where all are asked for: 1 MB
CHILDREN_MIN = 8  # rows read together while folders lie between; more where none does
EVENTS_MAX = 10_000  # of one folder that can be undone; the oldest give way
DAY_S = 86_400.0
EVENTS_S = 30 * DAY_S  # as long as versions are kept
# Without these SQLite reads all rows of the folder: the table itself is an index that begins with it.
_BY_PATH = "INDEXED BY agreed_by_path"
_BY_CONTENT = "INDEXED BY agreed_by_content"

_LAST = "SELECT coalesce(max(seq), 0) FROM registers WHERE folder = ?"

OF_FOLDER = (
    "registers",
    "agreed",
    "replicas",
    "events",
    "braked",
    "keeping",
    "kept_contents",
    "kept_chunks",
    *chosen_rows.TABLES,
)

STEPS = (
    """
    CREATE TABLE folders (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, path TEXT NOT NULL, replica BLOB NOT NULL,
        counter INTEGER NOT NULL, record BLOB NOT NULL, state TEXT NOT NULL, settings BLOB NOT NULL,
        created REAL NOT NULL
    );
    CREATE TABLE registers (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, path TEXT NOT NULL, seq INTEGER NOT NULL,
        kind INTEGER NOT NULL, size INTEGER NOT NULL, content BLOB NOT NULL, copies INTEGER NOT NULL,
        own INTEGER NOT NULL, source BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (folder, path)
    ) WITHOUT ROWID;
    CREATE INDEX registers_by_seq ON registers (folder, seq);
    CREATE INDEX registers_in_conflict ON registers (folder) WHERE copies > 0;
    CREATE TABLE agreed (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, local TEXT NOT NULL, path TEXT NOT NULL,
        kind INTEGER NOT NULL, content BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (folder, local)
    ) WITHOUT ROWID;
    CREATE INDEX agreed_by_path ON agreed (folder, path);
    CREATE INDEX agreed_by_content ON agreed (content) WHERE content != x'';
    CREATE TABLE contents (id BLOB PRIMARY KEY, chunks BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE replicas (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, replica BLOB NOT NULL,
        peer BLOB NOT NULL, known INTEGER NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (folder, replica)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE,
        at REAL NOT NULL, path TEXT NOT NULL, what TEXT NOT NULL, by BLOB NOT NULL, body BLOB NOT NULL
    );
    CREATE INDEX events_of_folder ON events (folder, at);
    CREATE TABLE offers (id BLOB PRIMARY KEY, record BLOB NOT NULL, peer BLOB NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE keeping (
        folder INTEGER PRIMARY KEY REFERENCES folders(number) ON DELETE CASCADE, quota INTEGER NOT NULL
    );
    CREATE TABLE kept_contents (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, tag BLOB NOT NULL,
        total INTEGER NOT NULL, chunks BLOB NOT NULL, free_since REAL NOT NULL, PRIMARY KEY (folder, tag)
    ) WITHOUT ROWID;
    CREATE TABLE kept_chunks (
        folder INTEGER NOT NULL REFERENCES folders(number) ON DELETE CASCADE, id BLOB NOT NULL,
        size INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (folder, id)
    ) WITHOUT ROWID;
    """,
    chosen_rows.STEP,
    """
    CREATE TABLE braked (
        folder INTEGER PRIMARY KEY REFERENCES folders(number) ON DELETE CASCADE, body BLOB NOT NULL
    );
    """,
)


class FolderRow(msgspec.Struct, kw_only=True):
    """A folder of this computer. `state`: "on", "paused", "preview" (joining was shown, and not confirmed)."""

    number: int
    id: bytes
    path: str
    replica: bytes
    counter: int
    record: bytes
    state: str
    settings: bytes
    created: float


class RegisterRow(NamedTuple):
    """A register with what is asked for of its winner. `own`: one of its siblings was written here.

    `source`: the replica from which it came just so; empty: it is of here, or was merged.
    """

    path: str
    kind: int
    size: int
    content: bytes
    copies: int
    own: bool
    source: bytes
    body: bytes


class AgreedRow(NamedTuple):
    """What was last shown on, or taken from, the disk at `local`."""

    local: str
    path: str
    kind: int
    content: bytes
    body: bytes


class EventRow(NamedTuple):
    """What came from another computer, for `undo`: `body` is the register as it was before."""

    number: int
    at: float
    path: str
    what: str
    by: bytes
    body: bytes


class FoldersStore:
    """All folders of this computer, and those that others offer."""

    def __init__(self, database: Database) -> None:
        """`database`: opened with STEPS."""
        self.db = database
        database.execute(f"PRAGMA cache_size = -{CACHE_KB}")

    def folders(self) -> list[FolderRow]:
        """Every folder, oldest first."""
        rows = self.db.execute(
            "SELECT number, id, path, replica, counter, record, state, settings, created FROM folders ORDER BY number"
        )
        names = FolderRow.__struct_fields__
        return [FolderRow(**dict(zip(names, row, strict=True))) for row in rows]

    def add(self, row: FolderRow) -> None:
        """A new folder; it gets its number."""
        with self.db.transaction() as db:
            row.number = (db.execute("SELECT max(number) FROM folders").fetchone()[0] or 0) + 1
            values = [getattr(row, name) for name in FolderRow.__struct_fields__]
            db.execute(f"INSERT INTO folders VALUES ({','.join('?' * len(values))})", values)  # noqa: S608

    def change(self, row: FolderRow) -> None:
        """Keep what `row` says now, but for its counter, which only grows with what is written."""
        self.db.execute(
            "UPDATE folders SET path = ?, replica = ?, record = ?, state = ?, settings = ? WHERE number = ?",
            (row.path, row.replica, row.record, row.state, row.settings, row.number),
        )

    def remove(self, number: int) -> None:
        """Forget a folder with all that is known of it."""
        with self.db.transaction() as db:
            for table in OF_FOLDER:
                db.execute(f"DELETE FROM {table} WHERE folder = ?", (number,))  # noqa: S608
            db.execute("DELETE FROM folders WHERE number = ?", (number,))

    # ---- folders that are kept for others

    def keep(self, number: int, quota: int) -> None:
        """This folder is kept, and cannot be read here: at most `quota` bytes of it."""
        self.db.execute("INSERT INTO keeping VALUES (?, ?)", (number, quota))

    def quota(self, number: int) -> int:
        """Bytes to keep of a folder; 0: it is one that can be read here."""
        rows = self.db.execute("SELECT quota FROM keeping WHERE folder = ?", (number,))
        return int(rows[0][0]) if rows else 0

    # ---- offers of others

    def offers(self) -> list[tuple[bytes, bytes]]:
        """(record, who told of it) of folders that could be joined."""
        return self.db.execute("SELECT record, peer FROM offers ORDER BY at")

    def offer(self, folder: bytes, record: bytes, peer: bytes, at: float) -> None:
        """Remember that `peer` told of a folder."""
        self.db.execute("INSERT OR REPLACE INTO offers VALUES (?, ?, ?, ?)", (folder, record, peer, at))

    def forget_offer(self, folder: bytes) -> None:
        """It is joined, or offered no longer."""
        self.db.execute("DELETE FROM offers WHERE id = ?", (folder,))

    # ---- chunks of contents

    def chunks(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed chunks of those that are known."""
        found: dict[bytes, bytes] = {}
        for part in _parts(list(contents)):
            marks = ",".join("?" * len(part))
            found.update(
                self.db.execute(f"SELECT id, chunks FROM contents WHERE id IN ({marks})", part)  # noqa: S608
            )
        return found

    def sweep_contents(self) -> None:
        """Forget chunks of contents that no folder names any more. Some 100 ms with 100,000 files."""
        self.db.execute(
            "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM agreed WHERE agreed.content = contents.id "
            "AND agreed.content != x'') "
            "AND id NOT IN (SELECT content FROM registers)"
        )


class FolderData:
    """The rows of one folder."""

    def __init__(self, store: FoldersStore, row: FolderRow) -> None:
        self._db = store.db
        self._number = row.number
        self.seq: int = self._db.execute(_LAST, (row.number,))[0][0]
        """Of the register that changed last here: no lower one is given any more."""

    # ---- registers

    def register(self, path: str) -> bytes | None:
        """The packed register of a path."""
        rows = self._db.execute(
            "SELECT body FROM registers WHERE folder = ? AND path = ?", (self._number, path)
        )
        return rows[0][0] if rows else None

    def registers(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The packed registers of those of `paths` that have one."""
        return dict(self._of("SELECT path, body FROM registers WHERE folder = ? AND path IN ({})", paths))

    def registers_below(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Of everything below a path, in order; "": of all."""
        where, values = self._below("path", path)
        return iter(
            self._db.execute(f"SELECT path, body FROM registers WHERE {where} ORDER BY path", values)  # noqa: S608
        )

    def count(self) -> int:
        """How many paths have a register. Some 10 ms with 100,000."""
        rows = self._db.execute("SELECT count(*) FROM registers WHERE folder = ?", (self._number,))
        return int(rows[0][0])

    def paths(self) -> list[str]:
        """Every path that has a register."""
        rows = self._db.execute("SELECT path FROM registers WHERE folder = ? ORDER BY path", (self._number,))
        return [path for (path,) in rows]

    def paths_at(self, path: str) -> list[str]:
        """A path, and every path below it that has a register."""
        where, values = self._below("path", path)
        rows = self._db.execute(f"SELECT path FROM registers WHERE {where}", values)  # noqa: S608
        return [path, *(one for (one,) in rows)]

    def since(
        self, seq: int, count: int, *, last: int = -1, but_of: bytes = b"-"
    ) -> list[tuple[int, str, bytes, bytes]]:
        """(seq, path, packed register, source) of the next `count` that changed behind `seq`, in that order.

        `last`: up to there; -1: all. `but_of`: not what came just so from this replica.
        """
        return self._db.execute(
            "SELECT seq, path, body, source FROM registers WHERE folder = ? AND seq > ? AND (? < 0 OR seq <= ?) "
            "AND source != ? ORDER BY seq LIMIT ?",
            (self._number, seq, last, last, but_of, count),
        )

    def save(
        self,
        registers: Iterable[RegisterRow] = (),
        *,
        agreed: Iterable[AgreedRow] = (),
        gone: Iterable[str] = (),
        contents: Iterable[tuple[bytes, bytes]] = (),
        events: Iterable[tuple[float, str, str, bytes, bytes]] = (),
        counter: int = 0,
        replica: bytes = b"",
        alone: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Keep all of this, or nothing. `gone`: local names that nothing was agreed upon any more.

        `counter`: the last number by which this computer wrote in the folder; 0: as it is. `replica`: it goes on as
        that, which has written `counter` times. `alone`: (path, content) that nobody else is known to have.
        """
        number = self._number
        with self._db.transaction() as db:
            (last,) = db.execute(_LAST, (number,)).fetchone()  # other threads save, too
            rows = [(number, one.path, seq, *one[1:]) for seq, one in enumerate(registers, last + 1)]
            db.executemany("INSERT OR REPLACE INTO registers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.executemany(
                "DELETE FROM agreed WHERE folder = ? AND local = ?", [(number, one) for one in gone]
            )
            db.executemany(
                "INSERT OR REPLACE INTO agreed VALUES (?, ?, ?, ?, ?, ?)", [(number, *one) for one in agreed]
            )
            db.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", contents)
            db.executemany(
                "INSERT INTO events (folder, at, path, what, by, body) VALUES (?, ?, ?, ?, ?, ?)",
                [(number, *one) for one in events],
            )
            db.executemany("INSERT OR IGNORE INTO alone VALUES (?, ?, ?)", [(number, *one) for one in alone])
            if replica:
                row = (replica, counter, number)
                db.execute("UPDATE folders SET replica = ?, counter = ? WHERE number = ?", row)
            elif counter:
                db.execute("UPDATE folders SET counter = max(counter, ?) WHERE number = ?", (counter, number))
        if rows:  # who keeps registers takes turns; who keeps the rest does not
            self.seq = last + len(rows)

    def remove(self, paths: Iterable[str]) -> None:
        """Forget these registers. No number is free again: the last that is left has the last that was given."""
        number = self._number
        with self._db.transaction() as db:
            (last,) = db.execute(_LAST, (number,)).fetchone()
            db.executemany(
                "DELETE FROM registers WHERE folder = ? AND path = ?", [(number, path) for path in paths]
            )
            (left,) = db.execute(_LAST, (number,)).fetchone()
            db.execute("UPDATE registers SET seq = ? WHERE folder = ? AND seq = ?", (last, number, left))

    def last_number(self) -> int:
        """Of the register that changed last, as it is kept."""
        return int(self._db.execute(_LAST, (self._number,))[0][0])

    def sync(self) -> None:
        """What is kept until now outlives a power cut."""
        self._db.sync()

    # ---- what waits for the owner

    def kept_asking(self) -> bytes | None:
        """Packed, as `Asking` kept it."""
        rows = self._db.execute("SELECT body FROM braked WHERE folder = ?", (self._number,))
        return rows[0][0] if rows else None

    def keep_asking(self, body: bytes) -> None:
        """Keep this for `kept_asking`."""
        self._db.execute("INSERT OR REPLACE INTO braked VALUES (?, ?)", (self._number, body))

    # ---- what was agreed

    def agreed(self, locals_: Sequence[str]) -> dict[str, bytes]:
        """Packed, of those of these local names that have it."""
        return dict(self._of("SELECT local, body FROM agreed WHERE folder = ? AND local IN ({})", locals_))

    def agreed_at(self, paths: Sequence[str]) -> list[tuple[str, bytes]]:
        """(local name, packed) of what is agreed of these paths: several of one path where it has copies."""
        return list(
            self._of(f"SELECT local, body FROM agreed {_BY_PATH} WHERE folder = ? AND path IN ({{}})", paths)  # noqa: S608
        )

    def agreed_below(self, local: str) -> Iterator[tuple[str, bytes]]:
        """(local name, packed) of everything below a local name, in order; "": of all."""
        where, values = self._below("local", local)
        query = f"SELECT local, body FROM agreed WHERE {where} AND local > ? ORDER BY local LIMIT {PAGE_ROWS}"  # noqa: S608
        last = ""
        while rows := self._db.execute(query, (*values, last)):
            yield from rows
            last = rows[-1][0]

    def agreed_in(self, local: str) -> Iterator[str]:
        """The local names directly in a folder; "": at the top."""
        where, values = self._below("local", local)
        start = len(local) + 1 if local else 0
        rows = self._db.execute(f"SELECT local FROM agreed WHERE {where} ORDER BY local", values)  # noqa: S608
        return (one for (one,) in rows if "/" not in one[start:])

    def lives_below(self, path: str) -> bool:
        """Whether something below a path is not gone (4: `register.Kind`)."""
        where, values = self._below("path", path)
        return bool(
            self._db.execute(f"SELECT 1 FROM registers WHERE {where} AND kind != 4 LIMIT 1", values)  # noqa: S608
        )

    def unshown_with(self, contents: Sequence[bytes]) -> list[str]:
        """The paths of files with these contents of which nothing is agreed. Reads every register: some 20 ms."""
        query = (
            "SELECT path FROM registers r WHERE folder = ? AND kind = 1 AND content IN ({}) AND NOT EXISTS "
            "(SELECT 1 FROM agreed a WHERE a.folder = r.folder AND a.path = r.path)"
        )
        return [path for (path,) in self._of(query, contents)]

    def agreed_with(self, contents: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """(local name, content) of where these contents lie here."""
        query = f"SELECT local, content FROM agreed {_BY_CONTENT} WHERE folder = ? AND content != x''"  # noqa: S608
        return list(self._of(query + " AND content IN ({})", contents))

    def paths_with(self, contents: Sequence[bytes]) -> list[str]:
        """The paths of files with these contents that are here."""
        query = f"SELECT DISTINCT path FROM agreed {_BY_CONTENT} WHERE folder = ? AND content != x''"  # noqa: S608
        return [path for (path,) in self._of(query + " AND content IN ({})", contents)]

    # ---- what lists ask for

    def totals(self) -> tuple[int, int]:
        """Files and bytes of all that is in the folder, wherever."""
        rows = self._db.execute(
            "SELECT count(*), total(size) FROM registers WHERE folder = ? AND kind = 1",
            (self._number,),
        )
        return rows[0][0], int(rows[0][1])

    def away_below(self, path: str) -> list[tuple[str, int]]:
        """(path, size) of the files at and below a path of which nothing is agreed; "": of all."""
        where, values = self._below("path", path)
        rows = self._db.execute(
            f"SELECT path, size FROM registers r WHERE (({where}) OR (folder = ? AND path = ?)) AND kind = 1 "  # noqa: S608
            "AND NOT EXISTS (SELECT 1 FROM agreed a WHERE a.folder = r.folder AND a.path = r.path)",
            (*values, self._number, path),
        )
        return [(one, size) for one, size in rows]

    def sizes(self, paths: Sequence[str]) -> list[int]:
        """Of the files at these paths, in no certain order."""
        return [
            size
            for (size,) in self._of("SELECT size FROM registers WHERE folder = ? AND path IN ({})", paths)
        ]

    def files_here(self) -> int:
        """How many files this disk has."""
        rows = self._db.execute("SELECT count(*) FROM agreed WHERE folder = ? AND kind = 1", (self._number,))
        return int(rows[0][0])

    def living_contents(self) -> list[bytes]:
        """The contents of all files in the folder, one for each file. Some 100 ms with 100,000."""
        rows = self._db.execute(
            "SELECT content FROM registers WHERE folder = ? AND kind = 1", (self._number,)
        )
        return [content for (content,) in rows]

    def children(self, path: str) -> Iterator[tuple[str, tuple[int, int, bytes, bytes] | None]]:
        """(name, (kind, size, content, packed register)) of what is in a folder itself, in no certain order.

        None: nobody wrote that folder, something below it has a register. What lies deeper is not read.
        """
        start = len(path) + 1 if path else 0
        first, end = (f"{path}/", f"{path}0") if path else ("", "\U0010ffff")
        count = CHILDREN_MIN
        while True:
            rows = self._db.execute(
                "SELECT path, kind, size, content, body FROM registers WHERE folder = ? AND path >= ? AND path < ? "
                "ORDER BY path LIMIT ?",
                (self._number, first, end, count),
            )
            is_last, count = len(rows) < count, min(count * 2, QUERY_ITEMS_MAX)
            for one, *rest in rows:
                name, slash, _ = one[start:].partition("/")
                if slash:
                    yield name, None
                    first = f"{one[:start]}{name}0"  # behind all that lies in it: "0" comes after "/"
                    is_last, count = False, CHILDREN_MIN
                    break
                yield name, (rest[0], rest[1], rest[2], rest[3])
                first = f"{one}\x01"
            if is_last:
                return

    def in_conflict(self) -> list[tuple[str, bytes]]:
        """(path, packed register) of those with several versions side by side."""
        return self._db.execute(
            "SELECT path, body FROM registers WHERE folder = ? AND copies > 0 ORDER BY path", (self._number,)
        )

    def conflicts(self) -> int:
        """How many paths have several versions side by side."""
        rows = self._db.execute(
            "SELECT count(*) FROM registers WHERE folder = ? AND copies > 0", (self._number,)
        )
        return int(rows[0][0])

    def undone(self) -> list[str]:
        """Paths where the disk may not have yet what the register says."""
        rows = self._db.execute(
            "SELECT path FROM registers r WHERE folder = ? AND (copies > 0 OR (kind != 4) != EXISTS (SELECT 1 FROM "  # noqa: S608
            f"agreed a {_BY_PATH} WHERE a.folder = r.folder AND a.path = r.path AND (r.kind = 4 OR "
            "(a.kind = r.kind AND a.content = r.content))) OR "
            f"(SELECT count(*) FROM agreed a {_BY_PATH} WHERE a.folder = r.folder AND a.path = r.path) > 1)",
            (self._number,),
        )
        return [path for (path,) in rows]

    def unsent(self) -> int:
        """How many places have a change or a content of here that nobody else has yet."""
        rows = self._db.execute(
            "SELECT count(*) FROM (SELECT path FROM registers WHERE folder = ? AND own AND seq > "
            "(SELECT coalesce(max(seen), 0) FROM replicas WHERE folder = ?) "
            "UNION SELECT path FROM alone WHERE folder = ?)",
            (self._number, self._number, self._number),
        )
        return int(rows[0][0])

    def seen_max(self) -> int:
        """Up to which number somebody else has everything of here."""
        (seen,) = self._db.execute("SELECT max(seen) FROM replicas WHERE folder = ?", (self._number,))[0]
        return seen or 0

    def own_up_to(self, seq: int) -> Iterator[bytes]:
        """The packed registers up to this number with a value that was written here."""
        rows = self._db.execute(
            "SELECT body FROM registers WHERE folder = ? AND own AND seq <= ?", (self._number, seq)
        )
        return (body for (body,) in rows)

    # ---- other replicas

    def replicas(self) -> list[tuple[bytes, bytes, int, int]]:
        """(replica, peer, up to which of its numbers all is here, up to which of ours it has all)."""
        return self._db.execute(
            "SELECT replica, peer, known, seen FROM replicas WHERE folder = ?", (self._number,)
        )

    def save_known(self, replica: bytes, peer: bytes, known: int) -> None:
        """Everything of that replica up to its number `known` is here."""
        self._db.execute(
            "INSERT INTO replicas VALUES (?, ?, ?, ?, 0) ON CONFLICT (folder, replica) "
            "DO UPDATE SET known = ?, peer = ?",
            (self._number, replica, peer, known, known, peer),
        )

    def save_seen(self, replica: bytes, peer: bytes, seen: int) -> None:
        """That replica has everything of here up to `seen`; earlier ones of its computer without a change are over."""
        with self._db.transaction() as db:
            db.execute(
                "DELETE FROM replicas WHERE folder = ? AND peer = ? AND known = 0 AND replica != ?",
                (self._number, peer, replica),
            )
            db.execute(
                "INSERT INTO replicas VALUES (?, ?, ?, 0, ?) ON CONFLICT (folder, replica) DO UPDATE SET seen = ?",
                (self._number, replica, peer, seen, seen),
            )

    # ---- what came from others

    def events(self, count: int) -> list[EventRow]:
        """The last `count`, newest first."""
        rows = self._db.execute(
            "SELECT number, at, path, what, by, body FROM events WHERE folder = ? ORDER BY number DESC LIMIT ?",
            (self._number, count),
        )
        return [EventRow(*row) for row in rows]

    def event(self, number: int) -> EventRow | None:
        """One of them."""
        rows = self._db.execute(
            "SELECT number, at, path, what, by, body FROM events WHERE folder = ? AND number = ?",
            (self._number, number),
        )
        return EventRow(*rows[0]) if rows else None

    def sweep_events(self, now: float) -> None:
        """Forget those that cannot be undone any more at `now` (unix seconds)."""
        self._db.execute(
            "DELETE FROM events WHERE folder = ? AND (at < ? OR number <= (SELECT number FROM events "
            "WHERE folder = ? ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (self._number, now - EVENTS_S, self._number, EVENTS_MAX),
        )

    def _of(self, query: str, values: Sequence[str] | Sequence[bytes]) -> Iterator[Any]:
        for part in _parts(list(values)):
            yield from self._db.execute(query.format(",".join("?" * len(part))), (self._number, *part))

    def _below(self, column: str, above: str) -> tuple[str, tuple[object, ...]]:
        if not above:
            return "folder = ?", (self._number,)
        return f"folder = ? AND {column} > ? AND {column} < ?", (self._number, f"{above}/", f"{above}0")


def _parts(values: list[object]) -> Iterator[list[object]]:
    for at in range(0, len(values), QUERY_ITEMS_MAX):
        yield values[at : at + QUERY_ITEMS_MAX]
