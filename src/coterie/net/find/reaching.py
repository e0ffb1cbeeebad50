"""Reaching a peer: all its known addresses at once, while every resolver looks for further ones."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from coterie.errors import CoterieError, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net.ahead import Ahead
from coterie.net.connection import Connection
from coterie.net.dialable import Source
from coterie.net.endpoint import Endpoint
from coterie.net.find.address_book import AddressBook
from coterie.net.find.outside import unreached
from coterie.net.find.resolver import LINK_NAME, Found, Resolver
from coterie.texts import tr
from coterie.wire.knock import Right

SEEK_S = 7.0  # an offline peer is reported within 10 s of a cold start; a dial alone takes at most 6 s
KNOCK_AFTER_S = 2.0  # guess: who can be reached without a knock mostly has been by then
KNOCK_LOOK_S = 0.25  # how often it is seen whether a resolver has brought a record
DIAL_AGAIN_S = 1.0  # guess: while we knock; our router forgets who was called after 30 s


class KnocksFor(Protocol):
    """Who asks a peer to dial back (`coterie.knocking`)."""

    def wait_s(self, listens_s: int) -> float:
        """How long it takes at most with a peer that looks for knocks every `listens_s`; 0: it cannot be done."""
        ...

    async def knock(
        self, peer: PeerId, wait_s: float, right: Right | None, told: Callable[[Sequence[str]], None]
    ) -> str:
        """Ask `peer` for `wait_s`; what came of it, for people. `told` gets addresses that it answers from."""
        ...


class Seek:
    """One attempt to reach `peer`. `run` gives the connection, or an error that says all that was tried."""

    def __init__(
        self,
        endpoint: Endpoint,
        book: AddressBook,
        *,
        resolvers: Sequence[Resolver],
        found: Callable[[Resolver], Found],
        clock: Callable[[], float],
        ready: asyncio.Event | None = None,
        knocks: KnocksFor | None = None,
        right: Right | None = None,
    ) -> None:
        """`found(resolver)` takes what that resolver brings, once all are `ready`; `clock` gives unix seconds.

        `knocks`: asks a peer that listens for it to dial back, who has `right` to be asked by us.
        """
        self._endpoint = endpoint
        self._book = book
        self._resolvers = resolvers
        self._found = found
        self._ready = ready
        self._clock = clock
        self._knocks = knocks
        self._right = right
        self._ahead: Ahead | None = None
        self._knocked = ""
        self._is_listed = False
        self._limit: asyncio.Timeout | None = None
        self._own: Sequence[str] = ()
        self._refused: dict[str, str] = {}
        self._outcome: dict[str, str] = {}
        self._tried: dict[str, None] = {}
        self._news = asyncio.Event()

    async def run(
        self,
        peer: PeerId,
        hints: Sequence[str],
        own: Sequence[str] = (),
        *,
        ahead: Ahead | None = None,
    ) -> Connection:
        """The connection to `peer`. `hints` are the words of others, `own` those of this node's owner.

        `ahead` as for `Endpoint.connect`.

        Raises:
            TransportError: it was not reached within `SEEK_S`, or while it is knocked for; who was has longer, if the
                path is long.
            PeerError, LimitExceeded, UsageError: as `Endpoint.connect`.
        """
        self._own, self._ahead = own, ahead
        hints = [*own, *hints]
        self._limit = limit = asyncio.timeout(SEEK_S)
        searches: list[asyncio.Future[None]] = []
        racing = asyncio.ensure_future(
            self._race(peer, hints, searches)
        )  # first: what is known is dialled at once
        searches += [asyncio.ensure_future(self._search(resolver, peer)) for resolver in self._resolvers]
        if self._knocks is not None:
            searches.append(asyncio.ensure_future(self._knock(self._knocks, peer, hints, tuple(searches))))
        try:
            with contextlib.suppress(TimeoutError):
                async with limit:
                    return await asyncio.shield(racing)
            if self._endpoint.has_reached(peer):  # over a long path: the dial has a limit of its own
                await _cancel(searches)
                return await racing
            waited = "while it was knocked for" if self._knocked else f"within {SEEK_S:g} s"
            tried = ", ".join(self._tried) or "nothing"
            raise TransportError(
                tr(
                    "{short} did not answer {waited} (tried {tried})",
                    short=peer.short,
                    waited=waited,
                    tried=tried,
                )
            )
        except TransportError as error:
            raise self._failure(peer, hints, error) from None
        finally:
            await _cancel([racing, *searches])

    async def _race(
        self, peer: PeerId, hints: list[str], searches: "Sequence[asyncio.Future[None]]"
    ) -> Connection:
        """Dial what is known; dial again, or extend the dial under way, when a search brings more.

        While we knock, dial again and again: the peer gets in only while our router remembers that we called it.
        """
        dials: list[asyncio.Future[Connection]] = []
        error: CoterieError | None = None
        try:
            while True:
                if self._has_new_addresses(peer, hints):
                    dials.append(asyncio.ensure_future(self._dial(peer)))
                running = [search for search in searches if not search.done()]
                if running and not dials and self._knocked:
                    dials.append(asyncio.ensure_future(self._dial_again(peer)))
                if not dials and not running:
                    if error is not None:
                        raise error
                    return await self._dial(peer)
                await self._wait([*dials, *running])
                for dial in [d for d in dials if d.done()]:
                    dials.remove(dial)
                    try:
                        return dial.result()
                    except TransportError as failure:
                        error = failure
        finally:
            await _cancel(dials)

    def _dial(self, peer: PeerId) -> Coroutine[Any, Any, Connection]:
        """What is in `_tried` has passed `places`, which knows where each address came from."""
        return self._endpoint.connect(peer, tuple(self._tried), source=Source.OWN, ahead=self._ahead)

    async def _dial_again(self, peer: PeerId) -> Connection:
        await asyncio.sleep(DIAL_AGAIN_S)
        return await self._dial(peer)

    async def _knock(
        self,
        knocks: KnocksFor,
        peer: PeerId,
        hints: list[str],
        searches: "Sequence[asyncio.Future[None]]",
    ) -> None:
        """Ask `peer` to dial back, once a resolver has brought its record, and the record says that it listens."""
        await asyncio.sleep(KNOCK_AFTER_S)
        while not (wait_s := self._listed_wait_s(knocks, peer)):  # a first record may be an old one
            if all(search.done() for search in searches):
                return
            await asyncio.sleep(KNOCK_LOOK_S)

        def told(addresses: Sequence[str]) -> None:
            hints.extend(a for a in addresses if a not in hints)
            self._news.set()

        self._knocked = "is being knocked for"
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + wait_s + SEEK_S)
        self._news.set()
        self._knocked = await knocks.knock(peer, wait_s, self._right, told)

    def _listed_wait_s(self, knocks: KnocksFor, peer: PeerId) -> float:
        """How long to knock for a peer whose record somebody holds now; 0: it does not listen, by all that is known."""
        record = self._book.record(peer, self._clock()) if self._is_listed else None
        return knocks.wait_s(record.listens_s) if record is not None else 0.0

    async def _wait(self, work: "Sequence[asyncio.Future[Connection] | asyncio.Future[None]]") -> None:
        """Until some of `work` is done or there is news."""
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait([*work, news], return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        self._news.clear()

    def _has_new_addresses(self, peer: PeerId, hints: Sequence[str]) -> bool:
        candidates, self._refused = places(
            self._endpoint, self._book, peer, now=self._clock(), hints=hints, own=self._own
        )
        new = [address for address in candidates if address not in self._tried]
        self._tried |= dict.fromkeys(new)
        return bool(new)

    async def _search(self, resolver: Resolver, peer: PeerId) -> None:
        """Feed the book with what `resolver` knows of `peer`."""
        take = self._found(resolver)
        self._outcome[resolver.name] = "no answer yet"
        said = "not found"
        try:
            if self._ready is not None:
                await self._ready.wait()
            async for raw in resolver.resolve(peer):
                is_its = take(raw) == peer
                self._is_listed |= is_its
                if is_its and said != "found":
                    candidates = self._book.candidates(peer, self._clock())
                    said = "nothing new" if all(a in self._tried for a in candidates) else "found"
                self._news.set()
            self._outcome[resolver.name] = said
        except (TransportError, PeerError, OSError) as error:
            self._outcome[resolver.name] = str(error)

    def _failure(self, peer: PeerId, hints: Sequence[str], error: TransportError) -> TransportError:
        """`error` with what the resolvers said."""
        self._book.note_failure(peer, self._tried, self._clock())
        asked = ", ".join(f"{name} ({outcome})" for name, outcome in self._outcome.items())
        refused = ", ".join(f"{address} ({why})" for address, why in self._refused.items())
        told = f" Not dialled: {refused}." if refused else ""
        knocked = f"It {self._knocked}." if self._knocked else ""
        told_so = knocked or unreached(list(self._tried))
        parts = [f"{error}{told}", told_so, f"Also asked: {asked}" if asked else ""]
        return TransportError(" ".join(filter(None, parts)))


def places(
    endpoint: Endpoint,
    book: AddressBook,
    peer: PeerId,
    *,
    now: float,
    hints: Sequence[str] = (),
    own: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """Where `peer` is dialled, best first, and what is not dialled, with the reason.

    `now` in unix seconds; `own` as in `Seek.run`.
    """
    entry = book.entry(peer)
    heard = Source.LINK if entry is not None and entry.source == LINK_NAME else Source.OTHERS
    proven = entry.tried if entry is not None else {}
    listed = entry.record.addresses if entry is not None and entry.record is not None else ()
    chosen, refused = [], {}
    for address in book.candidates(peer, now, hints):
        source = heard if address in listed else Source.OTHERS
        if address in own:
            source = Source.OWN
        elif address in proven:
            source = Source.PROVEN
        if why := endpoint.dialling.refusal(address, source):
            refused[address] = why
        else:
            chosen.append(address)
    return chosen, refused


async def _cancel(work: "Sequence[asyncio.Future[Connection] | asyncio.Future[None]]") -> None:
    for future in work:
        future.cancel()
    if work:
        await asyncio.gather(*work, return_exceptions=True)
