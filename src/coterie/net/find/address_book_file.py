"""The address book on disk: written whole and in one step, readable by its owner only."""

import contextlib
import logging
import os
from pathlib import Path

from coterie.errors import StorageError
from coterie.net.find.address_book import AddressBook
from coterie.private_file import write_private
from coterie.texts import tr

BOOK_BYTES_MAX = 32 << 20  # above a full book: 4,096 peers of a record and 32 addresses each

_log = logging.getLogger(__name__)


class BookFile:
    """Loads and saves one `AddressBook` at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = -1

    def load(self, book: AddressBook, now: float) -> Path | None:
        """Fill `book` from the file. A damaged one is set aside: its new place is returned, and logged.

        Raises:
            StorageError: the file is there and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(BOOK_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                tr(
                    "the address book {path} cannot be read: {strerror}",
                    path=self._path,
                    strerror=error.strerror,
                )
            ) from error
        try:
            if len(data) > BOOK_BYTES_MAX:
                raise StorageError(
                    tr(
                        "the address book is damaged: over {book_bytes_max} bytes",
                        book_bytes_max=BOOK_BYTES_MAX,
                    )
                )
            book.load(data, now)
        except StorageError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            with contextlib.suppress(OSError):  # then the next save replaces it
                os.replace(self._path, aside)
            _log.warning("%s; it was set aside as %s, and a new one begins", error, aside)
            return aside
        self._saved = book.revision
        return None

    def save(self, book: AddressBook) -> bool:
        """Write `book` if it changed since the last time; whether it had.

        Raises:
            StorageError: it cannot be written.
        """
        if book.revision == self._saved:
            return False
        revision, data = book.revision, book.dump()
        write_private(self._path, data, noun="the address book")
        self._saved = revision
        return True
