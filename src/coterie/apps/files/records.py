"""What `files` keeps on disk: shares, and what others were told of them: `coterie.services.data.records`."""

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
    of tickets that version 0.1 made for the same path. `writers`: those of `to` that may change what is in it.
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
    writers: list[str] = []

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
