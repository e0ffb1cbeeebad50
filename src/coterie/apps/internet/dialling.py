"""The exit's way out: names looked up once, addresses judged, the first that answers taken (RFC 8305).

What was judged is what is connected to: nothing is looked up between the two.
"""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from coterie.apps.internet.addresses import IP, Place, inner
from coterie.apps.internet.hosts import read_host
from coterie.apps.internet.rules import Rules, may_connect, not_there
from coterie.errors import CoterieError, LimitExceeded
from coterie.texts import tr

LOOK_UP_S = 6.0  # guess: resolvers ask twice within five seconds
DIAL_S = 10.0  # for all addresses together; below what the asker waits for an answer
DELAY_S = 0.25  # before the next address is tried, too: RFC 8305, 8
ADDRESSES_MAX = 8  # of one name that are tried
LOOKING_UP_MAX = 32  # names at once, each in a thread
WAITING_MAX = 1_000  # names that wait for one; then askers are told so
KEPT_S = 10.0  # guess: a page asks for the same name many times at once
KEPT_MAX = 1_000

Resolve = Callable[[str], Sequence[str]]
"""The addresses of a name; blocks. Raises `OSError`."""


class NotReached(CoterieError):
    """`why` as in `Refused`."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


def system_resolve(name: str) -> list[str]:
    """As this computer looks names up, without the domains that it adds to short ones."""
    found = socket.getaddrinfo(name + ".", None, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


class Names:
    """Looks names up, each once at a time."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        """`resolve`: as this computer does, where none is given."""
        self._resolve = resolve
        self._threads: ThreadPoolExecutor | None = None
        self._found: OrderedDict[str, tuple[float, list[IP]]] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[list[IP]]] = {}

    async def find(self, name: str) -> list[IP]:
        """The addresses of `name`.

        Raises:
            NotReached: there are none, or the answer takes longer than LOOK_UP_S.
            LimitExceeded: WAITING_MAX names wait already.
        """
        loop = asyncio.get_running_loop()
        known = self._found.get(name)
        if known is not None and loop.time() < known[0]:
            return known[1]
        asked = self._under_way.get(name)
        if asked is None:
            if len(self._under_way) >= WAITING_MAX:
                raise LimitExceeded(tr("too many names are being looked up at the exit"))
            self._threads = self._threads or ThreadPoolExecutor(LOOKING_UP_MAX, "coterie-names")
            asked = self._under_way[name] = asyncio.ensure_future(
                loop.run_in_executor(self._threads, self._look_up, name)
            )
            asked.add_done_callback(lambda done: self._keep(name, done))
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise NotReached("name", tr("no name server answers the exit")) from None
        except OSError:
            raise NotReached("name", tr("the exit finds no such name")) from None

    def close(self) -> None:
        """Look nothing up any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, name: str) -> list[IP]:
        found: dict[IP, None] = {}
        for text in (self._resolve or system_resolve)(name):
            with suppress(ValueError):
                found[ipaddress.ip_address(text)] = None
        return list(found)

    def _keep(self, name: str, done: "asyncio.Future[list[IP]]") -> None:
        del self._under_way[name]
        if done.cancelled() or done.exception() is not None:
            return
        self._found[name] = asyncio.get_running_loop().time() + KEPT_S, done.result()
        self._found.move_to_end(name)
        if len(self._found) > KEPT_MAX:
            self._found.popitem(last=False)


class Dialling:
    """Connects to what the rules of a share let be reached."""

    def __init__(self, names: Names, place: Callable[[], Awaitable[Place]]) -> None:
        """`place`: where this computer is now."""
        self._names = names
        self._place = place

    async def addresses(self, rules: Rules, host: str, port: int) -> list[IP]:
        """Addresses of `host` that may be connected to, at least one, in the order in which they are to be tried.

        Raises:
            AccessDenied: it is not to be reached, or nothing of what was found is.
            NotReached, LimitExceeded: as `Names.find`.
        """
        asked = read_host(host)
        is_opened = rules.opens(asked, port)
        found = await self._names.find(asked) if isinstance(asked, str) else [asked]
        if not found:
            raise NotReached("name", tr("the exit finds no such name"))
        place = await self._place()
        allowed = [inner(ip) for ip in found if may_connect(ip, place, is_opened=is_opened)]
        if not allowed:
            raise not_there()
        return _by_turns(allowed)[:ADDRESSES_MAX]

    async def is_open(self, rules: Rules, name: str, found: Sequence[str]) -> bool:
        """Whether `name` may be asked for, and every address that was found for it be connected to."""
        try:
            is_opened = rules.opens(read_host(name), 0)
        except CoterieError:
            return False
        place = await self._place()
        return all(may_connect(ipaddress.ip_address(text), place, is_opened=is_opened) for text in found)

    async def connect(self, rules: Rules, host: str, port: int) -> socket.socket:
        """A TCP connection, not blocking. Errors as `addresses`."""
        found = await self.addresses(rules, host, port)
        async with _Race() as race:
            return await race.first(found, port)


class _Race:
    """Attempts to connect, of which the first that succeeds is taken and the others are given up."""

    def __init__(self) -> None:
        self._attempts: set[asyncio.Task[socket.socket]] = set()
        self._error: OSError | None = None

    async def __aenter__(self) -> "_Race":
        return self

    async def __aexit__(self, *_: object) -> None:
        for attempt in self._attempts:
            attempt.cancel()
        for done in await asyncio.gather(*self._attempts, return_exceptions=True):
            if isinstance(done, socket.socket):
                done.close()

    async def first(self, found: Sequence[IP], port: int) -> socket.socket:
        """Raises `NotReached`."""
        try:
            async with asyncio.timeout(DIAL_S):
                for at, ip in enumerate(found):
                    self._attempts.add(asyncio.ensure_future(connected(ip, port)))
                    taken = await self._wait(DELAY_S if at + 1 < len(found) else None)
                    if taken is not None:
                        return taken
        except TimeoutError:
            raise NotReached("silent", tr("nothing answers the exit there")) from None
        if isinstance(self._error, ConnectionRefusedError):
            raise NotReached("closed", tr("that port is closed"))
        raise NotReached("unreachable", tr("the exit finds no way there"))

    async def _wait(self, wait_s: float | None) -> socket.socket | None:
        """The first success within `wait_s`, or until all have failed."""
        loop = asyncio.get_running_loop()
        until = None if wait_s is None else loop.time() + wait_s
        while self._attempts:
            left_s = None if until is None else max(0.0, until - loop.time())
            done, _ = await asyncio.wait(self._attempts, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return None
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    self._attempts.discard(attempt)
                    return attempt.result()
                self._attempts.discard(attempt)
                if not isinstance(error, OSError):
                    raise error
                self._error = error
        return None


async def connected(ip: IP, port: int) -> socket.socket:
    """Raises `OSError`."""
    made = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, (str(ip), port))
    except BaseException:
        made.close()
        raise
    return made


def _by_turns(found: Sequence[IP]) -> list[IP]:
    """IPv6 and IPv4 by turns, IPv6 first: RFC 8305, 4."""
    six, four = [ip for ip in found if ip.version == 6], [ip for ip in found if ip.version == 4]
    mixed = [ip for both in zip(six, four, strict=False) for ip in both]
    return mixed + six[len(four) :] + four[len(six) :]
