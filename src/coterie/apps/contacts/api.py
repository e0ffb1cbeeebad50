"""What other apps may use of `contacts`: its service and what it returns."""

from coterie.apps.contacts.book import Contact
from coterie.apps.contacts.results import Invited, Met, WrongCode
from coterie.apps.contacts.service import ContactsService, OpenInvitation

__all__ = ["Contact", "ContactsService", "Invited", "Met", "OpenInvitation", "WrongCode"]
