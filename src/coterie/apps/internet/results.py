"""What the commands of `internet` return: plain values that faces render."""

import msgspec

from coterie.quantity import say_bytes
from coterie.texts import tr


class ShareLine(msgspec.Struct, frozen=True, kw_only=True):
    """Internet access that this computer gives.

    Fields:
        to: whom it is for. limits: what holds for each of them.
        allow: hosts of its own network that it leads to; only: the hosts that it leads to, where not to all.
    """

    id: str
    name: str
    to: list[str]
    limits: list[str]
    allow: list[str] = []
    only: list[str] = []

    def text(self) -> str:
        """For people."""
        lines = [
            tr("Internet access for {to}", to=", ".join(self.to))
            if self.to
            else tr(
                "Internet access for whom you grant it: coterie grant COMPUTER use internet/{name}",
                name=self.name,
            )
        ]
        lines += [tr("For each of them: {limits}", limits=", ".join(self.limits))] if self.limits else []
        lines += (
            [tr("Also hosts of this network: {allow}", allow=", ".join(self.allow))] if self.allow else []
        )
        lines += [tr("Only these hosts: {only}", only=", ".join(self.only))] if self.only else []
        return "\n".join(lines)


class DayLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one user used on one day."""

    day: str
    up_bytes: int
    down_bytes: int
    connections: int


class UserLine(msgspec.Struct, frozen=True, kw_only=True):
    """One user of the internet access of this computer: `open` connections now; `days`, the last first."""

    peer: str
    name: str
    open: int
    days: list[DayLine]


class ExitLine(msgspec.Struct, frozen=True, kw_only=True):
    """An exit that this computer uses. `state`: "in use", "ready", or what is wrong."""

    peer: str
    name: str
    state: str


class InternetLine(msgspec.Struct, frozen=True, kw_only=True):
    """What this computer gives and uses.

    Fields:
        proxy: where programs find the proxy, "127.0.0.1:4000"; "": none is used. pac: the address of the PAC file.
        whole: how the whole-system exit stands, where one is asked for or left behind; else "".
    """

    shares: list[ShareLine]
    users: list[UserLine]
    exits: list[ExitLine]
    proxy: str = ""
    pac: str = ""
    whole: str = ""

    def text(self) -> str:
        """For people."""
        lines = [share.text() for share in self.shares]
        for user in self.users:
            for day in user.days[:7]:
                lines.append(
                    tr(
                        "{day}  {name}: {down} down, {up} up",
                        day=day.day,
                        name=user.name,
                        down=say_bytes(day.down_bytes),
                        up=say_bytes(day.up_bytes),
                    )
                )
        for line in self.exits:
            lines.append(tr("Exit {name}: {state}", name=line.name, state=line.state))
        if self.proxy:
            lines.append(tr("Programs use the proxy {proxy} (SOCKS5 and HTTP)", proxy=self.proxy))
            lines.append(tr("Browsers: {pac}", pac=self.pac))
        if self.whole:
            lines.append(tr("This whole computer: {whole}", whole=self.whole))
            lines.append(
                tr("While the node is off, nothing leaves; `coterie internet stop` undoes it at any time")
            )
        if not lines:
            lines.append(
                tr(
                    "Nothing is shared or used: coterie internet share --to WHOM, coterie internet use COMPUTER"
                )
            )
        return "\n".join(lines)


class InternetSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said
