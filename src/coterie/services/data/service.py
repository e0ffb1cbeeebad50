"""What one app gets to keep its data: see `docs/services.md`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.services.data.database import Database, RecordRows, Step
from coterie.services.data.form import Migration
from coterie.services.data.quota import BLOB_QUOTA, DATA_BYTES_MAX, QUOTA, Quota, read_quota
from coterie.services.data.records import Record, Records
from coterie.texts import tr

R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=msgspec.Struct)

DATABASE = "data.db"
LISTS_MAX = 64  # of records, for one app; guess


class Data:
    """The data of one app, in its folder. Nothing is opened before it is asked for."""

    def __init__(
        self,
        folder: Path,
        app: str,
        settings: Mapping[str, Any],
        tell: Callable[[str, str], object],
    ) -> None:
        """`settings`: the section `[app.NAME]`. `tell`: gets a sentence for the owner and its key."""
        self.folder = folder
        """The app's own folder, for files that are neither records nor a database; they do not count for the quota."""
        self._app = app
        self._settings = settings
        self._tell = tell
        self._quota_: Quota | None = None
        self._database: Database | None = None
        self._records: dict[str, Records[Any]] = {}

    def records(
        self, name: str, kind: type[R], noun: str, *, migrations: Sequence[Migration] = (), many: bool = False
    ) -> Records[R]:
        """The list called `name`, whole in memory.

        Args:
            name: letters, digits and `_`.
            kind: a `msgspec.Struct` with an `id` (str) and `created` (float).
            noun: what messages call one.
            migrations: from each form of the record to the next, see `form.Form`.
            many: rows of the app's database, for more than some thousands, and for transactions; else files.

        Raises:
            UsageError: no such name can be, the list is open already, or LISTS_MAX are.
            StorageError: the disk refuses.
        """
        if not name.replace("_", "").isalnum() or not name.isascii():
            raise UsageError(
                tr("'{name}' is no name for a list of records: letters, digits and _", name=name)
            )
        if name in self._records or len(self._records) >= LISTS_MAX:
            why = "is open already" if name in self._records else f"would be one more than {LISTS_MAX}"
            raise UsageError(
                tr("the list '{name}' of the app '{app}' {why}", name=name, app=self._app, why=why)
            )
        place = RecordRows(self._opened(), name) if many else self.folder / name
        found = Records(place, kind, noun, migrations=migrations, quota=self._quota, tell=self._tell)
        self._records[name] = found
        return found

    def database(self, steps: Sequence[Step]) -> Database:
        """The app's SQLite file, after those of `steps` that were never done here.

        Tables called `records_...` and `damaged_...` are those of lists. Raises as `Database` and `Database.migrate`.
        """
        self._opened().migrate(steps)
        return self._opened()

    @decoder(UsageError, "the settings of an app")
    def settings(self, kind: type[S]) -> S:
        """The section `[app.NAME]` of `config.toml`, with the defaults of `kind`.

        Raises:
            UsageError: an unknown key or a bad value; names it.
        """
        own = {key: value for key, value in self._settings.items() if key not in (QUOTA, BLOB_QUOTA)}
        for key in own:
            if key not in kind.__struct_fields__:
                known = ", ".join((*kind.__struct_fields__, QUOTA, BLOB_QUOTA))
                raise UsageError(
                    tr(
                        "config.toml, [app.{app}]: unknown key {key!r}; known: {known}",
                        app=self._app,
                        key=key,
                        known=known,
                    )
                )
        try:
            return msgspec.convert(own, kind)
        except msgspec.ValidationError as error:
            reason, _, place = str(error).partition(" - at `$.")
            said = f"{place.rstrip('`')}: {reason}" if place else reason
            raise UsageError(tr("config.toml, [app.{app}]: {said}", app=self._app, said=said)) from None

    def status(self) -> dict[str, Any]:
        """For `coterie status`; nothing while there is nothing."""
        if self._quota_ is None or not self._quota_.used:
            return {}
        kept = {"records": count} if (count := sum(map(len, self._records.values()))) else {}
        return {**kept, "bytes kept": self._quota.used, "bytes at most": self._quota.bytes_max}

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> Database:
        if self._database is None:
            self._database = Database(self.folder / DATABASE, self._quota, self._tell)
        return self._database

    @property
    def _quota(self) -> Quota:
        if self._quota_ is None:
            self._quota_ = Quota(self._app, read_quota(self._settings, QUOTA, DATA_BYTES_MAX, self._app))
        return self._quota_
