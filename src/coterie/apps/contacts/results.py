"""What the commands of `contacts` return: plain values that faces render."""

import msgspec

from coterie.apps.command import Duration
from coterie.moments import said
from coterie.qr import qr_lines
from coterie.texts import tr

INVITATION_LASTS_S = Duration(15 * 60.0)  # guess: time to walk to the other computer; both are there anyway


class Invited(msgspec.Struct, frozen=True, kw_only=True):
    """An open invitation. `code` is short, for the same network; `ticket` carries addresses, for anywhere.

    Fields:
        at: where this node says who it is, "ip:port", for networks where nothing is found by itself.
        minutes: until it expires.
        expires: the same as a time, ISO 8601.
        join_with: the words of the command that takes it.
        outside: why not everybody elsewhere reaches this computer; empty when everybody does.
        note: that in a line, where it was not said before.
        offers_internet: whether the level `internet` would add a way.
    """

    code: str
    ticket: str
    at: list[str]
    minutes: float
    expires: str
    join_with: str = "join"
    outside: str = ""
    offers_internet: bool = False
    note: str = ""

    def text(self) -> str:
        """For people: the code first, then what to do where it is not enough."""
        lines = [
            tr("On the other computer, on the same network:"),
            "",
            tr("  coterie {join_with} {code}", join_with=self.join_with, code=self.code),
        ]
        if self.at:
            lines += [
                "",
                tr("If it does not find this one:"),
                "",
                tr(
                    "  coterie {join_with} {code} --at {at}",
                    join_with=self.join_with,
                    code=self.code,
                    at=self.at[0],
                ),
            ]
        if self.note:
            lines += ["", tr("Note: {note}.", note=self.note)]
        lines += ["", tr("From elsewhere (keep it to yourselves, like the code):"), ""]
        lines += [
            tr("  coterie {join_with} {ticket}", join_with=self.join_with, ticket=self.ticket),
            "",
            *qr_lines(self.ticket.upper()),
            "",
        ]
        lines += [
            tr(
                "It works once, for {minutes:g} min, while this runs. Ctrl-C withdraws it.",
                minutes=self.minutes,
            )
        ]
        return "\n".join(lines)


class WrongCode(msgspec.Struct, frozen=True):
    """Somebody tried a wrong code. With no `tries_left` the code is burnt; the ticket still works."""

    peer: str
    tries_left: int

    def text(self) -> str:
        """For people."""
        if self.tries_left:
            return tr(
                "{peer} tried a wrong code: {tries_left} more and the code is burnt",
                peer=self.peer,
                tries_left=self.tries_left,
            )
        return tr("{peer} tried a wrong code: the code is burnt, only the ticket works now", peer=self.peer)


class Met(msgspec.Struct, frozen=True):
    """Two computers that know each other now: the other one, under the name it has here. `into`: what it is in, too."""

    name: str
    peer: str
    addresses: list[str]
    into: str = ""

    def text(self) -> str:
        """For people."""
        if self.into:
            return tr("{name} is in {into} now ({peer})", name=self.name, into=self.into, peer=self.peer[:10])
        return tr("You and {name} know each other now ({peer})", name=self.name, peer=self.peer[:10])


class ContactLine(msgspec.Struct, frozen=True):
    """One line of the list of contacts. `here`: whether it is connected or on this network; None: nobody can say."""

    name: str
    here: bool | None
    peer: str
    addresses: list[str]
    added: str


class ContactShown(msgspec.Struct, frozen=True):
    """One contact; `words` are its id, to be compared aloud with `coterie id` on its own computer."""

    name: str
    peer: str
    words: str
    addresses: list[str]
    added: str

    def text(self) -> str:
        """For people."""
        words = self.words.split()
        rows = [" ".join(words[at : at + 6]) for at in range(0, len(words), 6)]
        where = ", ".join(self.addresses) or tr("no address known")
        return "\n".join(
            [
                f"{self.name}  {self.peer}",
                *(f"  {row}" for row in rows),
                f"  {where}",
                tr("  a contact: added {added}", added=said(self.added)),
            ]
        )


class ContactRemoved(msgspec.Struct, frozen=True):
    """A contact that was one; `also`: the names of further computers of the same person, which went with it."""

    name: str
    peer: str
    also: list[str] = []

    def text(self) -> str:
        """For people."""
        gone = tr(
            "{name} is no longer a contact here ({peer}); this computer may still be one there",
            name=self.name,
            peer=self.peer[:10],
        )
        others = (
            tr(". Nor are other computers of the same person: {also}", also=", ".join(self.also))
            if self.also
            else ""
        )
        return gone + others
