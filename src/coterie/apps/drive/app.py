"""What the entry point `drive` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="drive",
    summary="What others share, in your file manager.",
    create="coterie.apps.drive.service:DriveService",
    requires=("files",),
    commands="coterie.apps.drive.commands",
)
