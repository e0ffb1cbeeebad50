"""What `coterie peers` says of one computer that is there, or was seen. Pure."""

import msgspec

from coterie.quantity import duration
from coterie.texts import tr


class PeerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of `coterie peers`. `rtt_ms` and `seen` (seconds ago) are None when not known."""

    name: str
    short: str
    known: list[str]
    path: str
    rtt_ms: float | None
    seen: float | None
    addresses: list[str]
    peer: str

    def text(self) -> str:
        """For people: one line."""
        rtt = tr("  {rtt_ms:g} ms", rtt_ms=self.rtt_ms) if self.rtt_ms is not None else ""
        if self.path:
            where = f"{self.path}{rtt}"
        elif self.seen is None:
            where = tr("never seen")
        else:
            where = tr(
                "seen {seen} ago, at {addresses}",
                seen=duration(self.seen),
                addresses=self.addresses[0] if self.addresses else "no known address",
            )
        return f"{self.name or '(no name)':<20}  {self.short}  {', '.join(self.known)}  {where}"
