"""What the entry point `internet` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="internet",
    summary="Let others use the internet access of this computer, and use theirs.",
    create="coterie.apps.internet.service:InternetService",
    commands="coterie.apps.internet.commands",
    panel="coterie.apps.internet.panel:PANEL",
    kinds=(ResourceKind("internet", Verb.USE, "internet access", called="the internet access"),),
)
