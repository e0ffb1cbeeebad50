"""One app's mail on disk: what is written is there, the app's records and the receipt together, damage is set aside."""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import StorageError
from coterie.services.mail.events import (
    Bind,
    Deliver,
    Forget,
    Handled,
    Keep,
    KeepFinished,
    Outgoing,
    StreamKey,
)
from coterie.services.mail.inbox import Finished
from coterie.services.mail.messages import Letter
from coterie.services.mail.sealing import Opened, digest
from coterie.services.mail.store import MailStore
from tests.services.mail.histories import ANNA, BEN, BEN2

KEY, EPOCH, NOW = StreamKey(ANNA, "", True), b"e" * 8, 5.0
OUT = Outgoing(b"i" * 16, BEN, "s", True, 3, 99, 4, digest(b"body"), True, False, b"e" * 8)


def store(folder: Path) -> MailStore:
    return MailStore(folder / "mail.db")


def deliver(*numbers: int, is_ordered: bool = True) -> Deliver:
    letters = [Letter("app", "", is_ordered, EPOCH, n, 1, 0, 0, b"%d" % n) for n in numbers]
    opened = [Opened(sender=ANNA, id=b"%016d" % one.number, expires=99, letter=one) for one in letters]
    return Deliver(StreamKey(ANNA, "", is_ordered), tuple(opened))


def keep(opened: Opened, db: sqlite3.Connection) -> None:
    """An app that writes, and then fails at the number 2."""
    db.execute("CREATE TABLE IF NOT EXISTS got (n INTEGER)")
    db.execute("INSERT INTO got VALUES (?)", (opened.letter.number,))
    if opened.letter.number == 2:
        raise ValueError("not this one")


def got(one: MailStore) -> list[int]:
    return one.run(lambda db: [row[0] for row in db.execute("SELECT n FROM got ORDER BY n")])


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = store(tmp_path)
    writes = [
        Keep(OUT, b"body"),
        Keep(Outgoing(b"j" * 16, BEN2, "s", True, 1, 99, 1, b"d" * 32), b"x"),
        Forget(b"j" * 16, BEN2),
        KeepFinished(KEY, EPOCH, 2, (4,), NOW),
    ]
    first.commit([*writes, Bind(OUT)], None)
    first.close()
    second = store(tmp_path)
    assert second.load() == (
        [OUT],
        {(KEY, EPOCH): Finished(2, NOW, {4: b""})},
    )
    assert second.body(OUT.id, BEN) == b"body"
    assert second.body(OUT.id, BEN2) is None
    mode = stat.S_IMODE(os.stat(tmp_path / "mail.db").st_mode)
    second.close()
    assert mode == 0o600


def test_a_commit_is_on_disk_before_it_returns(tmp_path: Path) -> None:
    one = store(tmp_path)
    assert one.run(lambda db: db.execute("PRAGMA synchronous").fetchone()[0]) == 2
    one.close()


@pytest.mark.parametrize(
    ("is_ordered", "done", "kept"), [(True, (True, False), [1]), (False, (True, False, True), [1, 3])]
)
def test_a_letter_at_which_the_app_fails_leaves_nothing(
    tmp_path: Path, is_ordered: bool, done: tuple[bool, ...], kept: list[int]
) -> None:
    one, given = store(tmp_path), deliver(1, 2, 3, is_ordered=is_ordered)
    handled = one.commit([KeepFinished(given.key, EPOCH, 1), given], keep)
    assert handled == [Handled(given.key, EPOCH, done)]
    assert got(one) == kept
    assert list(one.load()[1][given.key, EPOCH].ids) == kept
    one.close()


