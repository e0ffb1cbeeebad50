"""What the entry point `disks` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="disks",
    summary="Let others use disks, drives and images of this computer, and use theirs.",
    create="coterie.apps.disks.service:DisksService",
    commands="coterie.apps.disks.commands",
    panel="coterie.apps.disks.panel:PANEL",
    kinds=(ResourceKind("disk", Verb.READ | Verb.WRITE, "a shared disk, drive or image", called="the disk"),),
)
