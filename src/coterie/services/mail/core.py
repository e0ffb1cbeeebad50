"""The core of one app's mail: `handle(event, now) -> list[Output]`.

`now` is in unix seconds on a clock that never goes back.

Who runs it commits what `Keep...`, `Bind`, `Forget...` and `Deliver` say before it sends or tells anything of the same
turn (`box.py`): nothing leaves that is not on disk.
"""

from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp, TimerFired
from coterie.services.mail.events import Answered, Arrived, Handled, Outgoing, Post, StreamKey
from coterie.services.mail.inbox import Finished, Inbox, StreamId
from coterie.services.mail.outbox import Outbox


class MailCore:
    """Both halves of one app's mail."""

    def __init__(self, random: Random) -> None:
        """`random`: for epochs and attempts."""
        self._out = Outbox(random)
        self._in = Inbox()

    @property
    def letters(self) -> int:
        """How many wait to be taken."""
        return self._out.letters

    @property
    def size(self) -> int:
        """Bytes of their bodies."""
        return self._out.size

    def waits_for(self, peer: PeerId) -> bool:
        """Whether a letter waits for `peer`."""
        return self._out.waits_for(peer)

    def load(self, letters: list[Outgoing], finished: dict[StreamId, Finished], now: float) -> list[Any]:
        """Go on from what is on disk, before the first event; `letters` in the order of posting."""
        self._out.load(letters)
        self._in.load(finished)
        return self._out.begin(now)

    def handle(self, event: Any, now: float) -> list[Any]:  # noqa: PLR0911  (one table of all transitions)
        """Take one event at `now`."""
        match event:
            case Post():
                return self._out.post(event, now)
            case Arrived():
                return self._in.arrived(event, now)
            case Answered(bringer, receipt):
                return self._out.answered(bringer, receipt, now)
            case Handled():
                return self._in.handled(event, now)
            case PeerUp(PeerId() as peer):
                return self._out.peer_up(peer, now)
            case PeerDown(PeerId() as peer, _):
                return self._out.peer_down(peer, now)
            case TimerFired(("end",)):
                return self._out.expire(now)
            case TimerFired(("dial", PeerId() as peer)):
                return self._out.dial(peer, now)
            case TimerFired(("retry", PeerId() as peer)):
                return self._out.retry(peer, now)
            case TimerFired(("gap" | "again", StreamKey() as key, bytes() as epoch)):
                return self._in.look((key, epoch), now)
        return []
