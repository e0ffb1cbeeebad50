"""The computers that a torrent is connected with, as lines of `coterie transfers show`."""

from collections.abc import Iterable

from coterie.content.bittorrent.session import PeerSeen
from coterie.transfer.results import AskerLine, SourceLine


def sources_of(seen: Iterable[PeerSeen]) -> list[SourceLine]:
    """Those that gave something, or have what we lack."""
    return [
        SourceLine(
            peer=peer.address,
            way=peer.way,
            has_all=peer.has_all,
            parts=peer.parts,
            received=peer.received,
            rate=peer.rate,
            rtt_ms=peer.rtt_ms,
            state="" if peer.rate else "idle",
        )
        for peer in seen
        if peer.received or peer.has_all or peer.parts
    ]


def askers_of(seen: Iterable[PeerSeen]) -> list[AskerLine]:
    """Those that got something from here."""
    return [AskerLine(peer.address, peer.sent) for peer in seen if peer.sent]
