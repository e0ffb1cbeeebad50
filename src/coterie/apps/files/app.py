"""What the entry point `files` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="files",
    summary="Share files and folders, and get what others share.",
    create="coterie.apps.files.service:FilesService",
    requires=("overlay",),
    commands="coterie.apps.files.commands",
    panel="coterie.apps.files.panel:PANEL",
    kinds=(
        ResourceKind(
            "files",
            Verb.LIST | Verb.READ | Verb.WRITE | Verb.ADMINISTER,
            "shares and what is in them",
            called="the share",
        ),
    ),
)
