"""How much of the disk one app may fill with what it keeps through its services. Pure."""

import contextlib
from collections.abc import Mapping
from typing import Any

from coterie.errors import LimitExceeded, UsageError
from coterie.quantity import read_size, say_bytes
from coterie.texts import tr

QUOTA, BLOB_QUOTA = "quota", "blob_quota"  # the settings of every app that are not its own
BLOBS_BYTES_MAX = 10_000_000_000  # as below, of content that it keeps; guess
DATA_BYTES_MAX = 1_000_000_000  # of each app, unless `[app.NAME] quota` says otherwise; guess


class Quota:
    """Bytes of one app. What is there already is counted and never refused; only growth is."""

    def __init__(self, app: str, bytes_max: int = DATA_BYTES_MAX, setting: str = QUOTA) -> None:
        """`setting`: what the owner sets to change it."""
        self.used = 0
        self.bytes_max = bytes_max
        self._app = app
        self._setting = setting

    @property
    def left(self) -> int:
        """Bytes until it is full."""
        return max(0, self.bytes_max - self.used)

    def count(self, more: int) -> None:
        """Add what is on disk, or take away what no longer is."""
        self.used += more

    def check(self, more: int) -> None:
        """Raises `LimitExceeded` where `more` bytes would be too much."""
        if more > 0 and more > self.left:
            raise LimitExceeded(
                tr(
                    "the app '{app}' has filled its quota of {bytes_max}: remove something of it, or set "
                    "`{setting}` in the section [app.{app}] of config.toml",
                    app=self._app,
                    bytes_max=say_bytes(self.bytes_max),
                    setting=self._setting,
                )
            )


def read_quota(settings: Mapping[str, Any], key: str, otherwise: int, app: str) -> int:
    """Bytes that the section `[app.NAME]` allows under `key`. Raises `UsageError`."""
    said = settings.get(key, otherwise)
    size = said if type(said) is int else -1
    if isinstance(said, str):
        with contextlib.suppress(ValueError):
            size = read_size(said)
    if size < 0:
        raise UsageError(
            tr(
                'config.toml, [app.{app}]: {key} must be a size like "2GB", not {said!r}',
                app=app,
                key=key,
                said=said,
            )
        )
    return size
