"""What the entry point `send` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="send",
    summary="Send files and folders to people, who take or decline them.",
    create="coterie.apps.send.service:SendService",
    requires=("contacts", "files"),
    commands="coterie.apps.send.commands",
    panel="coterie.apps.send.panel:PANEL",
)
