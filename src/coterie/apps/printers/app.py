"""What the entry point `printers` of the group `coterie.apps` names."""

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="printers",
    summary="Let others print on printers of this computer, and print on theirs.",
    requires=("expose",),
    create="coterie.apps.printers.service:PrintersService",
    commands="coterie.apps.printers.commands",
    kinds=(
        ResourceKind("printer", Verb.USE, "a shared printer", called="the printer"),
        ResourceKind("printjob", Verb.READ, "a document on its way to a printer"),
    ),
    panel="coterie.apps.printers.panel:PANEL",
)
