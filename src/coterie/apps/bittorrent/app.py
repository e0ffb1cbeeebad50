"""What the entry point `bittorrent` of the group `coterie.apps` names."""

from coterie.apps.app import App

APP = App(
    name="bittorrent",
    summary="Get and give files by BitTorrent, for and from any of its programs.",
    early=True,
    create="coterie.apps.bittorrent.service:BitTorrentService",
    requires=("files",),
    commands="coterie.apps.bittorrent.commands",
)
