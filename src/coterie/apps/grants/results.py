"""What the commands of `grants` return, and how it reads."""

from collections.abc import Sequence

import msgspec

from coterie.moments import exactly
from coterie.texts import tr


class GrantGiven(msgspec.Struct, frozen=True):
    """A new grant. Bearers, those to whom it was passed on and those who pass it on need the text, `grant`; a named
    peer of ours does not. `passes`: how often it may be passed on."""

    id: str
    holder: str
    verbs: str
    resource: str
    expires: str
    grant: str
    needs_handing_over: bool
    passes: int = 0

    def text(self) -> str:
        """For people."""
        until = tr(" until {exactly}", exactly=exactly(self.expires)) if self.expires else tr(" for ever")
        head = tr(
            "{holder} may {verbs} {resource}{until}",
            holder=self.holder,
            verbs=self.verbs,
            resource=self.resource,
            until=until,
        )
        back = tr("`coterie revoke {id}` takes it back.", id=self.id)
        if not self.needs_handing_over:
            lines = [head, tr("It holds from now on; {back}", back=back)]
            if self.passes:
                lines += ["", tr("Before it can be passed on, on the other computer:"), ""]
                lines.append(tr("  coterie grant accept {grant}", grant=self.grant))
            return "\n".join(lines)
        return "\n".join(
            [
                head,
                back,
                "",
                tr("On the other computer:"),
                "",
                tr("  coterie grant accept {grant}", grant=self.grant),
            ]
        )


class GrantLine(msgspec.Struct, frozen=True):
    """One line of the list.

    `role` is given, given elsewhere (by another computer of this person) or held; `state` is valid, revoked, expired
    or used up; `used` says how much of how much, of a grant of this computer's things with an amount.
    """

    id: str
    role: str
    peer: str
    verbs: str
    resource: str
    expires: str
    limits: str
    state: str
    used: str = ""


class GrantSaid(msgspec.Struct, frozen=True):
    """What a command did, in a sentence."""

    id: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class Wanted(msgspec.Struct, frozen=True):
    """The terms of a grant as people write them (limits: see `access/limits.py`); empty where nothing is said."""

    lasting_s: float | None = None
    limits: Sequence[str] = ()
    pass_on: int = 0
