"""The commands of `bittorrent`: the command line and the HTTP API are rendered from these."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.apps.bittorrent.results import MagnetLink
from coterie.apps.command import Here, Values, command

if TYPE_CHECKING:
    from coterie.apps.bittorrent.service import BitTorrentService

PURPOSE = "Share and get"

Share = Annotated[str, Values("shares", "name", app="files")]


@command("share", needs="network", title="Magnet link of a share")
async def magnet(bittorrent: "BitTorrentService", share: Share, *, here: Here | None = None) -> MagnetLink:
    """Show the magnet link of a share that has a torrent.

    share: Its id, name or path.
    here: The folder that relative paths start from.
    """
    return await bittorrent.magnet(share, here or Path("/"))
