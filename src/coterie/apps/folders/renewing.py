"""A copy of a live folder goes on under a new id where numbers of its own writes may have been given twice.

That is so where others know more of them than there are here: the home was put back from a copy, or somebody says so
who lies. Either way the old id is that of one more computer from then on, and nothing that was written is taken for
something else.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.root import mark_anew
from coterie.apps.folders.store import FolderRow, FoldersStore

AGAIN_S = 60.0  # between two new ids of one folder; guess: a member who lies costs a new writer of some paths each time


class Renewing:
    """Of all folders of this computer. `clock`: seconds on a clock that does not go back."""

    def __init__(self, store: FoldersStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._last: dict[bytes, float] = {}

    def may(self, folder: bytes) -> bool:
        """Whether the folder may have a new id now; it counts as given."""
        now = self._clock()
        last = self._last.get(folder)
        if last is not None and now < last + AGAIN_S:
            return False
        self._last[folder] = now
        return True

    def renew(self, row: FolderRow) -> None:
        """Blocking: give the copy a new id, also on its disk, while nobody works on it.

        Raises:
            FolderGone, StorageError: its disk is away, or refuses; nothing is changed.
        """
        new = os.urandom(len(row.replica))
        mark_anew(Path(row.path), row.id, row.replica, new)
        if self._store.quota(row.number):  # it is kept for others: no write in it is of here
            row.replica = new
            self._store.change(row)
            return
        FolderBook(self._store, row).renew(new)
        row.replica = new
