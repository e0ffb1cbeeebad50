"""What the entry point `circles` of the group `coterie.apps` names."""

from coterie.access.circle_ops import CONSENT_CONTEXT, CONTEXT
from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="circles",
    summary="Circles of people, their computers, and recovery from paper.",
    early=True,
    create="coterie.apps.circles.service:CirclesService",
    commands="coterie.apps.circles.commands",
    panel="coterie.apps.circles.panel:PANEL",
    requires=("contacts",),
    signs=(
        CONTEXT,
        CONSENT_CONTEXT,
    ),
    kinds=(
        ResourceKind("circle", Verb.LIST | Verb.ADMINISTER, "a circle: who is in it", called="the circle"),
    ),
)
