"""What `files` keeps on disk: shares and transfers, each a list of `coterie.services.data.records.Records`."""

import msgspec


class Version(msgspec.Struct, frozen=True):
    """What a share was before: its content id, and what else its record said."""

    root: bytes
    kind: int
    files: int
    size: int
    mtime_ns: int = 0
    executable: bool = False


class ShareRecord(msgspec.Struct):
    """One share: `root` is its content id, `secret` what its ticket proves; `to` the subjects that may have it.

    `updated`: when `root` was last another one. `earlier`: versions of which everything is still here. `more_secrets`:
    of tickets that version 0.1 made for the same path.
    """

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
    updated: float = 0.0
    earlier: list[Version] = []
    more_secrets: list[bytes] = []

    def version(self) -> Version:
        """What it is now."""
        return Version(self.root, self.kind, self.files, self.size, self.mtime_ns, self.executable)

    def at(self, version: Version) -> "ShareRecord":
        """The share as it is in another version."""
        return msgspec.structs.replace(self, **msgspec.structs.asdict(version))

    def roots(self) -> list[bytes]:
        """The content ids of all its versions, the present one first."""
        return [self.root, *(version.root for version in self.earlier)]

    def versions(self) -> "list[ShareRecord]":
        """The share in all its versions, the present one first."""
        return [self, *map(self.at, self.earlier)]


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
