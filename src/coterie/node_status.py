"""What `coterie status` says of a node. Pure."""

from typing import Any

import msgspec

from coterie.quantity import count, duration, say_bytes
from coterie.relay_status import HomeRelay, RelayStatus
from coterie.texts import tr


class ConnectionLine(msgspec.Struct, frozen=True):
    """One connection: to whom, and by which way."""

    name: str
    way: str
    address: str

    def text(self) -> str:
        """For people: one line."""
        return f"{self.name} {self.way} {self.address}"


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. `uptime_s` in seconds."""

    peer_id: str
    short: str
    name: str
    home: str
    reach: str
    addresses: list[str]
    here: list[str]
    connections: list[ConnectionLine]
    port_mapping: str
    outside: str
    home_relays: list[HomeRelay]
    relay: RelayStatus | None
    apps: dict[str, dict[str, Any]]
    uptime_s: float
    ports: list[str] = []
    troubles: list[str] = []
    app_troubles: list[str] = []
    services: dict[str, dict[str, Any]] = {}

    def text(self) -> str:
        """For people."""
        rows = [
            ("home", self.home),
            (tr("running for"), duration(self.uptime_s)),
            ("reach", self.reach),
            ("addresses", ", ".join(self.addresses) or tr("none (offline)")),
            ("here", ", ".join(self.here) or tr("nobody known")),
            ("connections", ", ".join(line.text() for line in self.connections) or "none"),
            (tr("port mapping"), self.port_mapping),
            ("outside", self.outside),
            (tr("home relays"), ", ".join(relay.text() for relay in self.home_relays) or "none"),
            (tr("own relay"), self.relay.serving_text() if self.relay else "no"),
            *(("port", port) for port in self.ports),
            *(("trouble", trouble) for trouble in self.troubles),
            *((tr("app trouble"), trouble) for trouble in self.app_troubles),
        ]
        for name, facts in (*self.apps.items(), *self.services.items()):
            rows += [(name, ", ".join(_fact(key, value) for key, value in facts.items()))] * bool(facts)
        width = max(len(name) for name, _ in rows)
        return "\n".join([f"{self.name}  {self.short}", *(f"{name:<{width}}  {said}" for name, said in rows)])


def _fact(key: str, value: Any) -> str:
    """One figure of an app in words: "bytes sent" 1234567 is "1.2 MB sent", "shares" 1 is "1 share"."""
    if not isinstance(value, int):
        return f"{value} {key}"
    if key.startswith("bytes "):
        return f"{say_bytes(value)} {key.removeprefix('bytes ')}"
    noun, blank, rest = key.partition(" ")
    return (
        f"{count(value, noun.removesuffix('s')) if noun.endswith('s') else f'{value:,} {noun}'}{blank}{rest}"
    )
