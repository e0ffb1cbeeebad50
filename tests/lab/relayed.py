"""A QUIC transport with relays and with addresses told from outside: the wheel's own switches, nothing more."""

from collections.abc import Sequence
from typing import Any

import iroh

from coterie.identity import PeerId, SecretKey
from coterie.net.interfaces import RawConnection
from coterie.net.quic import QuicTransport
from coterie.net.quic_repair import repair
from coterie.wire.handshake import ALPN


class RelayedTransport(QuicTransport):
    """Addresses that begin with "http" are relays."""

    @classmethod
    async def bind_with(
        cls, secret_key: SecretKey, relays: Sequence[str], port: int = 0
    ) -> "RelayedTransport":
        repair()
        builder: Any = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
        builder.apply_minimal()
        builder.relay_mode(iroh.RelayMode.custom_from_urls(list(relays)))
        builder.alpns([ALPN])
        builder.secret_key(secret_key.seed)
        builder.bind_addr(f"0.0.0.0:{port}")
        return cls(await builder.bind(), secret_key)

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> RawConnection:
        relays = [a for a in addresses if a.startswith("http")]
        direct = [a for a in addresses if a not in relays]
        identity = iroh.EndpointId.from_bytes(bytes(peer))
        raw = await self._endpoint.connect(
            iroh.EndpointAddr(identity, relays[0] if relays else None, direct), ALPN
        )
        return self._adopt(raw)

    async def external(self, address: str) -> None:
        """We are reached at `address` too."""
        await self._endpoint.add_external_addr(address)
