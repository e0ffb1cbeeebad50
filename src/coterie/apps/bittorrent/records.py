"""What is kept on disk of torrents: downloads, and what is seeded."""

import msgspec

from coterie.transfer.states import TransferState


class TorrentRecord(msgspec.Struct):
    """One download by BitTorrent. `state` is as of other transfers; `target` the final path once `root` is known.

    Fields:
        source: the magnet link; empty when it came as a torrent file.
        wanted_at: what the user asked for: a folder to put it into, or the final path.
        root: hash that names the torrent, in hexadecimal: version 2 where it has one.
        only: patterns of the files to fetch; all when empty.
        share: share and seed it afterwards.
        missing: entries of a finished one that could not be delivered.
        staging: the id of its staging area; empty until v0.1, where that was `root`.
        down, up: limits, bytes a second, 0: none; `priority` is high, normal or low.
    """

    id: str
    source: str
    wanted_at: str
    created: float
    state: str = "running"
    on_existing: str = "fail"
    only: list[str] = []
    share: bool = False
    target: str = ""
    root: str = ""
    name: str = ""
    files: int = 0
    size: int = 0
    done: int = 0
    note: str = ""
    missing: int = 0
    staging: bytes = b""
    down: float = 0.0
    up: float = 0.0
    priority: str = "normal"


class SeedRecord(msgspec.Struct):
    """A share that is seeded too; its `id` is that of the share. `state` is seeding, paused or failed.

    Fields:
        v1, v2: hashes that name the torrent, in hexadecimal.
        renamed: path below the share by the file's number, where it is not what the torrent says.
        public: whether its magnet link carries the share's ticket.
    """

    id: str
    created: float
    path: str
    v1: str
    v2: str
    trackers: list[str] = []
    renamed: dict[int, str] = {}
    public: bool = False
    state: str = TransferState.SEEDING
    note: str = ""
    down: float = 0.0
    up: float = 0.0
    priority: str = "normal"
