"""What `coterie peers` says of one computer that is there, or was seen. Pure."""

import msgspec

from coterie.quantity import duration


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
        rtt = f"  {self.rtt_ms:g} ms" if self.rtt_ms is not None else ""
        if self.path:
            where = f"{self.path}{rtt}"
        elif self.seen is None:
            where = "never seen"
        else:
            where = f"seen {duration(self.seen)} ago, at {self.addresses[0] if self.addresses else 'no known address'}"
        return f"{self.name or '(no name)':<20}  {self.short}  {', '.join(self.known)}  {where}"
