"""What other apps may use of `files`: its service and what it returns."""

from coterie.apps.files.results import Received, SharedItem
from coterie.apps.files.service import FilesService

__all__ = ["FilesService", "Received", "SharedItem"]
