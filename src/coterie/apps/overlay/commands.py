"""The commands of `overlay`: the command line and the HTTP API are rendered from these."""

from typing import TYPE_CHECKING

from coterie.apps.command import command
from coterie.apps.overlay.results import OverlayStatus

if TYPE_CHECKING:
    from coterie.apps.overlay.service import OverlayService

PURPOSE = "The network"


@command(path="overlay", title="The overlays")
async def overlay_(overlay: "OverlayService") -> OverlayStatus:
    """Show the overlays: the table and its lookups, the topics and their views, traffic and counters."""
    return overlay.describe()
