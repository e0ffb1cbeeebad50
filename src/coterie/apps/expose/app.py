"""What the entry point `expose` of the group `coterie.apps` names."""

from coterie.apps.app import App
from coterie.apps.expose.service import ExposeService

APP = App(
    name="expose",
    summary="Let others use services of this computer, and use theirs.",
    create=ExposeService,
    commands="coterie.apps.expose.commands",
)
