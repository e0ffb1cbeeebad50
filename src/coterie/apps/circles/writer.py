"""Making operations: they are on disk, on their way to others, and known to all that follow changes."""

from collections.abc import Callable, Sequence
from typing import Any

from coterie.access.circle import Author, Circle
from coterie.access.circle_ops import Kind, OpId, SignedOp
from coterie.access.circle_vouched import OWN_TITLE
from coterie.apps.circles.book import CircleBook
from coterie.apps.circles.core import Wrote
from coterie.apps.circles.peers import Peers

ChangeListener = Callable[[OpId], None]


class Changes:
    """Who follows changes of circles, by whomever: in the order in which they began to."""

    def __init__(self) -> None:
        self._listeners: list[ChangeListener] = []

    def follow(self, listener: ChangeListener) -> None:
        """Call `listener(circle id)` after every change."""
        self._listeners.append(listener)

    def tell(self, circle: OpId) -> None:
        """A circle is not as it was."""
        for listener in self._listeners:
            listener(circle)


class Writer:
    """For the parts of the circles service."""

    def __init__(self, book: CircleBook, peers: Peers, changes: Changes) -> None:
        self._book = book
        self._peers = peers
        self._changes = changes

    def create(self, title: str, name: str) -> Circle:
        """A new circle with this person as its owner, who is called `name` in it."""
        circle = self._book.create(title, name)
        self.spread(circle.id, (circle.log.first,))
        return circle

    def own_circle(self, name: str) -> Circle:
        """The circle whose members are the computers of this person; made when there is none, by the name `name`."""
        known = self._book.own_circle()
        if known is None:
            known = self._book.create(OWN_TITLE, name, is_own=True)
            self.spread(known.id, (known.log.first,))
        return known

    def write(self, circle: Circle, kind: Kind, author: Author | None = None, **fields: Any) -> SignedOp:
        """Make an operation. Errors as `Circle.write`."""
        signed = self._book.write(circle, kind, author, **fields)
        self.spread(circle.id, (signed,))
        return signed

    def spread(self, circle: OpId, ops: Sequence[SignedOp]) -> None:
        """Operations were made here and are on disk."""
        self._peers.feed(Wrote(circle, tuple(ops)))
        self._changes.tell(circle)
