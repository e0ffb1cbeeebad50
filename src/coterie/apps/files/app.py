"""What the entry point `files` of the group `coterie.apps` names."""

from coterie.apps.app import App
from coterie.apps.files.service import FilesService

APP = App(
    name="files",
    summary="Share files and folders, and get what others share.",
    create=FilesService,
    requires=("overlay",),
    commands="coterie.apps.files.commands",
)
