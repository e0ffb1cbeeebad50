"""What the entry point `drive` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="drive",
    summary="What others share, in your file manager.",
    create="coterie.apps.drive.service:DriveService",
    requires=("files", "folders", "expose"),
    commands="coterie.apps.drive.commands",
    kinds=(ResourceKind("drive", Verb.READ, "files on their way into a folder of others"),),
)
