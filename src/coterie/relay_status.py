"""What `coterie status` and `coterie doctor` say of relays."""

import msgspec

from coterie.quantity import count, say_bytes
from coterie.texts import tr


class HomeRelay(msgspec.Struct, frozen=True, kw_only=True):
    """A relay where this node can be reached. `rtt_ms` is None until it has answered."""

    url: str
    owner: str
    rtt_ms: float | None
    in_use: bool

    def text(self) -> str:
        """For people: one line."""
        rtt = tr("  {rtt_ms:g} ms", rtt_ms=self.rtt_ms) if self.rtt_ms is not None else ""
        return tr(
            "{url} of {owner}{rtt}{in_use}",
            url=self.url,
            owner=self.owner,
            rtt=rtt,
            in_use="  in use" if self.in_use else "",
        )


class RelayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Relays as `status` and `doctor` show them. `serves` is the URL of our own, empty when it does not run."""

    homes: list[HomeRelay]
    serves: str = ""
    clients: int = 0
    forwarded_bytes: int = 0
    dropped: int = 0
    denied: int = 0
    problem: str = ""

    def serving_text(self) -> str:
        """Our own relay in words."""
        if not self.serves:
            return self.problem or "no"
        parts = [
            f"{self.serves}: {count(self.clients, 'client')}",
            f"{say_bytes(self.forwarded_bytes)} forwarded",
        ]
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        parts += [f"{self.denied} denied"] if self.denied else []
        return ", ".join(parts)
