"""What the entry point `overlay` of the group `coterie.apps` names."""

from coterie.apps.app import App
from coterie.apps.overlay.service import OverlayService

APP = App(
    name="overlay",
    summary="Find things among many: providers of content, records, topics, searches.",
    create=OverlayService,
    commands="coterie.apps.overlay.commands",
)
