"""The inviter's core: its invitations, and every attempt to join one of them.

    invitation   open -> claimed -> used; open -> expired, withdrawn
    session      opened -> knocked -> claiming -> keeping -> parting; each ends at any time, at latest after SESSION_S

Rules that keep a guesser outside: the joiner proves first, so that whoever has nothing to prove gets nothing to test
guesses on; each wrong proof by code is one of TRIES_MAX; a burnt code, a wrong one and an invitation that never was
take the same steps and get the same answer. What ended an invitation is told only to those who prove its right.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

from coterie.apps.contacts.messages import (
    Accept,
    Answer,
    Confirm,
    Done,
    Introduce,
    Knock,
    Over,
    Reason,
    Refused,
    Right,
    check_card,
)
from coterie.apps.contacts.pake import Exchange, Proofs, password_of, proof_matches
from coterie.errors import AccessDenied, CloseCode, NotFound, PeerError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.rate import Rate
from coterie.wire.invitation import NUMBER_MAX

TRIES_MAX = 3  # the specification of this project; magic-wormhole burns a code after one
SESSIONS_MAX = 4  # attempts under way at once; guess: people join one by one
SESSION_S = (
    10.0  # from the stream to the last message; guess: a handful of round trips and two seconds of a slow CPU
)
PARTING_S = 2.0  # for the joiner to take the last word before our node may go; guess: a slow round trip
KNOCKS_PER_S = 2.0  # for all peers together, as ids cost nothing: 3 % of a core at 15 ms a knock (measured)
KNOCKS_BURST = 10  # guess: a family at a table, with mistypes
INVITATIONS_MAX = 8  # open at once; guess
ENDED_MAX = 16  # invitations remembered after their end, to be able to say so
ENDED_S = 3600.0  # for so long; guess


class Card(msgspec.Struct, frozen=True):
    """What one side tells the other of itself."""

    name: str
    addresses: tuple[str, ...] = ()
    record: bytes = b""
    purpose: bytes = b""


@dataclass(frozen=True, slots=True)
class Invite:
    """Command: open an invitation under a free `number`, until the time `until`.

    `tries`: wrong ones by the code until it is burnt. `is_contact`: who joins becomes one (`meetings.py`).
    """

    number: int
    code_secret: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    card: Card
    until: float
    tries: int = TRIES_MAX
    is_contact: bool = True


class Withdraw(msgspec.Struct, frozen=True):
    """Command: end an invitation."""

    number: int


class Forget(msgspec.Struct, frozen=True):
    """Command: `peer` is no contact any more; what it used before lets it in no more."""

    peer: PeerId


class Opened(msgspec.Struct, frozen=True):
    """A stream of the joiner `peer` is `session` from now on; sends to it go to the peer `session`."""

    session: int
    peer: PeerId


class Kept(msgspec.Struct, frozen=True):
    """The answer to `Keep`: whether the contact is stored now."""

    session: int
    is_stored: bool


class Keep(msgspec.Struct, frozen=True):
    """Output: store `peer` as a contact (`is_contact`), or take note of it, then report `Kept`.

    `is_again`: `peer` was stored over this invitation before, and missed the last word; its purpose was told then.
    """

    session: int
    number: int
    peer: PeerId
    card: Card
    is_again: bool = False
    is_contact: bool = True


class End(msgspec.Struct, frozen=True):
    """Output: no more of this session. Close its stream after what was sent, or with an error's `close_code`."""

    session: int
    close_code: int = CloseCode.NORMAL


class WrongTry(msgspec.Struct, frozen=True):
    """Emitted: `peer` proved the wrong right to `number`; with no `tries_left` its code is burnt."""

    number: int
    peer: PeerId
    tries_left: int


class Ended(msgspec.Struct, frozen=True):
    """Emitted once per invitation: used by `peer` (who knows it already, or never will), expired or withdrawn."""

    number: int
    reason: Reason
    peer: PeerId | None = None


class _Step(Enum):
    OPENED = auto()  # a Knock is to come
    KNOCKED = auto()  # a Confirm
    CLAIMING = auto()  # an Introduce; the invitation is this session's
    KEEPING = auto()  # a Kept of the shell
    PARTING = auto()  # the end of the stream: the joiner has read all


