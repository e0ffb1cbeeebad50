"""A grant as one printable string, like a ticket: to hand over by any way there is.

    text    = as in wire/ticket.py, up to GRANT_CHARS_MAX characters
    body    = 17 (u8) | has key (u8) | count u8 | addresses of the issuer | [key 32] | grant

With a key it is a bearer grant: whoever has the text passes the grant on to itself with that key.
"""

from dataclasses import dataclass

from coterie.access.grant import GRANT_BYTES_MAX, Grant, GrantRefused, open_grant
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.identity import SecretKey
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr
from coterie.wire.ticket import (
    ADDRESSES_MAX,
    count_addresses,
    pack_addresses,
    read_text,
    unpack_addresses,
    write_text,
)

GRANT_KIND = 17  # beside the kinds of tickets and invitations (wire/ticket.py)
ADDRESS_BYTES_MAX = 19
GRANT_CHARS_MAX = 2 * (GRANT_BYTES_MAX + ADDRESSES_MAX * ADDRESS_BYTES_MAX + KEY_BYTES)


@dataclass(frozen=True)
class GrantText:
    """A grant with where its issuer may be reached, and with `key` the right to pass it on to oneself."""

    grant: Grant
    addresses: tuple[str, ...] = ()
    key: SecretKey | None = None

    def __str__(self) -> str:
        head = bytes([GRANT_KIND, self.key is not None, count_addresses(self.addresses)])
        seed = self.key.seed if self.key is not None else b""
        packed = pack_addresses(self.addresses)
        return write_text(head + len(packed).to_bytes(1, "big") + packed + seed + self.grant.raw)

    def __repr__(self) -> str:
        return f"GrantText({self.grant!r}{', key hidden' if self.key else ''})"

    @classmethod
    @decoder(UsageError, "this grant")
    def parse(cls, text: str) -> "GrantText":
        """Read a grant's text. Raises `UsageError` that says what is wrong with it."""
        body = read_text(text, GRANT_CHARS_MAX)
        if body[:1] != bytes([GRANT_KIND]):
            raise UsageError(
                tr("this is a ticket of another kind, not a grant: use it with `coterie get` or `join`")
            )
        at = 4 + (body[3] if len(body) > 3 else 0)
        if len(body) <= at or body[1] > 1:
            raise UsageError(tr("the grant is damaged: its parts do not add up"))
        addresses = unpack_addresses(body[4:at], body[2])
        key = None
        if body[1]:
            if len(body) < at + KEY_BYTES:
                raise UsageError(tr("the grant is damaged: its parts do not add up"))
            key, at = SecretKey(body[at : at + KEY_BYTES]), at + KEY_BYTES
        try:
            grant = open_grant(body[at:])
        except GrantRefused as error:
            raise UsageError(tr("this cannot be used: {error}", error=error)) from None
        if key is not None and key.peer_id != grant.holder:
            raise UsageError(tr("the grant is damaged: its key is another one's"))
        return cls(grant, addresses, key)
