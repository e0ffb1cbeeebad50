"""What the commands of `send` return: plain values that faces render."""

import msgspec

from coterie.apps.command import Duration, Live
from coterie.quantity import count, say_bytes
from coterie.texts import tr

OFFER_LASTS_S = Duration(7 * 86_400.0)


class SentLine(msgspec.Struct, frozen=True, kw_only=True):
    """An offer of ours, or what became of it at one computer: the same words as there.

    Fields:
        names: of what is offered, `files` in all, `size` in bytes.
        state: a word; "waiting for NAME" while it is being fetched and nothing comes.
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


class Sent(SentLine, frozen=True, kw_only=True):
    """An offer that was just made, or has just come to its end."""

    def text(self) -> str:
        """For people."""
        what = f"{said_names(self.names)} ({count(self.files, 'file')}, {say_bytes(self.size)})"
        if self.state in ("offered", "delivered"):
            return tr(
                "{what}: offered to {to}. `coterie sent` shows what becomes of it", what=what, to=self.to
            )
        return tr(
            "{what}: {state} by {to}{value}",
            what=what,
            state=self.state,
            to=self.to,
            value=f" ({self.note})" if self.note else "",
        )

    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state == "received"


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


class Got(InboxLine, frozen=True, kw_only=True):
    """An offer that was just answered, or has just come to its end."""

    def text(self) -> str:
        """For people."""
        what = tr(
            "{said_names} ({files}, {size}) from {sender}",
            said_names=said_names(self.names),
            files=count(self.files, "file"),
            size=say_bytes(self.size),
            sender=self.sender,
        )
        if self.state == "received":
            return tr("Received {what}: {path}", what=what, path=self.path)
        why = f" ({self.note})" if self.note else ""
        where = (
            tr("; it goes to {path}", path=self.path)
            if self.state in ("accepted", "fetching") and self.path
            else ""
        )
        return f"{what}: {self.state}{why}{where}"

    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ("received", "declined")


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


def waiting_for(name: str) -> str:
    """The state of an offer that is being fetched, while the line to `name` is cut."""
    return tr("waiting for {name}", name=name)


def said_names(names: list[str]) -> str:
    """ "a.txt", "a.txt and 2 more"."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


class Taken(msgspec.Struct, frozen=True):
    """Somebody met over a code: `name` is what it calls itself."""

    name: str

    def text(self) -> str:
        """For people."""
        return tr("{name} has the code, and is asked whether to take it", name=self.name)


class NearLine(msgspec.Struct, frozen=True):
    """A computer on the local network that takes files from strangers now, as it is called here, and its id.

    Who is not known is called as it calls itself, with "(stranger)".
    """

    name: str
    id: str


class NearOpen(Live, frozen=True, kw_only=True):
    """This computer takes offers from the local network, as `name`, with the id that begins so."""

    name: str
    id: str

    def text(self) -> str:
        """For people."""
        return tr(
            "Whoever is on this network can offer you files while this runs: coterie send PATH "
            "{name} --near\nYou are {name}, {id}. Nothing is taken before you accept it. Ctrl-C ends "
            "it.",
            name=self.name,
            id=self.id,
        )


class NearOffer(Live, frozen=True, kw_only=True):
    """News of an offer from the local network."""

    id: str
    state: str
    sender: str
    names: list[str]
    size: int

    def text(self) -> str:
        """For people."""
        what = tr(
            "{said_names} ({size}) from {sender}: {state}",
            said_names=said_names(self.names),
            size=say_bytes(self.size),
            sender=self.sender,
            state=self.state,
        )
        return (
            tr("{what}; take it: coterie inbox accept {id}", what=what, id=self.id)
            if self.state == "delivered"
            else what
        )


def sent_now(line: SentLine) -> Sent:
    """A line as the result of a command."""
    return Sent(**{name: getattr(line, name) for name in line.__struct_fields__})


def got_now(line: InboxLine) -> Got:
    """The same for the inbox."""
    return Got(**{name: getattr(line, name) for name in line.__struct_fields__})
