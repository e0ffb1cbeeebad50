"""What the entry point `folders` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App
from coterie.apps.folders.membership import CONTEXT, ENTRY_CONTEXT, KEYS_CONTEXT, KIND

APP = App(
    name="folders",
    summary="Folders that are the same on several computers.",
    create="coterie.apps.folders.service:FoldersService",
    commands="coterie.apps.folders.commands",
    panel="coterie.apps.folders.panel:PANEL",
    signs=(CONTEXT, KEYS_CONTEXT, ENTRY_CONTEXT),
    kinds=(
        ResourceKind(
            KIND,
            Verb.LIST | Verb.READ | Verb.WRITE | Verb.USE,
            "a live folder: read, and write; use: keep a copy without reading it",
            called="the live folder",
        ),
    ),
)