@dataclass(slots=True)
class _Session:
    peer: PeerId
    step: _Step = _Step.OPENED
    number: int = 0
    right: Right = Right.CODE
    proofs: Proofs | None = None
    news: list[Any] = field(default_factory=list)  # told when it is over


@dataclass(slots=True)
class _Invitation:
    card: Card
    until: float
    secrets: dict[Right, bytes]
    tries_left: int = TRIES_MAX
    claimed_by: int | None = None
    ended: Reason | None = None
    used_by: PeerId | None = None
    is_contact: bool = True


class InviteCore:
    """See the module's text. `own` is the inviter's id; `entropy(n)` gives n random bytes."""

    def __init__(self, own: PeerId, entropy: Callable[[int], bytes]) -> None:
        self._own = own
        self._entropy = entropy
        self._invitations: OrderedDict[int, _Invitation] = OrderedDict()
        self._sessions: dict[int, _Session] = {}
        self._knocks = Rate(KNOCKS_PER_S, KNOCKS_BURST)

    @property
    def open_numbers(self) -> list[int]:
        """The numbers of the invitations that are not over, oldest first."""
        return [number for number, invitation in self._invitations.items() if invitation.ended is None]

    @property
    def numbers(self) -> list[int]:
        """The numbers that are not free: those of open invitations, and of remembered ones."""
        return list(self._invitations)

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        match event:
            case Invite() | Withdraw() | Forget():
                return self._obey(event, now)
            case Opened(session, peer):
                return self._open(session, peer, now)
            case Received(session, message) if session in self._sessions:
                return self._take(session, message, now)
            case Kept(session, is_stored) if session in self._sessions:
                return self._kept(session, is_stored, now)
            case PeerDown(session) if session in self._sessions:
                return self._forget(session, now)
            case TimerFired(("session", session)) if session in self._sessions:
                is_parting = self._sessions[session].step is _Step.PARTING
                code = CloseCode.NORMAL if is_parting else CloseCode.TIMEOUT
                return [*self._forget(session, now), End(session, code)]
            case TimerFired(("until", int(number))) if number in self._invitations:
                return self._time_over(number, now)
        return []

    # ---- invitations

    def _obey(self, command: Invite | Withdraw | Forget, now: float) -> list[Any]:
        match command:
            case Invite():
                return self._invite(command)
            case Withdraw(number):
                return self._withdraw(number, now)
            case Forget(peer):
                return self._void(peer, now)

    def _invite(self, event: Invite) -> list[Any]:
        secrets = {Right.CODE: event.code_secret, Right.SECRET: event.secret}
        self._invitations[event.number] = _Invitation(
            event.card, event.until, secrets, event.tries, is_contact=event.is_contact
        )
        return [SetTimer(("until", event.number), event.until)]

    def _withdraw(self, number: int, now: float) -> list[Any]:
        outputs = self._end_invitation(number, Reason.WITHDRAWN, now)
        claimed_by = self._invitations[number].claimed_by if outputs else None
        if claimed_by is not None:
            outputs += [*self._forget(claimed_by, now), End(claimed_by, CloseCode.CANCELLED)]
        return outputs

    def _time_over(self, number: int, now: float) -> list[Any]:
        invitation = self._invitations[number]
        if invitation.ended is not None:
            del self._invitations[number]
            return []
        return [] if invitation.claimed_by is not None else self._end_invitation(number, Reason.EXPIRED, now)

    def _end_invitation(
        self, number: int, reason: Reason, now: float, peer: PeerId | None = None
    ) -> list[Any]:
        invitation = self._invitations.get(number)
        if invitation is None or invitation.ended is not None:
            return []
        invitation.ended, invitation.used_by = reason, peer
        outputs: list[Any] = [Emit(Ended(number, reason, peer)), SetTimer(("until", number), now + ENDED_S)]
        over = [known for known, other in self._invitations.items() if other.ended is not None]
        for forgotten in over[: max(0, len(over) - ENDED_MAX)]:
            del self._invitations[forgotten]
            outputs.append(CancelTimer(("until", forgotten)))
        return outputs

    def _void(self, peer: PeerId, now: float) -> list[Any]:
        outputs: list[Any] = []
        for invitation in self._invitations.values():
            if invitation.used_by == peer:
                invitation.used_by = None
                if (session := invitation.claimed_by) is not None:  # it is coming back at this moment
                    outputs += [*self._forget(session, now), End(session, CloseCode.CANCELLED)]
        return outputs

    # ---- sessions

    def _open(self, session: int, peer: PeerId, now: float) -> list[Any]:
        if len(self._sessions) >= SESSIONS_MAX or not self._knocks.take(now):
            return [End(session, CloseCode.LIMIT)]
        self._sessions[session] = _Session(peer)
        return [SetTimer(("session", session), now + SESSION_S)]

    def _take(self, key: int, message: Any, now: float) -> list[Any]:
        session = self._sessions[key]
        try:
            match session.step, message:
                case _Step.OPENED, Knock():
                    return self._knock(key, session, message)
                case _Step.KNOCKED, Confirm():
                    return self._confirm(key, session, message, now)
                case _Step.CLAIMING, Introduce():
                    check_card(message)
                    session.step = _Step.KEEPING
                    card = Card(message.name, tuple(message.addresses), message.record)
                    invitation = self._invitations[session.number]
                    is_again, is_contact = invitation.ended is Reason.USED, invitation.is_contact
                    return [Keep(key, session.number, session.peer, card, is_again, is_contact)]
        except PeerError as error:
            return [*self._forget(key, now), End(key, error.close_code)]
        return [*self._forget(key, now), End(key, CloseCode.PROTOCOL_VIOLATION)]

    def _knock(self, key: int, session: _Session, knock: Knock) -> list[Any]:
        if knock.right not in set(Right):
            raise PeerError(f"a right of kind {knock.right}")
        session.number = knock.number if 0 <= knock.number <= NUMBER_MAX else 0  # 0 is never an invitation
        session.right, session.step = Right(knock.right), _Step.KNOCKED
        secret = self._secret_of(session) or self._entropy(16)  # nothing is told from nothing: see above
        exchange = Exchange.of_inviter(
            password_of(session.right, secret), self._own, session.peer, self._entropy
        )
        session.proofs = exchange.finish(knock.element, session.number, session.right)
        return [Send(key, Answer(exchange.element))]

    def _secret_of(self, session: _Session) -> bytes | None:
        """What the joiner has to know; None when nothing it may know lets it in."""
        invitation = self._invitations.get(session.number)
        if invitation is None or (session.right is Right.CODE and not invitation.tries_left):
            return None
        return invitation.secrets[session.right]

    def _confirm(self, key: int, session: _Session, confirm: Confirm, now: float) -> list[Any]:
        assert session.proofs is not None  # noqa: S101 - the step says so
        is_right = proof_matches(confirm.proof, session.proofs.joiner)
        invitation = self._invitations.get(session.number)
        if invitation is None or self._secret_of(session) is None or not is_right:
            outputs = self._wrong_try(session, invitation)
            return [*outputs, Send(key, Refused()), *self._forget(key, now), End(key)]
        if invitation.used_by == session.peer or (
            invitation.ended is None and self._may_claim(invitation, session)
        ):
            return self._claim(key, session, invitation, now)
        reason = invitation.ended or Reason.USED
        return [Send(key, Over(reason)), *self._forget(key, now), End(key)]

    def _wrong_try(self, session: _Session, invitation: _Invitation | None) -> list[Any]:
        if invitation is None or session.right is not Right.CODE or not invitation.tries_left:
            return []
        invitation.tries_left -= 1
        if invitation.ended is not None:
            return []
        return [Emit(WrongTry(session.number, session.peer, invitation.tries_left))]

    def _may_claim(self, invitation: _Invitation, session: _Session) -> bool:
        """Whether nobody, or only an older attempt of the same joiner, is about to use the invitation."""
        return invitation.claimed_by is None or self._sessions[invitation.claimed_by].peer == session.peer

    def _claim(self, key: int, session: _Session, invitation: _Invitation, now: float) -> list[Any]:
        outputs: list[Any] = []
        older = invitation.claimed_by
        if older is not None:
            if self._sessions[older].step is _Step.KEEPING:  # the shell is storing this very contact
                return [*self._forget(key, now), End(key, CloseCode.LIMIT)]
            outputs = [*self._forget(older, now), End(older, CloseCode.CANCELLED)]
            if invitation.ended is Reason.EXPIRED:
                return [*outputs, Send(key, Over(Reason.EXPIRED)), *self._forget(key, now), End(key)]
        invitation.claimed_by = key
        session.step = _Step.CLAIMING
        assert session.proofs is not None  # noqa: S101 - the step says so
        card = invitation.card
        accept = Accept(session.proofs.inviter, card.name, list(card.addresses), card.record, card.purpose)
        return [*outputs, Send(key, accept)]

    def _kept(self, key: int, is_stored: bool, now: float) -> list[Any]:
        session = self._sessions[key]
        if not is_stored:
            return [*self._forget(key, now), End(key, CloseCode.INTERNAL)]
        outputs = self._end_invitation(session.number, Reason.USED, now, session.peer)
        session.news = [output for output in outputs if isinstance(output, Emit)]
        session.step = _Step.PARTING
        self._invitations[session.number].claimed_by = None
        told_now = [output for output in outputs if not isinstance(output, Emit)]
        return [*told_now, SetTimer(("session", key), now + PARTING_S), Send(key, Done())]

    def _forget(self, key: int, now: float) -> list[Any]:
        """A session is over; what it had claimed and not used is open again, while its time lasts."""
        session = self._sessions.pop(key)
        outputs: list[Any] = [CancelTimer(("session", key))]
        invitation = self._invitations.get(session.number)
        if invitation is not None and invitation.claimed_by == key:
            invitation.claimed_by = None
            if now >= invitation.until:
                outputs += self._end_invitation(session.number, Reason.EXPIRED, now)
        return outputs + session.news


