"""What the commands of `contacts` return: plain values that faces render."""

from collections.abc import Iterator

import msgspec

from coterie.apps.command import Duration
from coterie.moments import said

INVITATION_LASTS_S = Duration(15 * 60.0)  # guess: time to walk to the other computer; both are there anyway
_QR_BORDER = 2  # modules of quiet zone; the standard wants 4, phones read 2


class Invited(msgspec.Struct, frozen=True, kw_only=True):
    """An open invitation. `code` is short, for the same network; `ticket` carries addresses, for anywhere.

    Fields:
        at: where this node says who it is, "ip:port", for networks where nothing is found by itself.
        minutes: until it expires.
        expires: the same as a time, ISO 8601.
        join_with: the words of the command that takes it.
        outside: why not everybody elsewhere reaches this computer; empty when everybody does.
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

    def text(self) -> str:
        """For people: the code first, then what to do where it is not enough."""
        lines = ["On the other computer, on the same network:", "", f"  coterie {self.join_with} {self.code}"]
        if self.at:
            lines += [
                "",
                "If it does not find this one:",
                "",
                f"  coterie {self.join_with} {self.code} --at {self.at[0]}",
            ]
        if self.outside:
            lines += ["", f"Note: {self.outside}."]
        lines += ["", "From elsewhere (keep it to yourselves, like the code):", ""]
        lines += [f"  coterie {self.join_with} {self.ticket}", "", *qr_lines(self.ticket.upper()), ""]
        lines += [f"It works once, for {self.minutes:g} min, while this runs. Ctrl-C withdraws it."]
        return "\n".join(lines)


class WrongCode(msgspec.Struct, frozen=True):
    """Somebody tried a wrong code. With no `tries_left` the code is burnt; the ticket still works."""

    peer: str
    tries_left: int

    def text(self) -> str:
        """For people."""
        if self.tries_left:
            return f"{self.peer} tried a wrong code: {self.tries_left} more and the code is burnt"
        return f"{self.peer} tried a wrong code: the code is burnt, only the ticket works now"


class Met(msgspec.Struct, frozen=True):
    """Two computers that know each other now: the other one, under the name it has here. `into`: what it is in, too."""

    name: str
    peer: str
    addresses: list[str]
    into: str = ""

    def text(self) -> str:
        """For people."""
        if self.into:
            return f"{self.name} is in {self.into} now ({self.peer[:10]})"
        return f"You and {self.name} know each other now ({self.peer[:10]})"


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
        where = ", ".join(self.addresses) or "no address known"
        return "\n".join(
            [
                f"{self.name}  {self.peer}",
                *(f"  {row}" for row in rows),
                f"  {where}",
                f"  a contact: added {said(self.added)}",
            ]
        )


class ContactRemoved(msgspec.Struct, frozen=True):
    """A contact that was one; `also`: the names of further computers of the same person, which went with it."""

    name: str
    peer: str
    also: list[str] = []

    def text(self) -> str:
        """For people."""
        gone = f"{self.name} is no longer a contact here ({self.peer[:10]}); this computer may still be one there"
        others = f". Nor are other computers of the same person: {', '.join(self.also)}" if self.also else ""
        return gone + others


def qr_lines(text: str) -> Iterator[str]:
    """A QR code in half blocks, light on dark: two rows of modules in a line of text, no colours."""
    from segno import make  # only where one is printed

    rows = [list(row) for row in make(text, error="l", micro=False).matrix_iter(border=_QR_BORDER)]
    if len(rows) % 2:
        rows.append([1] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        yield "".join("█▀▄ "[2 * bool(top) + bool(bottom)] for top, bottom in zip(upper, lower, strict=True))
