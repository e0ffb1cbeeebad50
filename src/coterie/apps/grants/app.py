"""What the entry point `grants` of the group `coterie.apps` names."""

from coterie.access import grant, revocation
from coterie.apps.app import App

APP = App(
    name="grants",
    summary="Give somebody a permission for a time, and take it back.",
    early=True,
    create="coterie.apps.grants.service:GrantsService",
    commands="coterie.apps.grants.commands",
    panel="coterie.apps.grants.panel:PANEL",
    requires=("circles",),
    signs=(
        grant.CONTEXT,
        revocation.CONTEXT,
    ),
)
