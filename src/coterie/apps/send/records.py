"""What `send` keeps on disk: offers made, offers got, and from whom everything is taken."""

import msgspec

from coterie.apps.send.messages import Key


class SentItem(msgspec.Struct):
    """A file or folder that is offered: where it is, and its content. `secret` opens it, for whom it is given to."""

    name: str
    path: str
    kind: int
    files: int
    size: int
    root: bytes
    secret: bytes
    mtime_ns: int = 0
    executable: bool = False


class Part(msgspec.Struct):
    """One computer that an offer is for: both halves as far as they are known here.

    `serial` numbers our half, `told` is the one sent last, `heard` that of the other half. `is_stranger`: met over a
    code or on the local network; messages go over streams, which we open if we are the one who `dials`.
    """

    peer: str
    until: float
    stand: str = "open"
    serial: int = 1
    told: int = 0
    answer: str = ""
    percent: int = 0
    reason: str = ""
    heard: int = 0
    is_stranger: bool = False
    dials: bool = False
    addresses: list[str] = []
    name: str = ""


class SentRecord(msgspec.Struct):
    """One offer made. `is_for_first`: one computer of the person is enough. `lasts_s`: to answer, then to fetch."""

    id: str
    created: float
    offer: bytes
    to: str
    items: list[SentItem]
    parts: list[Part]
    lasts_s: float
    is_for_first: bool = True
    note: str = ""
    ended: float = 0.0


class InboxItem(msgspec.Struct):
    """A file or folder that was offered; `path`: where it goes or is, `transfer`: the id of its transfer."""

    name: str
    kind: int
    files: int
    size: int
    path: str = ""
    transfer: str = ""
    is_here: bool = False


class InboxRecord(msgspec.Struct):
    """One offer got: both halves, as in `Part` with the sides changed. `keys` open the items once they are granted.

    `settled`: the serial of our half that the sender is known to know. `is_closed`: the sender said that it is over.
    """

    id: str
    created: float
    offer: bytes
    sender: str
    items: list[InboxItem]
    until: float
    note: str = ""
    stand: str = "open"
    heard: int = 0
    keys: list[Key] = []
    answer: str = "delivered"
    serial: int = 1
    told: int = 0
    settled: int = 0
    percent: int = 0
    reason: str = ""
    folder: str = ""
    is_stranger: bool = False
    dials: bool = False
    addresses: list[str] = []
    name: str = ""
    ended: float = 0.0
    is_closed: bool = False


class AlwaysRecord(msgspec.Struct):
    """A person from whom everything is taken; `persons`: the ids of the computer and of its person."""

    id: str
    created: float
    person: str
    folder: str = ""
