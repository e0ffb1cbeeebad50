"""A distributed table among people who know each other: nobody is introduced to anybody. Pure."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from coterie.identity import PeerId
from coterie.machine import Machine, Send

MayIntroduce = Callable[[PeerId, PeerId], bool]


class Discreet:
    """A Kademlia whose answers name only peers that the asker may hear of; what peers publish, they publish.

    Args:
        core: the machine.
        may_introduce: whether the first may hear of the second from us.
    """

    def __init__(self, core: Machine, may_introduce: MayIntroduce) -> None:
        self._core = core
        self._may_introduce = may_introduce

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        return [
            self._without_introductions(output) if type(output) is Send else output
            for output in self._core.handle(event, now)
        ]

    def _without_introductions(self, send: Send) -> Send:
        contacts = getattr(send.message, "contacts", None)
        if not contacts:
            return send
        asker: Any = send.peer
        allowed = [c for c in contacts if self._may_introduce(asker, PeerId(c.peer))]
        return send if len(allowed) == len(contacts) else Send(asker, replace(send.message, contacts=allowed))
