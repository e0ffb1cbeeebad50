"""The table on disk between two runs."""

import logging
from pathlib import Path

from coterie.errors import StorageError, UsageError
from coterie.overlay.kademlia.state import read_state
from coterie.private_file import write_private

log = logging.getLogger(__name__)


class TableFile:
    """One file, replaced whole. Nothing in it is believed before it answers, so losing it costs only a slower start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes:
        """What `save` wrote; empty when there is nothing, or nothing sound."""
        try:
            state = self._path.read_bytes()
            read_state(state, 1)
        except FileNotFoundError:
            return b""
        except (OSError, UsageError) as error:
            log.warning("the table in %s is of no use, starting without: %s", self._path, error)
            return b""
        return state

    def save(self, state: bytes) -> None:
        """Keep `state` for the next run; a failure is logged."""
        try:
            write_private(self._path, state)
        except StorageError as error:
            log.warning("%s", error)
