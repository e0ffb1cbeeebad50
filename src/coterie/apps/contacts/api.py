"""What other apps may use of `contacts`: its service and what it returns."""

from coterie.apps.contacts.book import Contact
from coterie.apps.contacts.results import INVITATION_LASTS_S, Invited, Met, WrongCode
from coterie.apps.contacts.service import ContactsService, OpenInvitation
from coterie.apps.contacts.waiting import wait_for_joiner

__all__ = [
    "INVITATION_LASTS_S",
    "Contact",
    "ContactsService",
    "Invited",
    "Met",
    "OpenInvitation",
    "WrongCode",
    "wait_for_joiner",
]
