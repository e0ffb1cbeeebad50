"""What the entry point `expose` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="expose",
    summary="Let others use services of this computer, and use theirs.",
    create="coterie.apps.expose.service:ExposeService",
    commands="coterie.apps.expose.commands",
    kinds=(ResourceKind("service", Verb.USE, "an exposed service", called="the service"),),
)
