"""What the commands of `expose` return: plain values that faces render."""

import msgspec


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
        lines = [f"Exposed {self.target} as {self.name} to {', '.join(self.to)}"]
        lines += [f"There: coterie connect {self.note}"] if self.note else []
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
        at = f"port {port} of every address of this computer" if is_everywhere else self.address
        lines = [f"{self.service} is at {at or 'a port that is off'}{' (UDP)' if self.kind == 'udp' else ''}"]
        lines += [f"In a browser: {self.web}"] if self.web else []
        lines += [f"But now: {self.state}"] if self.state != "ready" else []
        return "\n".join(lines)
