"""What the commands of `send` return: plain values that faces render."""

import msgspec

from coterie.apps.command import Duration
from coterie.quantity import count, say_bytes

OFFER_LASTS_S = Duration(7 * 86_400.0)


class SentLine(msgspec.Struct, frozen=True, kw_only=True):
    """An offer of ours, or what became of it at one computer: the same words as there.

    Fields:
        names: of what is offered, `files` in all, `size` in bytes.
        percent: of what is fetched so far; None before and after.
        expires: ISO 8601; empty when it is over.
        note: why it failed, or was not taken.
    """

    id: str
    state: str
    to: str
    names: list[str]
    files: int
    size: int
    percent: int | None = None
    expires: str = ""
    note: str = ""

    def text(self) -> str:
        """For people."""
        what = f"{said_names(self.names)} ({count(self.files, 'file')}, {say_bytes(self.size)})"
        if self.state in ("offered", "delivered"):
            return f"{what}: offered to {self.to}. `coterie sent` shows what becomes of it"
        return f"{what}: {self.state} by {self.to}{f' ({self.note})' if self.note else ''}"


class InboxLine(msgspec.Struct, frozen=True, kw_only=True):
    """An offer of somebody else. `sender` with "(stranger)" is nobody known here, under a name of their own choice.

    The other fields are as in `SentLine`; `path`: where it is or goes.
    """

    id: str
    state: str
    sender: str
    names: list[str]
    files: int
    size: int
    percent: int | None = None
    expires: str = ""
    note: str = ""
    path: str = ""

    def text(self) -> str:
        """For people."""
        what = f"{said_names(self.names)} ({count(self.files, 'file')}, {say_bytes(self.size)}) from {self.sender}"
        if self.state == "received":
            return f"Received {what}: {self.path}"
        why = f" ({self.note})" if self.note else ""
        where = f"; it goes to {self.path}" if self.state in ("accepted", "fetching") and self.path else ""
        return f"{what}: {self.state}{why}{where}"


class AlwaysLine(msgspec.Struct, frozen=True, kw_only=True):
    """A person from whom everything is taken, into the folder `path`."""

    person: str
    path: str


class InboxSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


def said_names(names: list[str]) -> str:
    """ "a.txt", "a.txt and 2 more"."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
