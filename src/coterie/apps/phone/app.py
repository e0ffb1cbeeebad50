"""What the entry point `phone` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="phone",
    summary="Use this computer from your phone, on the local network.",
    create="coterie.apps.phone.service:PhoneService",
    commands="coterie.apps.phone.commands",
)