class JoinCore:
    """The joiner's core: one attempt. `handle` takes `Received` only and never needs a timer.

    Emits `Card` when the inviter has proven itself, and `Done` when both know each other.
    """

    def __init__(self, inviter: PeerId, own: PeerId, number: int, right: Right, *, secret: bytes, card: Card,
                 entropy: Callable[[int], bytes]) -> None:  # fmt: skip
        self._inviter = inviter
        self._number = number
        self._right = right
        self._card = card
        self._exchange = Exchange.of_joiner(password_of(right, secret), inviter, own, entropy)
        self._proofs: Proofs | None = None
        self._is_accepted = False

    def knock(self) -> Knock:
        """The first message."""
        return Knock(self._number, self._right, self._exchange.element)

    def handle(self, event: Received, now: float) -> list[Any]:
        """See `coterie.machine`.

        Raises:
            CoterieError: what the attempt failed with, for the user.
        """
        match event.message:
            case Answer(element) if self._proofs is None:
                self._proofs = self._exchange.finish(element, self._number, self._right)
                return [Send(event.peer, Confirm(self._proofs.joiner))]
            case Accept() as accept if self._proofs is not None and not self._is_accepted:
                return self._accept(event.peer, accept, self._proofs)
            case Done() if self._is_accepted:
                return [Emit(Done())]
            case Refused():
                raise JoinRefused(self._inviter)
            case Over(reason):
                raise InvitationOver(reason)
        raise PeerError(f"{self._inviter.short} answered out of turn while joining")

    def _accept(self, peer: Any, accept: Accept, proofs: Proofs) -> list[Any]:
        if not proof_matches(accept.proof, proofs.inviter):
            raise PeerError(
                f"{self._inviter.short} does not know the code: it is not the computer that invites you"
            )
        check_card(accept)
        self._is_accepted = True
        card = Card(accept.name, tuple(accept.addresses), accept.record, accept.purpose)
        own = Introduce(self._card.name, list(self._card.addresses), self._card.record)
        return [Emit(card), Send(peer, own)]


class JoinRefused(AccessDenied):
    """The inviter does not take this code, and says no more than that."""

    def __init__(self, inviter: PeerId) -> None:
        super().__init__(
            f"{inviter.short} does not accept this: a word is wrong, or the invitation is no longer open; "
            "check the words, then ask for a new invitation"
        )


class InvitationOver(NotFound):
    """The right was right, and too late."""

    def __init__(self, reason: int) -> None:
        said = {
            Reason.USED: "was used already",
            Reason.EXPIRED: "has expired",
            Reason.WITHDRAWN: "was withdrawn",
        }
        words = said.get(Reason(reason) if reason in set(Reason) else Reason.WITHDRAWN, "is over")
        super().__init__(f"this invitation {words}; ask for a new one")
