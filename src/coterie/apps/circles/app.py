"""What the entry point `circles` of the group `coterie.apps` names."""

from coterie.access.circle_ops import CONSENT_CONTEXT, CONTEXT
from coterie.apps.app import App
from coterie.apps.circles.service import CirclesService

APP = App(
    name="circles",
    summary="Circles of people, their devices, and recovery from paper.",
    create=CirclesService,
    commands="coterie.apps.circles.commands",
    requires=("contacts",),
    signs=(
        CONTEXT,
        CONSENT_CONTEXT,
    ),
)
