"""Rate limits that a person set: of all transfers together, by time of day, kept in one small file."""

import asyncio
import time
from pathlib import Path

import msgspec

from coterie.content.limit import Rates, limit_at, parse_hours
from coterie.decoding import decoder
from coterie.errors import CoterieError, StorageError, UsageError
from coterie.private_file import write_private
from coterie.texts import tr
from coterie.transfer.results import LimitsNow

CHECK_S = 30.0  # how late a limit by time of day may begin


class _Kept(msgspec.Struct):
    """Bytes a second, 0: no limit; and the hours as text."""

    up: int = 0
    down: int = 0
    up_hours: str = ""
    down_hours: str = ""


@decoder(StorageError, "a list of limits")
def _read(raw: bytes) -> _Kept:
    return msgspec.json.decode(raw, type=_Kept)


class Limits:
    """Keeps `up` and `down` at what is set for this time of day. Raises StorageError for a damaged file."""

    def __init__(self, path: Path, rates: Rates | None = None) -> None:
        """`rates`: what is set; of all apps of a computer."""
        rates = rates or Rates()
        self.up, self.down, self.down_shares = rates.up, rates.down, rates.down_shares
        self._path = path
        self._kept = _Kept()
        if path.exists():
            try:
                self._kept = _read(path.read_bytes())
                self._apply()
            except (OSError, CoterieError) as error:
                raise StorageError(
                    tr("{path} is damaged ({error}); remove it to have no limits", path=path, error=error)
                ) from error

    def change(
        self, *, up: int | None, down: int | None, up_hours: str | None, down_hours: str | None
    ) -> LimitsNow:
        """Set what is given; what is valid now.

        Raises:
            UsageError: a rate below zero, or hours that are none.
        """
        old = self._kept
        if min(up or 0, down or 0) < 0:
            raise UsageError(tr("a limit is a number of bytes a second, or 0 for none"))
        self._kept = _Kept(
            old.up if up is None else up,
            old.down if down is None else down,
            old.up_hours if up_hours is None else up_hours,
            old.down_hours if down_hours is None else down_hours,
        )
        try:
            self._apply()
        except UsageError:
            self._kept = old
            raise
        if self._kept != old:
            write_private(self._path, msgspec.json.encode(self._kept))
        return self.now()

    def now(self) -> LimitsNow:
        """What is valid at this time of day."""
        k = self._kept
        up, down = int(self.up.bytes_per_s), int(self.down.bytes_per_s)
        return LimitsNow(up, down, k.up, k.down, k.up_hours, k.down_hours)

    async def follow_the_clock(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            self._apply()

    def _apply(self) -> None:
        local = time.localtime()
        minute = local.tm_hour * 60 + local.tm_min
        k = self._kept
        self.up.bytes_per_s = limit_at(k.up, parse_hours(k.up_hours), minute)
        self.down.bytes_per_s = limit_at(k.down, parse_hours(k.down_hours), minute)
