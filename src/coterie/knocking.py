"""Knocking, and hearing knocks, by the mainline DHT: what `net.find.knocks` decides is read, hung and dialled here."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from coterie.driver import Driver
from coterie.errors import CoterieError
from coterie.identity import PeerId, SecretKey
from coterie.machine import Emit
from coterie.net.find.knocks import (
    JITTER,
    QUIET_S,
    Answered,
    BellRead,
    Heard,
    Knocking,
    KnockingOver,
    Knocks,
    Listen,
    NotKnocked,
    ReadBell,
    Stirred,
    Surroundings,
    WriteBell,
)
from coterie.quantity import count
from coterie.tasks import Tasks
from coterie.wire.knock import Bell, KnockKeys, Right

LISTENS_S = int(QUIET_S * (1 + JITTER))  # what our record says: the longest pause between two looks
SEARCHES_S = 30.0  # measured: with dead nodes about it takes 15 s until a knock hangs; and to find it
BRIEF_S = 3.0  # guess: what hangs at a bell is found in 1 to 3 s; that nothing does, after 15
WAIT_MAX_S = 120.0  # whatever a record says
ANSWERS_MAX = 8  # of one peer, waiting to be told: one is normal
ANSWERED_S = 15.0  # guess: who answered dials for 7 s, perhaps twice

log = logging.getLogger(__name__)


class BellTable(Protocol):
    """What of `MainlineResolver` is used."""

    @property
    def is_ready(self) -> bool:
        """Whether its nodes answer."""
        ...

    def read(self, key: bytes) -> AsyncGenerator[bytes, None]:
        """What hangs under a public key, the newest last; ends soon."""
        ...

    def write(self, key: SecretKey, value: bytes) -> None:
        """Hang something there."""
        ...


class Knocker:
    """Made by the node at the level `internet`, inside its event loop; see `net.find.reaching.KnocksFor`.

    Args:
        dial: dials a peer that knocked, from these addresses (the words of others); raises `CoterieError`.
        clock: unix seconds.
    """

    def __init__(
        self,
        key: SecretKey,
        table: BellTable,
        around: Surroundings,
        *,
        dial: Callable[[PeerId, Sequence[str]], Awaitable[object]],
        tasks: Tasks,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._dial = dial
        self._tasks = tasks
        self._core = Knocks(KnockKeys(key), around, random.SystemRandom())
        self._waiting: dict[PeerId, list[asyncio.Queue[Answered | NotKnocked]]] = {}
        self._driver = Driver(
            self._core,
            send=lambda peer, message: None,
            on_output={
                ReadBell: self._look,
                WriteBell: lambda o: self._table.write(SecretKey(o.bell.seed), o.item),
                Emit: self._emitted,
            },
            clock=clock,
        )
        self._tasks.start(self._driver.wait_closed(), "knocking")

    async def close(self) -> None:
        """Look and knock no more."""
        self._driver.close()
        await self._tasks.close()

    # ---- listening

    @property
    def is_listening(self) -> bool:
        """Whether who knocks is heard."""
        return self._core.is_listening

    def listen(self, on: bool) -> None:
        """Look at our door from now on, or no more; not while the DHT cannot be reached."""
        self._driver.feed(Listen(on and self._table.is_ready))

    def stir(self) -> None:
        """People are about: look more often for a while."""
        self._driver.feed(Stirred())

    def describe(self) -> str:
        """For people; empty when nothing is done and nothing happened."""
        counts = self._core.counts
        if not self.is_listening:
            return ""
        said = f"hears who knocks within {LISTENS_S} s ({count(counts.looks, 'look')}, {counts.heard} heard"
        said += f", {counts.refused} refused" if counts.refused else ""
        return said + (f", the door was full {count(counts.jammed, 'time')})" if counts.jammed else ")")

    # ---- knocking

    def wait_s(self, listens_s: int) -> float:
        """How long knocking takes at most with who looks every `listens_s` (0: never); 0: we cannot, or need not."""
        return min(WAIT_MAX_S, listens_s + SEARCHES_S) if listens_s and self._table.is_ready else 0.0

    async def knock(
        self, peer: PeerId, wait_s: float, right: Right | None, told: Callable[[Sequence[str]], None]
    ) -> str:
        """Knock for `peer` for `wait_s`; what came of it, for people. `told` gets addresses that it answers from."""
        loop = asyncio.get_running_loop()
        end, said = (
            loop.time() + wait_s,
            f"did not answer a knock in the DHT within {wait_s:g} s: most likely it is off",
        )
        queue: asyncio.Queue[Answered | NotKnocked] = asyncio.Queue(ANSWERS_MAX)
        self._waiting.setdefault(peer, []).append(queue)
        self._driver.feed(Knocking(peer, right))
        try:
            async with asyncio.timeout_at(end) as limit:
                while True:
                    answer = await queue.get()
                    if isinstance(answer, NotKnocked):
                        return f"was not asked to dial back: {answer.why}"
                    said = (
                        "heard our knock in the DHT and dialled back, and neither got through: it takes a router that "
                        "keeps ports on one side at least"
                    )
                    told(answer.addresses)
                    limit.reschedule(min(end, loop.time()) + ANSWERED_S)
        except TimeoutError:
            return said
        finally:
            self._waiting[peer].remove(queue)
            if not self._waiting[peer]:
                del self._waiting[peer]
            self._driver.feed(KnockingOver(peer))

    # ---- what the machine asks for

    def _look(self, output: ReadBell) -> None:
        self._tasks.start(self._read(output.bell, BRIEF_S if output.is_brief else None), "looking for knocks")

    async def _read(self, bell: Bell, most_s: float | None) -> None:
        newest = b""
        try:
            async with asyncio.timeout(most_s), aclosing(self._table.read(bell.key)) as found:
                async for newest in found:
                    self._driver.feed(BellRead(bell, newest, False))
        except TimeoutError:
            pass  # what was found until now will do
        finally:
            self._driver.feed(BellRead(bell, newest, True))

    def _emitted(self, output: Emit) -> None:
        match output.event:
            case Heard(peer, addresses):
                self._tasks.start(self._dial_back(peer, addresses), "dialling who knocked")
            case Answered(peer, _) | NotKnocked(peer, _) as event:
                for queue in self._waiting.get(peer, ()):
                    if not queue.full():  # one is enough
                        queue.put_nowait(event)

    async def _dial_back(self, peer: PeerId, addresses: Sequence[str]) -> None:
        try:
            await self._dial(peer, addresses)
        except CoterieError as error:
            log.debug("%s knocked, and was not reached: %s", peer.short, error)
