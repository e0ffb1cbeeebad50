"""`coterie peers forget`: take a computer that was seen off the list, as its owner wants."""

from typing import TYPE_CHECKING

import msgspec

from coterie.control.doctor_peer import find_peer
from coterie.errors import NotFound, UsageError
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node


class Forgotten(msgspec.Struct, frozen=True):
    """A computer that is not in the list any more. `name` as it had called itself; may be empty."""

    name: str
    peer: str

    def text(self) -> str:
        """For people."""
        return tr("Forgot {name}.", name=self.name or self.peer)


def forget(node: "Node", text: str) -> Forgotten:
    """Forget the one computer whose name, or whose id (a beginning will do), is `text`.

    Raises:
        NotFound: nothing is kept of it.
        UsageError: several may be meant; or it is known to a person here, or connected.
    """
    who = find_peer(node, text)
    standing = node.people.standing(who.peer)
    if standing.contact:
        raise UsageError(tr("{who} is a contact: `coterie contacts remove {who}` ends that", who=who.name))
    if node.people.is_known(who.peer):
        raise UsageError(
            tr("{who} is in a circle with this computer: it stays in the list as long as it is", who=who.name)
        )
    if node.reach is None or not node.reach.forget(who.peer):
        raise NotFound(tr("nothing is kept of {who}: `coterie peers` lists who was seen", who=who.name))
    return Forgotten(who.name if who.name != who.peer.short else "", str(who.peer))
