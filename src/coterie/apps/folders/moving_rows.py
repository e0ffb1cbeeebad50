"""The rows of a folder that moves as a whole, read and written together. Blocking; in the database of `store.py`."""

from collections.abc import Iterable

from coterie.apps.folders.folder_move import Before, FolderMove, Place
from coterie.apps.folders.register import pack
from coterie.apps.folders.store import AgreedRow, FolderData, FoldersStore


class MovingRows:
    """Of one live folder. Local names and paths are the same here."""

    def __init__(self, store: FoldersStore, number: int, data: FolderData) -> None:
        """`data`: the rows of the folder with this `number`."""
        self._db = store.db
        self._number = number
        self._data = data

    def moving(self, source: str, target: str) -> list[Before]:
        """What stands of the folder `source` and below, in order, and of the paths to which that moves."""
        start = len(source) + 1
        rows = self._db.execute(
            "SELECT s.path, s.body, coalesce(t.body, x'') FROM registers s LEFT JOIN registers t "
            "ON t.folder = s.folder AND t.path = ? || substr(s.path, ?) "
            "WHERE s.folder = ? AND s.kind != 4 AND (s.path = ? OR (s.path > ? AND s.path < ?)) ORDER BY s.path",
            (target, start, self._number, source, f"{source}/", f"{source}0"),
        )
        return [Before(*row) for row in rows]

    def living(self, path: str, *, below: bool = True) -> list[tuple[str, bytes]]:
        """(path, packed register) of what is not gone at a path, and `below`."""
        end = (f"{path}/", f"{path}0") if below else ("", "")
        return self._db.execute(
            "SELECT path, body FROM registers WHERE folder = ? AND kind != 4 AND (path = ? OR (path > ? AND path < ?))",
            (self._number, path, *end),
        )

    def lives_at(self, path: str) -> bool:
        """Whether something at or below a path is not gone."""
        return self._data.lives_below(path) or bool(self.living(path, below=False))

    def agreed_tree(self, local: str) -> list[tuple[str, bytes]]:
        """(local name, packed) of what is agreed on at and below a local name, in order."""
        return [*self._data.agreed([local]).items(), *self._data.agreed_below(local)]

    def agreed_count(self, local: str) -> int:
        """How much is agreed on below a local name."""
        rows = self._db.execute(
            "SELECT count(*) FROM agreed WHERE folder = ? AND local > ? AND local < ?",
            (self._number, f"{local}/", f"{local}0"),
        )
        return int(rows[0][0])

    def count_numbers(self, first: int, last: int) -> int:
        """How many registers changed last behind `first` up to `last`."""
        rows = self._db.execute(
            "SELECT count(*) FROM registers WHERE folder = ? AND seq > ? AND seq <= ?",
            (self._number, first, last),
        )
        return int(rows[0][0])

    def save(
        self,
        move: FolderMove,
        places: Iterable[Place],
        *,
        source: bytes,
        agreed: Iterable[AgreedRow] = (),
        events: Iterable[tuple[float, str, str, bytes, bytes]] = (),
        counter: int = 0,
    ) -> None:
        """Keep the writes of a move, which are all, or nothing; arguments as `RegisterRow.source`, `FolderData.save`.

        `agreed`: instead of what is agreed on at its source and below; none: that stays.
        What nobody else is known to have is so at its new place.
        """
        number, is_own = self._number, not source
        new, gone = [], []
        with self._db.transaction() as db:
            first = self._data.last_number() + 1
            for seq, one in enumerate(places, first):
                old = one.old
                new.append(
                    (
                        number,
                        one.target,
                        seq,
                        int(old.kind),
                        old.size,
                        old.content,
                        0,
                        is_own,
                        source,
                        pack(one.new),
                    )
                )
                gone.append((seq + move.count, is_own, source, pack(one.gone), number, one.path))
            db.executemany("INSERT OR REPLACE INTO registers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", new)
            db.executemany(
                "UPDATE registers SET seq = ?, kind = 4, size = 0, content = x'', copies = 0, own = ?, source = ?, "
                "body = ? WHERE folder = ? AND path = ?",
                gone,
            )
            self._data.save(events=events, counter=counter)
            if agreed:
                self.agree(move.source, agreed)
            db.execute(
                "UPDATE OR REPLACE alone SET path = ? || substr(path, ?) "
                "WHERE folder = ? AND (path = ? OR (path > ? AND path < ?))",
                (move.target, len(move.source) + 1, *self._at(move.source)),
            )
        self._data.seq = first + 2 * move.count - 1

    def agree(self, local: str, rows: Iterable[AgreedRow]) -> None:
        """Keep these instead of what is agreed on at a local name and below, or nothing."""
        with self._db.transaction() as db:
            db.execute(
                "DELETE FROM agreed WHERE folder = ? AND (local = ? OR (local > ? AND local < ?))",
                self._at(local),
            )
            self._data.save(agreed=rows)

    def _at(self, folder: str) -> tuple[int, str, str, str]:
        return self._number, folder, f"{folder}/", f"{folder}0"
