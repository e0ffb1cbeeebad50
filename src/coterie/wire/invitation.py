"""Invitation: the long form of an invitation, with everything needed to join from anywhere.

Written and checked as a ticket is (see wire/ticket.py), with a kind and a body of its own:

    body v1 = 16 (u8) | number u16 | peer 32 | secret 16 | count u8 | addresses
"""

import struct
from dataclasses import dataclass

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.wire.ticket import (
    ADDRESSES_MAX,
    INVITATION_KIND,
    SECRET_BYTES,
    TicketKind,
    count_addresses,
    pack_addresses,
    read_text,
    unpack_addresses,
    write_text,
)

NUMBER_MAX = 0xFFFF

_FIXED = struct.Struct(f">BH32s{SECRET_BYTES}sB")


@dataclass(frozen=True)
class Invitation:
    """Who invites (`peer`), where (`addresses`, as of a ticket), by what right (`secret`).

    `number` is that of the invitation among those of the peer.
    """

    number: int
    peer: PeerId
    secret: bytes
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES or not 0 <= self.number <= NUMBER_MAX:
            raise UsageError(tr("an invitation needs a 16-byte secret and a number of 16 bits"))
        if count_addresses(self.addresses) > ADDRESSES_MAX:
            raise UsageError(
                tr("an invitation holds at most {addresses_max} addresses", addresses_max=ADDRESSES_MAX)
            )

    def __str__(self) -> str:
        count = count_addresses(self.addresses)
        body = _FIXED.pack(INVITATION_KIND, self.number, self.peer, self.secret, count)
        return write_text(body + pack_addresses(self.addresses))

    def __repr__(self) -> str:
        return f"Invitation({self.number} from {self.peer.short}, secret hidden)"

    @classmethod
    @decoder(UsageError, "this invitation")
    def parse(cls, text: str) -> "Invitation":
        """Read an invitation.

        Raises:
            UsageError: says whether it is another kind of ticket, truncated, mistyped, or of a newer version.
        """
        body = read_text(text)
        if body and body[0] in set(TicketKind):
            raise UsageError(
                tr("this ticket is for files, it is not an invitation: use it with `coterie get`")
            )
        if body and body[0] != INVITATION_KIND:
            raise UsageError(
                tr(
                    "the ticket is for something this coterie does not know (kind {body}); update it",
                    body=body[0],
                )
            )
        if len(body) < _FIXED.size:
            raise UsageError(tr("the invitation is damaged: its parts do not add up"))
        _, number, peer, secret, count = _FIXED.unpack_from(body)
        return cls(number, PeerId.read(peer), secret, unpack_addresses(body[_FIXED.size :], count))
