"""What `files` keeps on disk: shares and transfers, each a list of `coterie.apps.records.Records`."""

import msgspec


class ShareRecord(msgspec.Struct):
    """One share: `root` is its content id, `secret` what its ticket proves; `to` the subjects that may have it."""

    id: str
    root: bytes
    kind: int
    secret: bytes
    name: str
    path: str
    files: int
    size: int
    created: float
    mtime_ns: int = 0
    executable: bool = False
    to: list[str] = msgspec.field(default_factory=lambda: ["ticket"])


class SpotRecord(msgspec.Struct):
    """A folder or file within the share `share` that somebody was told how to fetch: its path and content id."""

    id: str
    created: float
    share: str
    parts: list[str]
    root: bytes


class TransferRecord(msgspec.Struct):
    """One download. `state` is running, waiting, paused, done or failed; `target` the final path.

    `only`: patterns of the files wanted, none: all. `dropped`: who was asked no more, and why. `seconds` of the last
    run; `down` and `up` limit it (bytes/s, 0: no limit); `priority` is high, normal or low. `of`: to whom it is
    given on, as in `Opened`. `missing` entries of a finished one did not arrive; `failed` says which (the first ones).
    `staging`: the id of its staging area; empty until v0.1, where that was the content's.
    `place`: the path at the giver by which it was asked for; `mirror`: what is gone there is put into the trash here.
    """

    id: str
    ticket: str
    target: str
    created: float
    state: str = "running"
    on_existing: str = "fail"
    name: str = ""
    files: int = 0
    size: int = 0
    done: int = 0
    fetched: int = 0
    note: str = ""
    mtime_ns: int = 0
    executable: bool = False
    only: list[str] = []
    dropped: list[str] = []
    seconds: float = 0.0
    finished: float = 0.0
    down: float = 0.0
    up: float = 0.0
    priority: str = "normal"
    of: str = "ticket"
    place: str = ""
    mirror: bool = False
    missing: int = 0
    failed: list[str] = []
    staging: bytes = b""
