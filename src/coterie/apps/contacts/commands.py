"""The commands of `contacts`: the command line and the HTTP API are rendered from these."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Duration, Progress, Secret, Values, command
from coterie.apps.contacts.results import (
    INVITATION_LASTS_S,
    ContactLine,
    ContactRemoved,
    ContactShown,
    Invited,
    Met,
    WrongCode,
)
from coterie.apps.contacts.waiting import wait_for_joiner

if TYPE_CHECKING:
    from coterie.apps.contacts.service import ContactsService

PURPOSE = "People"

ContactName = Annotated[str, Values("contacts", "name")]


@command(interrupt_text="Withdrawn: this invitation no longer works.", title="Invite another computer")
async def invite(
    contacts: "ContactsService", *, name: str = "", lasting: Duration = INVITATION_LASTS_S
) -> AsyncIterator[Invited | Progress | WrongCode | Met]:
    """Invite another computer: shows a code that works once, and waits for it to join.

    name: What the other side calls this computer, instead of its own name.
    lasting: How long the invitation lasts: 90s, 15m, 8h.
    """
    async with contacts.invite(name=name, minutes=lasting / 60) as invitation:
        async for news in wait_for_joiner(invitation):
            yield news


@command("invitation", title="Join with a code")
async def join(contacts: "ContactsService", invitation: Secret, *, name: str = "", at: str = "") -> Met:
    """Join another computer by the code or ticket that it showed: then the two know each other.

    invitation: The code, like 7-planet-velvet, or the long ticket.
    name: What the other side calls this computer, instead of its own name.
    at: Where the inviter is, IP:PORT as it showed it, when it is not found by itself.
    """
    return await contacts.join(invitation, name=name, at=at)


@command(
    path="contacts",
    needs="store",
    empty_text="Nobody yet: `coterie invite` here, `coterie join` on another computer.",
    title="Contacts",
)
async def contacts_(contacts: "ContactsService") -> list[ContactLine]:
    """List the computers that this one knows, and that know it."""
    return contacts.lines()


@command("contact", "name", path="contacts rename", needs="store", title="Rename a contact")
async def contacts_rename(contacts: "ContactsService", contact: ContactName, name: str) -> ContactLine:
    """Call a contact by another name; only here, the other side is not told.

    contact: Its name, or the beginning of its id.
    name: The new name.
    """
    return contacts.rename(contact, name)


@command("contact", path="contacts remove", needs="store", title="Remove a contact")
async def contacts_remove(contacts: "ContactsService", contact: ContactName) -> ContactRemoved:
    """Forget a contact, with all computers of its person; the other side is not told.

    contact: Its name, or the beginning of its id.
    """
    return contacts.remove(contact)


@command(
    path="contact",
    needs="store",
    empty_text="Nobody yet: `coterie invite` here, `coterie join` on another computer.",
    title="Contacts",
)
async def contact_(contacts: "ContactsService") -> list[ContactLine]:
    """List the computers that this one knows, and that know it; as `coterie contacts`."""
    return contacts.lines()


@command("contact", path="contact show", needs="store", title="Show a contact")
async def contact_show(contacts: "ContactsService", contact: ContactName) -> ContactShown:
    """Show one contact, with its id as words to compare aloud.

    contact: Its name, or the beginning of its id.
    """
    return contacts.show(contact)


@command("contact", "name", path="contact rename", needs="store", title="Rename a contact")
async def contact_rename(contacts: "ContactsService", contact: ContactName, name: str) -> ContactLine:
    """Call a contact by another name; only here, the other side is not told.

    contact: Its name, or the beginning of its id.
    name: The new name.
    """
    return contacts.rename(contact, name)


@command("contact", path="contact remove", needs="store", title="Remove a contact")
async def contact_remove(contacts: "ContactsService", contact: ContactName) -> ContactRemoved:
    """Forget a contact: what it does here because it is one stops at once; the other side is not told.

    contact: Its name, or the beginning of its id.
    """
    return contacts.remove(contact)
