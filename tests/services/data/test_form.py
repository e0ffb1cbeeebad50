"""Records of any form that an app ever had come back; damage and newer forms are told apart."""

from typing import Any

import msgspec
import pytest

from coterie.errors import LimitExceeded, StorageError
from coterie.services.data import form as form_module
from coterie.services.data.form import Form, NewerForm


class Entry(msgspec.Struct):
    id: str
    created: float
    author: str


def named(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "by": plain.pop("name")}


def renamed(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "author": plain.pop("by").title()}


ANNA = Entry("a1", 5.0, "Anna")
FORMS = (
    b'{"id":"a1","created":5.0,"name":"anna"}',
    b'{"record_form":2,"id":"a1","created":5.0,"by":"anna"}',
    b'{"record_form":3,"id":"a1","created":5.0,"author":"Anna"}',
)


def test_every_form_becomes_that_of_today() -> None:
    form = Form(Entry, [named, renamed])
    assert [form.read(raw) for raw in FORMS] == [ANNA] * 3
    assert form.write(ANNA) == FORMS[-1]


def test_the_first_form_has_no_number() -> None:
    assert Form(Entry).write(ANNA) == b'{"id":"a1","created":5.0,"author":"Anna"}'
    assert Form(Entry).read(b'{"author":"Anna","id":"a1","created":5,"unknown":1}') == ANNA


def test_a_newer_form_is_no_damage() -> None:
    with pytest.raises(NewerForm, match="it has form 3, this version knows up to 2"):
        Form(Entry, [named]).read(FORMS[2])
    with pytest.raises(NewerForm):
        Form(Entry).read(FORMS[1])


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"id":"a1"}', b'{"record_form":"x"}', b"\xff" * 9, b"[" * 9999]
)
def test_damage_is_told(raw: bytes) -> None:
    for form in (Form(Entry), Form(Entry, [dict])):
        with pytest.raises(StorageError, match="a record cannot be read") as refused:
            form.read(raw)
        assert not isinstance(refused.value, NewerForm)


def test_a_faulty_migration_is_not_taken_for_damage() -> None:
    def faulty(plain: dict[str, Any]) -> dict[str, Any]:
        return {"by": plain["nobody"]}

    with pytest.raises(KeyError):
        Form(Entry, [faulty]).read(FORMS[0])


def test_a_record_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_module, "RECORD_BYTES_MAX", len(Form(Entry).write(ANNA)))
    Form(Entry).write(ANNA)
    with pytest.raises(LimitExceeded, match="is larger than"):
        Form(Entry).write(Entry("a1", 5.0, "Anna2"))
