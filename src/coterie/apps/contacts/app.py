"""What the entry point `contacts` of the group `coterie.apps` names."""

from coterie.apps.app import App
from coterie.apps.contacts.service import ContactsService

APP = App(
    name="contacts",
    summary="Know other computers by name: invite, join, list.",
    create=ContactsService,
    commands="coterie.apps.contacts.commands",
)