def test_the_records_of_the_app_and_the_receipt_are_one(tmp_path: Path) -> None:
    """The turn cannot be written as a whole: neither the app's record nor the receipt is there."""
    one = store(tmp_path)
    twice = Keep(OUT, b"body")
    with pytest.raises(StorageError):
        one.commit([KeepFinished(KEY, EPOCH, 1), deliver(1), twice, twice], keep)
    with pytest.raises(StorageError, match="no such table"):
        got(one)
    assert one.load() == ([], {})
    one.close()


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", "ROLLBACK", "SAVEPOINT mine", "DELETE FROM mail_taken", "ATTACH ':memory:' AS other"],
)
def test_the_app_ends_no_transaction_and_writes_no_table_of_mail(tmp_path: Path, statement: str) -> None:
    def meddle(opened: Opened, db: sqlite3.Connection) -> None:
        db.execute(statement)

    one = store(tmp_path)
    assert one.commit([KeepFinished(KEY, EPOCH, 1), deliver(1)], meddle)[0].done == (False,)
    assert one.commit([deliver(1)], keep)[0].done == (True,)
    one.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "mail.db").write_bytes(b"no database" * 1_000)
    one = store(tmp_path)
    assert "is now" in one.problem
    assert (tmp_path / "mail.db.damaged").exists()
    assert one.load() == ([], {})
    one.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mail.db") as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(StorageError, match="upgrade this one"):
        store(tmp_path)


def test_a_full_disk_undoes_the_whole_turn(tmp_path: Path) -> None:
    one = store(tmp_path)
    one._db.execute("PRAGMA max_page_count = 20")
    writes: list[Any] = [KeepFinished(KEY, EPOCH, 1), deliver(1), Keep(OUT, bytes(200_000))]
    with pytest.raises(StorageError):
        one.commit(writes, keep)
    assert one.load() == ([], {})
    one.close()


def test_a_file_of_the_first_form_is_read_on(tmp_path: Path) -> None:
    """Letters keep the epoch that was that of their stream."""
    with sqlite3.connect(tmp_path / "mail.db") as db:
        db.executescript(FIRST_FORM)
    db.close()
    one = store(tmp_path)
    letters, finished = one.load()
    assert letters == [Outgoing(b"i", BEN, "s", True, 3, 99, 4, b"d", False, False, b"epoch")]
    assert finished == {(KEY, EPOCH): Finished(2, 5_184_005.0, {3: b"k"})}
    one.close()


FIRST_FORM = f"""
CREATE TABLE mail_letters (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, addressee BLOB NOT NULL, stream TEXT NOT NULL,
    is_ordered INTEGER NOT NULL, number INTEGER NOT NULL, expires INTEGER NOT NULL, digest BLOB NOT NULL,
    is_for_first INTEGER NOT NULL, is_bound INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (id, addressee));
CREATE TABLE mail_counts (
    addressee BLOB NOT NULL, stream TEXT NOT NULL, is_ordered INTEGER NOT NULL, epoch BLOB NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (addressee, stream, is_ordered)) WITHOUT ROWID;
CREATE TABLE mail_streams (
    sender BLOB NOT NULL, stream TEXT NOT NULL, is_ordered INTEGER NOT NULL, epoch BLOB NOT NULL,
    floor INTEGER NOT NULL, used_at REAL NOT NULL,
    PRIMARY KEY (sender, stream, is_ordered, epoch)) WITHOUT ROWID;
CREATE TABLE mail_taken (
    sender BLOB NOT NULL, stream TEXT NOT NULL, is_ordered INTEGER NOT NULL, epoch BLOB NOT NULL,
    number INTEGER NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (sender, stream, is_ordered, epoch, number)) WITHOUT ROWID;
INSERT INTO mail_letters VALUES (1, CAST('i' AS BLOB), x'{bytes(BEN).hex()}', 's', 1, 3, 99, CAST('d' AS BLOB), 0, 0,
    CAST('body' AS BLOB));
INSERT INTO mail_counts VALUES (x'{bytes(BEN).hex()}', 's', 1, CAST('epoch' AS BLOB), 3);
INSERT INTO mail_streams VALUES (x'{bytes(ANNA).hex()}', '', 1, x'{EPOCH.hex()}', 2, 5.0);
INSERT INTO mail_taken VALUES (x'{bytes(ANNA).hex()}', '', 1, x'{EPOCH.hex()}', 3, CAST('k' AS BLOB));
PRAGMA user_version = 1;
"""
