"""How much of the disk one app may fill with what it keeps through its services. Pure."""

from coterie.errors import LimitExceeded
from coterie.quantity import say_bytes

DATA_BYTES_MAX = 1_000_000_000  # of each app, unless `[app.NAME] quota` says otherwise; guess


class Quota:
    """Bytes of one app. What is there already is counted and never refused; only growth is."""

    def __init__(self, app: str, bytes_max: int = DATA_BYTES_MAX) -> None:
        self.used = 0
        self.bytes_max = bytes_max
        self._app = app

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
                f"the app '{self._app}' has filled its quota of {say_bytes(self.bytes_max)}: remove something of "
                f"it, or set `quota` in the section [app.{self._app}] of config.toml"
            )
