"""What the entry point `contacts` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="contacts",
    summary="Know other computers by name: invite, join, list.",
    early=True,
    create="coterie.apps.contacts.service:ContactsService",
    commands="coterie.apps.contacts.commands",
    panel="coterie.apps.contacts.panel:PANEL",
)
