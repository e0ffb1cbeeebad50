"""Lists of records, as files and as rows: damage is set aside, crashes leave the old or the new, quotas hold."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coterie.errors import LimitExceeded, NotFound, StorageError, UsageError
from coterie.services.data.database import Database, RecordRows
from coterie.services.data.quota import Quota
from coterie.services.data.records import DAMAGED_MAX, Records


class Entry(msgspec.Struct):
    id: str
    created: float
    name: str = ""


Open = Callable[..., Records[Entry]]


class Lists:
    """Opens the same list again and again, as after a restart."""

    def __init__(self, folder: Path, many: bool) -> None:
        self.folder = folder
        self.many = many
        self.told: list[str] = []
        self.quota = Quota("guestbook")
        self.database: Database | None = None

    def open(self, **settings: Any) -> Records[Entry]:
        self.close()
        self.quota = Quota("guestbook", settings.pop("bytes_max", 10**9))
        place: Any = self.folder / "entries"
        if self.many:
            self.database = Database(self.folder / "data.db", self.quota)
            place = RecordRows(self.database, "entries")
        tell = lambda text, key: self.told.append(text)  # noqa: E731
        return Records(place, Entry, "entry", quota=self.quota, tell=tell, **settings)

    def put(self, record_id: str, raw: bytes) -> None:
        """What damage leaves."""
        if self.many:
            assert self.database is not None
            self.database.execute("INSERT OR REPLACE INTO records_entries VALUES (?, ?)", (record_id, raw))
        else:
            (self.folder / "entries" / f"{record_id}.json").write_bytes(raw)

    def close(self) -> None:
        if self.database is not None:
            self.database.close()


@pytest.fixture(params=[False, True], ids=["files", "rows"])
def lists(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lists]:
    made = Lists(tmp_path, request.param)
    yield made
    made.close()


def test_records_survive_a_restart_in_their_order(lists: Lists) -> None:
    records = lists.open()
    for number in (3, 1, 2):
        records.save(Entry(records.new_id(), float(number), f"{number}"))
    gone = records.new_id()
    records.save(Entry(gone, 4.0))
    records.remove(gone)
    again = lists.open()
    assert [r.name for r in again] == ["1", "2", "3"]
    assert len(again) == 3
    with pytest.raises(NotFound, match=f"there is no entry '{gone}'"):
        again.get(gone)
    with pytest.raises(UsageError, match="is not an id"):
        again.save(Entry("../up", 1.0))


def test_a_damaged_record_is_set_aside_and_told_and_the_rest_is_there(lists: Lists) -> None:
    lists.open().save(Entry("good", 1.0))
    lists.put("bad", b'{"id":"bad","crea')
    lists.put("other", b'{"id":"good","created":1}')
    assert [r.id for r in lists.open()] == ["good"]
    assert len(lists.told) == 2
    assert "the entry bad was damaged (a record cannot be read" in lists.told[0]
    assert "damaged" in lists.told[0].partition("is now")[2]
    assert "it says that it is 'good'" in lists.told[1]
    again = lists.open()
    assert len(lists.told) == 2, "told once"
    again.save(Entry("bad", 2.0))
    assert len(lists.open()) == 2


def test_what_is_set_aside_is_bounded_and_never_deleted(lists: Lists) -> None:
    lists.open()
    for number in range(DAMAGED_MAX):
        lists.put(f"bad{number}", b"?")
    lists.open()
    lists.put("more", b"?")
    with pytest.raises(StorageError, match=f"{DAMAGED_MAX} damaged records already: look at the disk"):
        lists.open()


def test_a_record_of_a_newer_version_stays_and_is_told(lists: Lists) -> None:
    lists.open(migrations=[dict]).save(Entry("new", 1.0))
    assert len(lists.open()) == 0
    assert "the entry new is from a newer version and is left out" in lists.told[0]
    assert len(lists.open(migrations=[dict])) == 1


def test_a_full_quota_refuses_growth_and_nothing_else(lists: Lists) -> None:
    records = lists.open(bytes_max=100_000)
    records.save(Entry("small", 1.0))
    big = Entry("big", 2.0, "x" * 50_000)
    records.save(big)
    with pytest.raises(
        LimitExceeded, match=r"'guestbook' has filled its quota of 100.0 kB.*\[app.guestbook\]"
    ):
        records.save(Entry("bigger", 3.0, "x" * 50_000))
    assert [r.id for r in records] == ["small", "big"]
    records.save(big)
    records.remove("big")
    records.save(Entry("bigger", 3.0, "x" * 50_000))
    assert [r.id for r in lists.open(bytes_max=1)] == ["small", "bigger"], "what is there is never refused"
    assert lists.quota.used >= 50_000


def test_records_of_the_first_version_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "entries"
    folder.mkdir()
    (folder / "abc.json").write_bytes(b'{"id":"abc","created":1.5,"name":"old"}')
    records = Records(folder, Entry, "entry")
    assert records.get("abc").name == "old"
    records.save(Entry("abc", 1.5, "new"))
    assert (folder / "abc.json").read_bytes() == b'{"id":"abc","created":1.5,"name":"new"}'


def test_one_that_the_system_cannot_read_is_left_out_and_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "folder.json").mkdir()
    assert len(Records(tmp_path, Entry, "entry", tell=lambda text, key: told.append(text))) == 0
    assert "the entry folder is left out" in told[0]


_KILLED = """
import os, sys
from pathlib import Path
from coterie.services.data.records import Records
import msgspec
class Entry(msgspec.Struct):
    id: str
    created: float
    name: str = ""
records = Records(Path(sys.argv[1]), Entry, "entry")
records.save(Entry("a", 1.0, "old"))
os.replace = lambda *a: os._exit(9)
records.save(Entry("a", 1.0, "new"))
"""


def test_killed_between_writing_and_replacing_the_old_one_is_there_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    assert Records(tmp_path, Entry, "entry").get("a").name == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_rows_and_other_changes_are_taken_back_together(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "data.db", Quota("a"))) as database:
        records = Records(RecordRows(database, "entries"), Entry, "entry")
        records.save(Entry("kept", 1.0, "before"))
        with pytest.raises(ZeroDivisionError), database.transaction():
            records.save(Entry("kept", 1.0, "after"))
            records.save(Entry("new", 2.0))
            records.remove("kept")
            assert [r.id for r in records] == ["new"]
            _ = 1 // 0
        assert [(r.id, r.name) for r in records] == [("kept", "before")]
        with database.transaction(), database.transaction():
            records.save(Entry("new", 2.0))
        assert len(Records(RecordRows(database, "entries"), Entry, "entry")) == 2


def test_a_hundred_thousand_open_within_a_second(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "data.db", Quota("a"))) as database:
        RecordRows(database, "entries")
        with database.transaction() as db:
            db.executemany(
                "INSERT INTO records_entries VALUES (?, ?)",
                (
                    (
                        f"r{n}",
                        json.dumps({"id": f"r{n}", "created": float(n), "name": f"name of {n}" * 5}).encode(),
                    )
                    for n in range(100_000)
                ),
            )
    began = time.thread_time()
    with closing(Database(tmp_path / "data.db", Quota("a"))) as database:
        assert len(Records(RecordRows(database, "entries"), Entry, "entry")) == 100_000
    assert time.thread_time() - began <= 1.0
