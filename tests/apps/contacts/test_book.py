"""The list of contacts: kept on disk, told apart by name, safe to show."""

from pathlib import Path

import pytest

from coterie.apps.contacts import book as book_module
from coterie.apps.contacts.book import ContactBook, ContactRecord
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.services.data.records import Records
from tests.apps.contacts.play import ANNA, BEN, EVE


def open_book(folder: Path) -> ContactBook:
    return ContactBook(Records(folder / "contacts", ContactRecord, "contact"))


def test_contacts_survive_a_restart(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    added = book.add(ANNA, "anna", ["192.0.2.1:1", "[2001:db8::1]:2"], b"record", 5.0)
    book.add(BEN, "ben", [], b"", 6.0)
    again = open_book(tmp_path)
    assert again.all() == book.all()
    assert again.get(ANNA) == added
    assert added.addresses == ("192.0.2.1:1", "[2001:db8::1]:2")
    assert (again.is_contact(ANNA), again.is_contact(EVE), len(again)) == (True, False, 2)
    again.remove("anna")
    assert not again.is_contact(ANNA)
    assert [c.name for c in open_book(tmp_path).all()] == ["ben"]


def test_the_same_name_gets_a_number(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    assert book.add(ANNA, "anna", [], b"", 1.0).name == "anna"
    assert book.add(BEN, "ANNA", [], b"", 2.0).name == "ANNA (2)"
    assert book.add(EVE, "ａnna", [], b"", 3.0).name == "ａnna (3)"  # full width, looks the same
    assert book.by_name("Anna (2)").peer == BEN
    assert book.find("anna").peer == ANNA
    long = "x" * 64
    for peer in (ANNA, BEN, EVE):
        book.remove(str(peer))
    assert book.add(ANNA, long, [], b"", 1.0).name == long
    second = book.add(BEN, long, [], b"", 1.0).name
    assert second.endswith("x (2)")
    assert len(second) <= 64


def test_one_who_comes_again_keeps_its_name_and_brings_new_addresses(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.add(ANNA, "anna", ["192.0.2.1:1"], b"", 1.0)
    names = book.names
    book.rename("anna", "Sister")
    assert names == {ANNA: "Sister"}
    again = book.add(ANNA, "anna", ["192.0.2.2:2"], b"new", 9.0)
    assert (again.name, again.addresses, again.record, again.added) == (
        "Sister",
        ("192.0.2.2:2",),
        b"new",
        1.0,
    )
    assert len(book) == 1
    book.remove("sister")
    assert names == {}


def test_addresses_that_are_none_are_left_out(tmp_path: Path) -> None:
    said = ["evil.example:80", "192.0.2.1", "192.0.2.1:99999", "192.0.2.1:x", "", "[::1]:5", "192.0.2.1:1"]
    assert open_book(tmp_path).add(ANNA, "a", said, b"", 1.0).addresses == ("[::1]:5", "192.0.2.1:1")


def test_a_claimed_name_never_takes_the_place_of_another(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.add(ANNA, "anna", [], b"", 1.0)
    imitation = f"anna~{str(ANNA)[:3]}"
    assert book.add(BEN, imitation, [], b"", 2.0).name == imitation.replace("~", "-")
    assert book.find(imitation).peer == ANNA
    assert book.add(EVE, "Anyone", [], b"", 3.0).name == "Anyone_"


def test_a_name_that_is_the_short_id_of_another_finds_neither(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.add(ANNA, "anna", [], b"", 1.0)
    book.add(BEN, ANNA.short, [], b"", 2.0)
    with pytest.raises(UsageError, match="may be any of"):
        book.find(ANNA.short)
    assert book.find(str(ANNA)).peer == ANNA


def test_names_that_an_old_home_holds_become_names(tmp_path: Path) -> None:
    records = Records(tmp_path / "contacts", ContactRecord, "contact")
    for peer, name in ((ANNA, "a/b"), (BEN, "a-b"), (EVE, "contacts")):
        records.save(ContactRecord(id=str(peer), created=float(peer[0]), name=name, addresses=[]))
    book = open_book(tmp_path)
    names = [contact.name for contact in book.all()]
    assert sorted(names) == ["a-b", "a-b (2)", "contacts_"]
    assert [book.find(name).name for name in names] == names
    book.rename("contacts_", "eve")
    assert open_book(tmp_path).find("eve").peer == EVE


def test_a_name_that_is_none_becomes_the_short_id(tmp_path: Path) -> None:
    assert open_book(tmp_path).add(ANNA, "\u202e", [], b"", 1.0).name == ANNA.short


def test_find_by_name_by_id_and_what_it_says_otherwise(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.add(ANNA, "anna", [], b"", 1.0)
    assert book.find(str(ANNA)).peer == book.find(ANNA.short).peer == book.find("ANNA").peer == ANNA
    for text in ("ben", "", "a"):
        with pytest.raises(NotFound, match="coterie contacts"):
            book.find(text)


def test_rename_says_what_cannot_be(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.add(ANNA, "anna", [], b"", 1.0)
    book.add(BEN, "ben", [], b"", 1.0)
    with pytest.raises(UsageError, match="another contact"):
        book.rename("ben", "Anna")
    for name in ("", " ", "a\nb", "x" * 65):
        with pytest.raises(UsageError, match="1 to 64"):
            book.rename("ben", name)
    assert book.rename("anna", "ANNA").name == "ANNA"
    with pytest.raises(NotFound):
        book.rename("eve", "x")


def test_there_is_an_end_to_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CONTACTS_MAX", 2)
    book = open_book(tmp_path)
    book.add(ANNA, "anna", [], b"", 1.0)
    book.add(BEN, "ben", [], b"", 1.0)
    with pytest.raises(LimitExceeded):
        book.add(EVE, "eve", [], b"", 1.0)
    book.add(BEN, "ben", ["192.0.2.1:1"], b"", 1.0)


def test_a_damaged_record_is_set_aside_and_told(tmp_path: Path) -> None:
    open_book(tmp_path).add(ANNA, "anna", [], b"", 1.0)
    (path,) = (tmp_path / "contacts").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{")
    told: list[str] = []
    tell = lambda text, key: told.append(text)  # noqa: E731
    book = ContactBook(Records(tmp_path / "contacts", ContactRecord, "contact", tell=tell))
    assert book.all() == []
    assert "was damaged" in told[0]
    assert str(tmp_path / "contacts" / "damaged" / path.name) in told[0]
