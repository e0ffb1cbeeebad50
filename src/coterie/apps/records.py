"""A list that an app keeps on disk: one small JSON file per record, readable by the owner only.

A record is replaced whole (write beside, then rename), so that a crash at any point leaves the old or the new one.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from coterie import json_text
from coterie.decoding import decoder
from coterie.errors import NotFound, StorageError, UsageError
from coterie.private_file import write_private

ID_CHARS = 6  # base 32: shown to people, told apart by eye
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class Record(Protocol):
    """What a record must have; it is a `msgspec.Struct`. `id` is letters and digits, `created` seconds since 1970."""

    id: str
    created: float


R = TypeVar("R", bound=Record)


class Records(Generic[R]):
    """All records of one type in a folder, held in memory, in order of creation."""

    def __init__(self, folder: Path, kind: type[R], noun: str) -> None:
        """`noun` is what messages call a record; `coterie <noun>s` lists them."""
        self._folder = folder
        self._noun = noun
        self._kind = kind
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = [self._load(path) for path in folder.glob("*.json")]
        self._records: dict[str, R] = {r.id: r for r in sorted(found, key=lambda r: (r.created, r.id))}

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._records.values()))

    def get(self, record_id: str) -> R:
        """The record `record_id`. Raises `NotFound`."""
        if record_id not in self._records:
            raise NotFound(f"there is no {self._noun} '{record_id}'; `coterie {self._noun}s` lists them")
        return self._records[record_id]

    def new_id(self) -> str:
        """An id that no record has."""
        while True:
            made = "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))
            if made not in self._records:
                return made

    def save(self, record: R) -> None:
        """Write `record` to disk, whole or not at all."""
        write_private(self._path(record.id), json_text.encode(record))
        self._records[record.id] = record

    def remove(self, record_id: str) -> None:
        """Forget a record."""
        del self._records[record_id]
        self._path(record_id).unlink(missing_ok=True)

    def _path(self, record_id: str) -> Path:
        if not record_id.isalnum():
            raise UsageError(f"'{record_id}' is not an id")
        return self._folder / f"{record_id}.json"

    @decoder(StorageError, "a record")
    def _load(self, path: Path) -> R:
        try:
            return json_text.decode(path.read_bytes(), self._kind)
        except (UsageError, OSError) as error:
            raise StorageError(f"{path} is damaged ({error}); move it away to go on without it") from error
