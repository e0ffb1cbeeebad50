"""What the commands of `bittorrent` return: plain values that faces render."""

import msgspec


class MagnetLink(msgspec.Struct, frozen=True):
    """The magnet link of a share, and the path of its torrent file."""

    id: str
    name: str
    magnet: str
    torrent: str

    def text(self) -> str:
        """The link alone, to copy or to pipe."""
        return self.magnet
