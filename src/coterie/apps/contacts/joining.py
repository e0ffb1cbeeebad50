"""The joiner's shell: find who invites, try one after the other, speak to each through `JoinCore`."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from coterie.apps.contacts.code import Code
from coterie.apps.contacts.core import Card, InvitationOver, JoinCore, JoinRefused
from coterie.apps.contacts.greeter import split_address, who_is_at
from coterie.apps.contacts.messages import PROTOCOL, Done, Right
from coterie.apps.context import Context
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit, Received, Send
from coterie.net import Stream
from coterie.texts import tr
from coterie.wire import Invitation
from coterie.wire.knock import REFERENCE_BYTES
from coterie.wire.knock import Right as KnockRight
from coterie.wire.ticket import holds_ticket

ANSWER_S = 10.0  # for one message; as long as the inviter gives the whole attempt
FIND_S = 6.0  # guess: mDNS finds what is there within 3 s, on busy wireless networks later
FIND_MORE_S = 2.0  # after a failure: two inviters may have drawn the same number
CANDIDATES_MAX = (
    3  # each may be a liar who learns whether one guess of its own was right: as many as a guesser gets
)

Candidate = tuple[PeerId, Sequence[str]]


def knock_right(invitation: Invitation) -> KnockRight:
    """Why the inviter should dial back who holds this."""
    return KnockRight(invitation.number.to_bytes(REFERENCE_BYTES), invitation.secret)


class Joining:
    """One call of `join`. Raises `UsageError` when made from something that cannot be an invitation."""

    def __init__(
        self,
        context: Context,
        text: str,
        own: Card,
        at: str = "",
        *,
        check: Callable[[bytes], None] = lambda purpose: None,
    ) -> None:
        """`check` gets the purpose of the invitation before we introduce ourselves; what it raises ends the attempt."""
        self._context = context
        self._check = check
        self._own = own
        self._at = at
        self._invitation: Invitation | None = None
        if at:
            split_address(at)
        if holds_ticket(text):
            self._invitation = Invitation.parse(text)
            self._number, self._right = self._invitation.number, Right.SECRET
            self._secret = self._invitation.secret
            if self._invitation.peer == context.me.peer_id:
                raise UsageError(tr("this invitation is from this very computer: use it on the other one"))
        else:
            code = Code.parse(text)
            self._number, self._right, self._secret = code.number, Right.CODE, code.secret

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the inviter is, by the long form of its invitation."""
        return self._invitation.addresses if self._invitation is not None else ()

    async def run(self) -> tuple[PeerId, Card]:
        """Who invited, and how it introduces itself. Errors as `ContactsService.join`."""
        failures: list[CoterieError] = []
        async with aclosing(self._candidates(failures)) as candidates:
            async for peer, addresses in candidates:
                try:
                    return peer, await self._attempt(peer, addresses)
                except (InvitationOver, UsageError):
                    raise
                except CoterieError as error:
                    failures.append(error)
                if len(failures) >= CANDIDATES_MAX:
                    break
        if failures:
            raise next((f for f in failures if isinstance(f, JoinRefused)), failures[0])
        raise NotFound(
            tr(
                "nobody on this network has a code with the number {number}: is it typed as it stands there, and "
                "does the command that printed it still run? From elsewhere: --at with the address that it "
                "prints, or the long form of the code",
                number=self._number,
            )
        )

    async def _candidates(self, failures: list[CoterieError]) -> AsyncGenerator[Candidate, None]:
        """Those who may be the inviter, as they are found."""
        if self._invitation is not None:
            at = (self._at,) if self._at else ()
            yield self._invitation.peer, (*at, *self._invitation.addresses)
        elif self._at:
            peer, address = await who_is_at(self._at)
            if peer == self._context.me.peer_id:
                raise UsageError(
                    tr("{at} is this very computer: name the address of the one that invites", at=self._at)
                )
            yield peer, (address,)
        elif self._context.net.neighbours is not None:
            seen = [self._context.me.peer_id]
            loop = asyncio.get_running_loop()
            deadline = loop.time() + FIND_S
            async with aclosing(self._context.net.neighbours.find_inviters(self._number)) as found:
                while True:
                    try:
                        async with asyncio.timeout_at(deadline):
                            peer, addresses = await anext(found)
                    except (TimeoutError, StopAsyncIteration):
                        return
                    if peer not in seen:
                        seen.append(peer)
                        yield peer, addresses
                        if failures:
                            deadline = min(deadline, loop.time() + FIND_MORE_S)

    async def _attempt(self, peer: PeerId, addresses: Sequence[str]) -> Card:
        """Join with this one, who may be somebody else."""
        own = addresses[:1] if self._at else ()  # what was typed here, or who answered there
        right = knock_right(self._invitation) if self._invitation is not None else None
        connection = await self._context.net.connect(peer, addresses, own=own, right=right)
        async with await connection.open_stream(PROTOCOL) as stream:
            core = JoinCore(
                peer,
                self._context.me.peer_id,
                self._number,
                self._right,
                secret=self._secret,
                card=self._own,
                entropy=os.urandom,
            )
            try:
                await stream.send(core.knock())
                return await self._converse(stream, core)
            except PeerError as error:
                raise _said(error, peer) from None

    async def _converse(self, stream: Stream, core: JoinCore) -> Card:
        """Answer what the inviter says until both sides are done."""
        card = Card("")
        now = asyncio.get_running_loop().time
        while True:
            try:
                message = await stream.receive(ANSWER_S)
            except TimeoutError:
                raise TransportError(
                    tr("{short} was reached and then said nothing: try again", short=stream.peer.short)
                ) from None
            if message is None:
                raise TransportError(
                    tr("{short} ended before both were done: try again", short=stream.peer.short)
                )
            for output in core.handle(Received(stream.peer, message), now()):
                match output:
                    case Send(_, answer):
                        await stream.send(answer)
                    case Emit(Card() as card):
                        self._check(card.purpose)
                    case Emit(Done()):
                        return card


def _said(error: PeerError, peer: PeerId) -> CoterieError:
    """Why the inviter closed on us, in words for the user."""
    match error.close_code:
        case CloseCode.LIMIT:
            return TransportError(
                tr("{short} has too many at its door: try again in some seconds", short=peer.short)
            )
        case CloseCode.INTERNAL:
            return PeerError(
                f"{peer.short} could not store this computer as a contact: look there", error.close_code
            )
        case CloseCode.CANCELLED | CloseCode.SHUTDOWN:
            return NotFound(
                tr("{short} has just withdrawn its invitation; ask for a new one", short=peer.short)
            )
        case CloseCode.TIMEOUT:
            return TransportError(
                tr("{short} gave up waiting: the network is slow, try again", short=peer.short)
            )
    return error
