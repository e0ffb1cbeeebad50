"""What belongs to one live folder on this computer, for those who work on it."""

from dataclasses import dataclass

from coterie.apps.folders.agenda import Agenda
from coterie.apps.folders.asking import Asking
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.disk import Disk
from coterie.apps.folders.leaving_out import LeavingOut
from coterie.apps.folders.lying import Lying
from coterie.apps.folders.selecting import Selecting


@dataclass(frozen=True)
class Parts:
    """`folder`: its id. `book`: what is known of it. `lying`: where contents lie. `agenda`: what is to be done.

    `asking`: what waits for the owner's word. `leaving_out`: patterns. `selecting`: what is to be here.
    """

    folder: bytes
    book: FolderBook
    disk: Disk
    lying: Lying
    asking: Asking
    leaving_out: LeavingOut
    agenda: Agenda
    selecting: Selecting
