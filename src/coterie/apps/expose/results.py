"""What the commands of `expose` return: plain values that faces render."""

import msgspec

from coterie.texts import tr


class ExposedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A service of this computer: `target` is where it is here, `to` whom it is for; `connections` are open now."""

    id: str
    name: str
    target: str
    kind: str
    to: list[str]
    connections: int = 0
    note: str = ""

    def text(self) -> str:
        """For people."""
        lines = [
            tr(
                "Exposed {target} as {name} to {to}",
                target=self.target,
                name=self.name,
                to=", ".join(self.to),
            )
        ]
        lines += [tr("There: coterie connect {note}", note=self.note)] if self.note else []
        return "\n".join(lines)


class ExposeSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class ConnectedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A service of a peer that is open here: programs connect to `address`; `web` is its address in browsers."""

    id: str
    service: str
    kind: str
    address: str
    web: str
    connections: int
    state: str

    def text(self) -> str:
        """For people."""
        ip, _, port = self.address.rpartition(":")
        is_everywhere = ip in ("0.0.0.0", "[::]")  # noqa: S104 - said, not bound
        at = tr("port {port} of every address of this computer", port=port) if is_everywhere else self.address
        lines = [
            tr(
                "{service} is at {at}{kind}",
                service=self.service,
                at=at or "a port that is off",
                kind=" (UDP)" if self.kind == "udp" else "",
            )
        ]
        lines += [tr("In a browser: {web}", web=self.web)] if self.web else []
        lines += [tr("But now: {state}", state=self.state)] if self.state != "ready" else []
        return "\n".join(lines)


class NamesLine(msgspec.Struct, frozen=True, kw_only=True):
    """Names in .coterie: `address` answers them, `web` is a page by such a name, `how` says how a system asks there."""

    is_on: bool
    address: str
    web: str
    how: list[str]

    def text(self) -> str:
        """For people."""
        if not self.is_on:
            return tr("Names in .coterie are off: coterie names on")
        lines = [
            tr("Names in .coterie are answered at {address} (DNS, UDP and TCP)", address=self.address),
            tr("Pages are then at {web}", web=self.web),
            tr("Tell this system's resolver to ask there:"),
            *self.how,
            tr("Try it: dig @127.0.0.1 -p {port} COMPUTER.coterie", port=self.address.rpartition(":")[2]),
        ]
        return "\n".join(lines)
