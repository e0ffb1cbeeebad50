"""The inviter's core and joiners' cores in virtual time, message by message, with entropy that repeats."""

from collections.abc import Callable
from typing import Any

from blake3 import blake3

from coterie.apps.contacts.code import Code
from coterie.apps.contacts.core import Card, End, Invite, InviteCore, JoinCore, Keep, Kept, Opened
from coterie.apps.contacts.messages import Right
from coterie.identity import PeerId, SecretKey
from coterie.machine import CancelTimer, Emit, PeerDown, Received, Send, SetTimer, TimerFired

ANNA, BEN, EVE = (SecretKey(bytes([number]) * 32).peer_id for number in (1, 2, 3))
CODE = Code(7, ("planet", "velvet"))
SECRET = b"s" * 16
LIFE_S = 900.0


def entropy(seed: bytes) -> Callable[[int], bytes]:
    """An endless stream of bytes that is the same in every run."""
    at = 0

    def draw(size: int) -> bytes:
        nonlocal at
        at += size
        return blake3(seed).digest(size, seek=at - size)

    return draw


class Inviter:
    """Anna's core, its timers and what it did with each session."""

    def __init__(self, number: int | None = CODE.number, *, stores: bool = True) -> None:
        self.core = InviteCore(ANNA, entropy(b"anna"))
        self.now = 0.0
        self.timers: dict[Any, float] = {}
        self.sent: dict[Any, list[Any]] = {}
        self.ended: dict[int, int] = {}
        self.kept: list[PeerId] = []
        self.emitted: list[Any] = []
        self.stores = stores
        self._sessions = 0
        if number is not None:
            self.invite(number)

    def invite(self, number: int) -> None:
        self.feed(Invite(number, CODE.secret, SECRET, Card("anna", ("192.0.2.1:1",)), self.now + LIFE_S))

    def feed(self, event: Any) -> list[Any]:
        outputs = self.core.handle(event, self.now)
        for output in outputs:
            match output:
                case Send(session, message):
                    self.sent[session].append(message)
                case SetTimer(key, at):
                    self.timers[key] = at
                case CancelTimer(key):
                    self.timers.pop(key, None)
                case End(session, code):
                    assert session not in self.ended, "ended twice"
                    self.ended[session] = code
                case Keep(session, _, peer, _):
                    if self.stores:
                        self.kept.append(peer)
                    self.feed(Kept(session, self.stores))
                case Emit(event):
                    self.emitted.append(event)
        return outputs

    def wait(self, seconds: float) -> None:
        """Let time pass, with all timers that are due."""
        end = self.now + seconds
        while due := [(at, str(key), key) for key, at in self.timers.items() if at <= end]:
            self.now, _, key = min(due)
            del self.timers[key]
            self.feed(TimerFired(key))
        self.now = end

    def open(self, peer: PeerId) -> int:
        self._sessions += 1
        self.sent[self._sessions] = []
        self.feed(Opened(self._sessions, peer))
        return self._sessions

    def say(self, session: int, message: Any) -> list[Any]:
        """What the core answers to `message` of `session`."""
        before = len(self.sent[session])
        self.feed(Received(session, message))
        return self.sent[session][before:]


def joiner(
    own: PeerId = BEN,
    *,
    inviter: PeerId = ANNA,
    secret: bytes = CODE.secret,
    right: Right = Right.CODE,
    number: int = CODE.number,
    seed: bytes = b"ben",
) -> JoinCore:
    """A joiner's core."""
    return JoinCore(inviter, own, number, right, secret=secret, card=Card("ben"), entropy=entropy(seed))


def play(inviter: Inviter, core: JoinCore, peer: PeerId = BEN) -> list[Any]:
    """A whole attempt, to the end of its stream; what the joiner emitted. Raises what it failed with."""
    session = inviter.open(peer)
    try:
        return _converse(inviter, core, session)
    finally:
        inviter.feed(PeerDown(session))


def _converse(inviter: Inviter, core: JoinCore, session: int) -> list[Any]:
    emitted, waiting = [], [core.knock()]
    while waiting:
        for answer in inviter.say(session, waiting.pop(0)):
            for output in core.handle(Received(ANNA, answer), inviter.now):
                match output:
                    case Send(_, message):
                        waiting.append(message)
                    case Emit(event):
                        emitted.append(event)
    return emitted
