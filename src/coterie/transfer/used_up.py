"""What an asker hears when the amount of its grant is used up, and what it makes of it."""

from coterie.access.grant import Link
from coterie.access.terms import AMOUNT_MAX
from coterie.content.manifest import ID_BYTES
from coterie.errors import AccessDenied, PeerError
from coterie.identity import PeerId
from coterie.identity.peer_id import is_key
from coterie.quantity import say_bytes
from coterie.texts import tr
from coterie.transfer.messages import UsedUp


def used_up(link: Link) -> UsedUp:
    """For the one who presented a grant with this link, whose quota is used up."""
    return UsedUp(link.terms.quota_bytes, bytes(link.signer))


def denial(peer: PeerId, said: UsedUp) -> AccessDenied | PeerError:
    """What to tell our user when `peer` said that; `PeerError` where it cannot be."""
    if not (0 < said.granted <= AMOUNT_MAX and len(said.by) == ID_BYTES and is_key(said.by)):
        return PeerError(f"{peer.short} says that a grant is used up which cannot be")
    amount, giver = say_bytes(said.granted), PeerId(said.by).short
    return AccessDenied(
        tr("the {amount} that {giver} granted are used up; ask for a new grant", amount=amount, giver=giver)
    )
