"""JSON with paths that are no UTF-8."""

import msgspec
import pytest

from coterie import json_text
from coterie.errors import UsageError


class Record(msgspec.Struct):
    path: str
    key: bytes = b"\x00\xff"


@pytest.mark.parametrize("path", ["plain", "\N{PARTY POPPER}", "a\udcff", "\\udcff", "\udcff\\ud"])
def test_what_is_written_is_read_again(path: str) -> None:
    assert json_text.decode(json_text.encode(Record(path)), Record) == Record(path)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"path": 1}', b'"\\udcff', b'{"path": 1, "key": "\\udcff"}'])
def test_what_is_damaged_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError):
        json_text.decode(raw, Record)
