"""What the entry point `overlay` of the group `coterie.apps` names."""

from coterie.apps.app import App
from coterie.overlay.kademlia import keys as kademlia_keys
from coterie.overlay.search import messages as search_messages
from coterie.wire import broadcast

APP = App(
    name="overlay",
    summary="Find things among many: providers of content, records, topics, searches.",
    create="coterie.apps.overlay.service:OverlayService",
    commands="coterie.apps.overlay.commands",
    signs=(
        broadcast.CONTEXT,
        kademlia_keys.CONTEXT,
        search_messages.SIGNED_FOR,
    ),
)
