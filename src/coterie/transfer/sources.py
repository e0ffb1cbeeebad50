"""Where a download comes from: who may have it, who is asked, who is tried again and when, who is asked no more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coterie.errors import AccessDenied, CloseCode, CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.transfer.fetch import Fetch, ShareMoved
from coterie.transfer.messages import Opened

RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # guess: at once for a restart, then gently
SOURCES_MAX = 200  # candidates remembered of one download; guess
LINKS_MAX = 40  # sessions of one download; guess: in the simulator 20 neighbours suffice for 1,000
GOODBYE_S = 1.0  # for sessions to end in order once all is there; guess
FATAL_CODES = frozenset(
    {CloseCode.PROTOCOL_VIOLATION, CloseCode.LIMIT, CloseCode.REFUSED, CloseCode.VERSION, CloseCode.REVOKED}
)

Session = tuple[Connection, Stream, Opened]
OpenSession = Callable[[PeerId, Sequence[str]], Awaitable[Session]]


@dataclass(eq=False, slots=True)
class Candidate:
    """Somebody who may have it. `refused` says why it is asked no more."""

    peer: PeerId
    addresses: tuple[str, ...]
    is_hint: bool
    tries: int = 0
    next_at: float = 0.0
    refused: CoterieError | None = None
    error: CoterieError | None = None
    task: "asyncio.Task[None] | None" = None


class Sources:
    """The sources of one download. `run` keeps sessions with them until it is complete."""

    def __init__(self, fetch: Fetch, open_session: OpenSession, say: Callable[[str], None]) -> None:
        """`say` gets "" when a session is up, and why there is none while there is none."""
        self._fetch = fetch
        self._open = open_session
        self._say = say
        self._candidates: dict[PeerId, Candidate] = {}
        self._changed = asyncio.Event()
        self._moved: ShareMoved | None = None
        self.dropped: dict[PeerId, str] = {}

    def met(self, peer: PeerId, addresses: Sequence[str], *, is_hint: bool = True) -> None:
        """`peer` may have it. Of a hint nothing is believed: the session shows."""
        known = self._candidates.get(peer)
        if known is None:
            if len(self._candidates) >= SOURCES_MAX and is_hint:
                return
            known = self._candidates[peer] = Candidate(peer, tuple(addresses), is_hint)
        elif addresses:
            known.addresses = tuple(addresses)
        if known.task is None and known.is_hint:
            known.next_at = 0.0
        self._changed.set()

    async def run(self, first: Session | None) -> None:
        """Until the download is complete; `first` is a session that is open already, and has asked for the root.

        Raises:
            PeerError, NotFound, AccessDenied: everybody who may have it was refused for good.
            ShareMoved: the peer of the ticket has other content for it by now.
        """
        complete = asyncio.ensure_future(self._fetch.wait())
        try:
            if first is not None:
                self._start(self._candidates[first[1].peer], first)
            while not complete.done():
                self._start_due()
                self._check()
                self._changed.clear()
                await self._sleep(complete)
            complete.result()
        finally:
            complete.cancel()
            tasks: list[asyncio.Task[None]] = [
                c.task for c in self._candidates.values() if c.task is not None
            ]
            if tasks and complete.done() and not complete.cancelled() and complete.exception() is None:
                await asyncio.wait(tasks, timeout=GOODBYE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_due(self) -> None:
        now = time.monotonic()
        free = LINKS_MAX - sum(c.task is not None for c in self._candidates.values())
        due = [c for c in self._candidates.values() if c.task is None and not c.refused and c.next_at <= now]
        for candidate in sorted(due, key=lambda c: (c.tries, c.is_hint))[: max(0, free)]:
            self._start(candidate, None)

    def _start(self, candidate: Candidate, session: Session | None) -> None:
        candidate.task = asyncio.ensure_future(self._use(candidate, session))

    async def _sleep(self, complete: "asyncio.Future[None]") -> None:
        """Until something changes, or somebody is due."""
        due = [c.next_at for c in self._candidates.values() if c.task is None and not c.refused]
        wait_s = max(0.0, min(due) - time.monotonic()) + 0.001 if due else None
        changed = asyncio.ensure_future(self._changed.wait())
        awaited: list[asyncio.Future[Any]] = [changed, complete]
        try:
            await asyncio.wait(awaited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    def _check(self) -> None:
        """Say how it stands; nobody left to ask is the end."""
        if self._moved is not None:
            raise self._moved
        if self._fetch.links or any(c.task is not None for c in self._candidates.values()):
            return
        left = [c for c in self._candidates.values() if not c.refused]
        if not left:
            worst = sorted(self._candidates.values(), key=lambda c: c.is_hint)
            raise next(c.refused for c in worst if c.refused)
        error = next((c.error for c in sorted(left, key=lambda c: c.is_hint) if c.error), None)
        self._say(f"{error or 'nobody has it now'}; next try in {RETRY_S[-1]:.0f} s at most")

    async def _use(self, candidate: Candidate, session: Session | None) -> None:
        """One session with a candidate, from dialling to its end."""
        connection: Connection | None = None
        before = self._fetch.received_from(candidate.peer)
        try:
            connection, stream, opened = session or await self._open(candidate.peer, candidate.addresses)
            self._say("")
            await self._fetch.session(connection, stream, opened, asked_root=session is not None)
            await stream.finish()
        except (TransportError, PeerError, NotFound, AccessDenied) as error:
            if connection is not None:
                code = error.close_code if isinstance(error, PeerError) else CloseCode.TIMEOUT
                await stream.reset(code)
            came = self._fetch.received_from(candidate.peer) > before
            candidate.tries = 0 if came else candidate.tries + 1
            candidate.error = error
            candidate.next_at = time.monotonic() + RETRY_S[min(candidate.tries, len(RETRY_S) - 1)]
            if isinstance(error, NotFound | AccessDenied) or (
                isinstance(error, PeerError) and error.close_code in FATAL_CODES
            ):
                candidate.refused = error
                if isinstance(error, PeerError):
                    self.dropped[candidate.peer] = str(error)
            elif connection is not None and not candidate.is_hint and len(self._fetch.links) == 0:
                connection.close(CloseCode.TIMEOUT, "trying again")
        except ShareMoved as moved:  # of a hint nothing is believed
            self._moved = moved if not candidate.is_hint else self._moved
            candidate.refused = candidate.error = moved
        except CoterieError as error:
            candidate.refused = candidate.error = error
        finally:
            candidate.task = None
            self._changed.set()
