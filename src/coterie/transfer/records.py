"""What is kept on disk of each download, and where such records are kept."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import msgspec

R = TypeVar("R")


class Kept(Protocol[R]):
    """A list of records on disk: `services.data.records.Records`."""

    def __iter__(self) -> Iterator[R]: ...

    def __len__(self) -> int: ...

    def get(self, record_id: str, /) -> R: ...

    def new_id(self) -> str: ...

    def save(self, record: R, /) -> None: ...

    def remove(self, record_id: str, /) -> None: ...


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
