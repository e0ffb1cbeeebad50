"""What the entry point `play` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="play",
    summary="Watch and listen while it arrives.",
    create="coterie.apps.play.service:PlayService",
    requires=("files",),
    commands="coterie.apps.play.commands",
)
