"""A list that an app keeps on disk and in memory, readable by the owner only: few records as files, many as rows.

A record is replaced whole, so that a crash at any point leaves the old or the new one. A damaged one is set aside and
told; the rest is there.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from coterie.errors import NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.services.data.form import Form, Migration, NewerForm
from coterie.services.data.quota import Quota
from coterie.texts import tr

ID_CHARS = 6  # base 32: shown to people, told apart by eye
DAMAGED_MAX = 100  # set aside of one list: more is no accident, and nothing is deleted. Guess
DAMAGED_FOLDER = "damaged"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_UNFINISHED = re.compile(r".+\.json\.[0-9a-f]{16}")  # of `write_private`, left by a crash


class Record(Protocol):
    """What a record must have; it is a `msgspec.Struct`. `id` is letters and digits, `created` seconds since 1970."""

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> float: ...


R = TypeVar("R", bound=Record)


class Place(Protocol):
    """Where records are as bytes, by their ids."""

    def load(self) -> Iterator[tuple[str, bytes | OSError]]:
        """All of them, or why one cannot be read. Raises `StorageError`."""
        ...

    def write(self, record_id: str, raw: bytes) -> None:
        """Whole or not at all. Raises `StorageError`, `LimitExceeded`."""
        ...

    def remove(self, record_id: str) -> None:
        """Raises `StorageError`."""
        ...

    def set_aside(self, record_id: str) -> str:
        """Move a damaged record out of the way; where it is now, for people.

        Raises:
            StorageError: the disk refuses, or DAMAGED_MAX are there already.
        """
        ...

    def undo_with(self, undo: Callable[[], None]) -> None:
        """Call `undo` if the transaction that is under way is taken back."""
        ...


class Records(Generic[R]):
    """All records of one type, held in memory, in order of creation."""

    def __init__(
        self,
        place: Path | Place,
        kind: type[R],
        noun: str,
        *,
        migrations: Sequence[Migration] = (),
        quota: Quota | None = None,
        tell: Callable[[str, str], object] = lambda text, key: None,
    ) -> None:
        """Read all that is there.

        Args:
            place: a folder, made when missing, or another place for records.
            noun: what messages call a record; `coterie <noun>s` lists them.
            migrations: see `Form`.
            quota: what files count for.
            tell: gets a sentence for the owner about each record that cannot be used, and a key for it.
        """
        self._place = RecordFiles(place, quota or Quota("", 1 << 62)) if isinstance(place, Path) else place
        self._noun = noun
        self._form = Form(kind, migrations)
        self._tell = tell
        found = [r for record_id, raw in self._place.load() if (r := self._read(record_id, raw)) is not None]
        found.sort(key=lambda r: (r.created, r.id))
        self._records: dict[str, R] = {r.id: r for r in found}

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, record_id: str) -> R:
        """The record `record_id`. Raises `NotFound`."""
        if record_id not in self._records:
            raise NotFound(
                tr(
                    "there is no {noun} '{record_id}'; `coterie {noun}s` lists them",
                    noun=self._noun,
                    record_id=record_id,
                )
            )
        return self._records[record_id]

    def new_id(self) -> str:
        """An id that no record has."""
        while True:
            made = "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))
            if made not in self._records:
                return made

    def save(self, record: R) -> None:
        """Write `record` to disk, whole or not at all. Raises `StorageError`, `LimitExceeded`."""
        _check_id(record.id)
        self._place.write(record.id, self._form.write(record))
        self._change(record.id, record)

    def remove(self, record_id: str) -> None:
        """Forget a record."""
        if record_id not in self._records:
            raise KeyError(record_id)
        self._place.remove(record_id)
        self._change(record_id, None)

    def _change(self, record_id: str, now: R | None) -> None:
        before = self._records.get(record_id)
        self._put(record_id, now)
        self._place.undo_with(lambda: self._put(record_id, before))

    def _put(self, record_id: str, record: R | None) -> None:
        if record is None:
            self._records.pop(record_id, None)
        else:
            self._records[record_id] = record

    def _read(self, record_id: str, raw: bytes | OSError) -> R | None:
        if isinstance(raw, OSError):
            self._tell(
                f"the {self._noun} {record_id} is left out: {raw.filename} cannot be read: {raw.strerror}",
                f"unreadable {self._noun} {record_id}",
            )
            return None
        try:
            record = self._form.read(raw)
            if record.id != record_id:
                raise StorageError(tr("it says that it is '{record_id}'", record_id=record.id[:100]))
            return record
        except NewerForm as error:
            self._tell(
                f"the {self._noun} {record_id} is from a newer version and is left out: {error}; install that version",
                f"newer {self._noun} {record_id}",
            )
        except StorageError as error:
            aside = self._place.set_aside(record_id)
            self._tell(
                f"the {self._noun} {record_id} was damaged ({error}) and is now {aside}; everything else goes on",
                f"damaged {self._noun} {record_id}",
            )
        return None


class RecordFiles:
    """One small JSON file for each record: for up to some thousands, and for people to look at."""

    def __init__(self, folder: Path, quota: Quota) -> None:
        self._folder = folder
        self._quota = quota
        self._sizes: dict[str, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> Iterator[tuple[str, bytes | OSError]]:
        """See `Place`."""
        try:
            names = sorted(os.listdir(self._folder))
        except OSError as error:
            raise StorageError(
                tr("{folder} cannot be read: {strerror}", folder=self._folder, strerror=error.strerror)
            ) from error
        for name in names:
            record_id = name.removesuffix(".json")
            if _UNFINISHED.fullmatch(name):
                with contextlib.suppress(OSError):  # it is only in the way
                    os.unlink(self._folder / name)
            if record_id == name:
                continue
            try:
                raw = (self._folder / name).read_bytes()
            except OSError as error:
                yield record_id, error
            else:
                self._count(record_id, len(raw))
                yield record_id, raw

    def write(self, record_id: str, raw: bytes) -> None:
        """See `Place`."""
        self._quota.check(len(raw) - self._sizes.get(record_id, 0))
        write_private(self._path(record_id), raw)
        self._count(record_id, len(raw))

    def remove(self, record_id: str) -> None:
        """See `Place`."""
        self._path(record_id).unlink(missing_ok=True)
        self._count(record_id, 0)

    def set_aside(self, record_id: str) -> str:
        """See `Place`."""
        aside = self._folder / DAMAGED_FOLDER
        try:
            aside.mkdir(mode=0o700, exist_ok=True)
            if len(os.listdir(aside)) >= DAMAGED_MAX:
                raise StorageError(
                    tr(
                        "{aside} has {damaged_max} damaged records already: look at the disk, and move them",
                        aside=aside,
                        damaged_max=DAMAGED_MAX,
                    )
                )
            os.replace(self._path(record_id), aside / f"{record_id}.json")
            self._count(record_id, 0)
        except OSError as error:
            raise StorageError(
                tr(
                    "{path} is damaged and cannot be moved: {strerror}",
                    path=self._path(record_id),
                    strerror=error.strerror,
                )
            ) from error
        return str(aside / f"{record_id}.json")

    def undo_with(self, undo: Callable[[], None]) -> None:
        """Files have no transactions: a record is written at once."""

    def _path(self, record_id: str) -> Path:
        return self._folder / f"{record_id}.json"

    def _count(self, record_id: str, size: int) -> None:
        self._quota.count(size - self._sizes.pop(record_id, 0))
        if size:
            self._sizes[record_id] = size


def _check_id(record_id: str) -> None:
    if not record_id.isalnum():
        raise UsageError(tr("'{record_id}' is not an id", record_id=record_id))
