"""What other apps may use of `contacts`: its service and what it returns.

The service is loaded when it is asked for: declarations of commands use the rest, and are read by every command line.
"""

from typing import TYPE_CHECKING, Any

from coterie.apps.contacts.meetings import meeting_purpose
from coterie.apps.contacts.results import INVITATION_LASTS_S, Invited, Met, WrongCode
from coterie.apps.contacts.waiting import wait_for_joiner

if TYPE_CHECKING:
    from coterie.apps.contacts.book import Contact
    from coterie.apps.contacts.service import ContactsService, OpenInvitation

__all__ = [
    "INVITATION_LASTS_S",
    "Contact",
    "ContactsService",
    "Invited",
    "Met",
    "OpenInvitation",
    "WrongCode",
    "meeting_purpose",
    "wait_for_joiner",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from coterie.apps.contacts import book, service

        return getattr(book if name == "Contact" else service, name)
    raise AttributeError(name)
