"""The form of a record on disk: JSON, with the number of its form where that is not the first. Pure.

The first form has no number, so that records from before there were numbers are of the first form. An app that changes
its record appends a migration: a function from the plain JSON object of one form to that of the next.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from coterie import json_text
from coterie.decoding import decoder
from coterie.errors import LimitExceeded, StorageError, UsageError
from coterie.texts import tr

R = TypeVar("R")
Migration = Callable[[dict[str, Any]], dict[str, Any]]

NUMBER = "record_form"
_NUMBER = NUMBER.encode()
RECORD_BYTES_MAX = 16 * 1024 * 1024  # guess: the largest of ours is a torrent of many files, below 1 MB


class NewerForm(StorageError):
    """The record is sound, and a newer version of the app wrote it."""


class _Numbered(msgspec.Struct, rename={"number": NUMBER}):
    number: int = 1


class Form(Generic[R]):
    """How records of one kind become bytes and come back, from any form that the app ever had."""

    def __init__(self, kind: type[R], migrations: Sequence[Migration] = ()) -> None:
        """`migrations`: from the first form to the second, and so on; none may ever be taken out."""
        self._kind = kind
        self._migrations = tuple(migrations)

    def write(self, record: R) -> bytes:
        """Raises `LimitExceeded` beyond RECORD_BYTES_MAX."""
        raw = json_text.encode(record)
        if self._migrations:
            number = b'{"%s":%d' % (_NUMBER, len(self._migrations) + 1)
            raw = number + (b"," if len(raw) > 2 else b"") + raw[1:]
        if len(raw) > RECORD_BYTES_MAX:
            raise LimitExceeded(
                tr(
                    "a record of {raw} bytes is larger than {record_bytes_max}",
                    raw=len(raw),
                    record_bytes_max=RECORD_BYTES_MAX,
                )
            )
        return raw

    def read(self, raw: bytes) -> R:
        """The record in the form of today. What a migration raises passes: the record is not at fault.

        Raises:
            NewerForm: a newer version of the app wrote it.
            StorageError: it is damaged.
        """
        number = self._number(raw)
        if number == len(self._migrations) + 1:
            return self._whole(raw)
        if number > len(self._migrations) + 1:
            raise NewerForm(
                tr(
                    "it has form {number}, this version knows up to {migrations}",
                    number=number,
                    migrations=len(self._migrations) + 1,
                )
            )
        plain = self._plain(raw)
        for migration in self._migrations[number - 1 :]:
            plain = migration(plain)
        return self._converted(plain)

    @decoder(StorageError, "a record")
    def _number(self, raw: bytes) -> int:
        if not self._migrations and _NUMBER not in raw:
            return 1
        return max(1, _decoded(raw, _Numbered).number)

    @decoder(StorageError, "a record")
    def _whole(self, raw: bytes) -> R:
        return _decoded(raw, self._kind)

    @decoder(StorageError, "a record")
    def _plain(self, raw: bytes) -> dict[str, Any]:
        plain = _decoded(raw, dict[str, Any])
        plain.pop(NUMBER, None)
        return plain

    @decoder(StorageError, "a record")
    def _converted(self, plain: dict[str, Any]) -> R:
        return msgspec.convert(plain, self._kind)


def _decoded(raw: bytes, kind: type[R]) -> R:
    try:
        return json_text.decode(raw, kind)
    except UsageError as error:
        raise StorageError(tr("a record cannot be read: {error}", error=error)) from None
