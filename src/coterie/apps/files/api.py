"""What other apps may use of `files`: its service and what it returns."""

from coterie.apps.files.gifts import Content, Gifts
from coterie.apps.files.results import SharedItem
from coterie.apps.files.service import FilesService
from coterie.transfer.results import Received

__all__ = ["Content", "FilesService", "Gifts", "Received", "SharedItem"]
