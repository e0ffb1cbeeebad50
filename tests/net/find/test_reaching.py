"""Reaching a peer: everything known at once, resolvers beside it, one bound, and an error that tells all."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from coterie.errors import TransportError
from coterie.identity import PeerId
from coterie.net import Endpoint
from coterie.net.find.address_book import AddressBook
from coterie.net.find.reaching import SEEK_S, Seek
from coterie.net.find.resolver import Found, Resolver
from coterie.wire.record import PeerRecord, RecordRefused
from tests.net.conftest import Lab

NOW = time.time()


class Oracle:
    """A resolver that answers what it was given, each after so many seconds."""

    is_public = False

    def __init__(
        self, name: str, *answers: tuple[float, bytes], fails: str = "", hangs: bool = False
    ) -> None:
        self.name = name
        self._answers = answers
        self._fails = fails
        self._hangs = hangs

    async def start(self, found: Found) -> None: ...

    async def publish(self, record: bytes) -> None: ...

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        for after_s, raw in self._answers:
            await asyncio.sleep(after_s)
            yield raw
        if self._hangs:
            await asyncio.Event().wait()
        if self._fails:
            raise TransportError(self._fails)

    async def close(self) -> None: ...


class Scene:
    """A node that looks for peer 2 of a memory network."""

    def __init__(self, lab: Lab, endpoint: Endpoint, *resolvers: Resolver) -> None:
        self.book = AddressBook(endpoint.peer_id)
        self._endpoint = endpoint
        self._resolvers = resolvers
        self._peer = lab.peer(2)

    def seek(self, knocks: "Knocker | None" = None) -> Seek:
        return Seek(
            self._endpoint,
            self.book,
            resolvers=self._resolvers,
            found=lambda resolver: self.take,
            clock=lambda: NOW,
            knocks=knocks,
        )

    def take(self, raw: bytes) -> PeerId | None:
        try:
            self.book.learn(raw, NOW, "oracle")
        except RecordRefused:
            return None
        return PeerId(raw[1:33])

    async def run(self, *hints: str) -> tuple[float, PeerId]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = await self.seek().run(self._peer, hints)
        return loop.time() - began, connection.peer

    async def fail(self, *hints: str) -> tuple[float, str]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TransportError) as raised:
            await self.seek().run(self._peer, hints)
        return loop.time() - began, str(raised.value)


class Knocker:
    """Knocks for `wait_s`; then `rung` is called, or nobody answers."""

    def __init__(self, wait_s: float, rung: Callable[[], Awaitable[None]] | None = None) -> None:
        self._wait_s = wait_s
        self._rung = rung
        self.knocked = 0
        self.ended = 0

    def wait_s(self, listens_s: int) -> float:
        return self._wait_s if listens_s else 0.0

    async def knock(self, peer: PeerId, wait_s: float, right: object, told: Callable[..., None]) -> str:
        self.knocked += 1
        try:
            if self._rung is not None:
                await self._rung()
            await asyncio.sleep(wait_s)
            return "did not answer a knock"
        finally:
            self.ended += 1


def record(lab: Lab, number: int, *addresses: str, sequence: int = 1, listens_s: int = 0) -> bytes:
    return PeerRecord(
        peer=lab.peer(number),
        sequence=sequence,
        issued=int(NOW),
        expires=int(NOW) + 60,
        addresses=addresses,
        listens_s=listens_s,
    ).sign(lab.key(number))


async def quic_pair(lab: Lab) -> tuple[Endpoint, Endpoint]:
    return await lab.endpoint(1), await lab.endpoint(2)


def test_a_stale_hint_does_not_matter_when_a_resolver_knows_better(quic: Lab) -> None:
    async def scene() -> None:
        a, b = await quic_pair(quic)
        oracle = Oracle("oracle", (0.1, record(quic, 2, *b.addresses)), hangs=True)
        took_s, peer = await Scene(quic, a, oracle).run("127.0.0.1:9")
        assert peer == b.peer_id
        assert took_s < 2
        await a.close()
        await b.close()

    quic.run(scene())


def test_a_resolver_alone_is_enough(quic: Lab) -> None:
    async def scene() -> None:
        a, b = await quic_pair(quic)
        forged = record(quic, 2, *b.addresses)[:-1] + b"x"
        oracle = Oracle("oracle", (0, forged), (0.1, record(quic, 2, *b.addresses)))
        assert (await Scene(quic, a, oracle).run())[1] == b.peer_id
        await a.close()
        await b.close()

    quic.run(scene())


def test_a_resolver_that_hangs_or_fails_does_not_hold_up_what_is_known(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            hanging, failing = Oracle("one", hangs=True), Oracle("two", fails="broken")
            assert (await Scene(memory, a, hanging, failing).run(*b.addresses))[0] < 0.1

    memory.run(scene())


def test_the_error_says_what_was_tried_and_who_was_asked(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        others = Oracle("other network", (1, record(memory, 3, "192.0.2.1:1")))
        took_s, text = await Scene(memory, a, others, Oracle("directory", fails="no answer")).fail("memory:9")
        assert text.startswith(f"{memory.peer(2).short} is not at memory:9")
        assert text.endswith("Also asked: other network (not found), directory (no answer)")
        assert took_s == pytest.approx(1)
        await a.close()

    memory.run(scene())


def test_the_error_for_an_address_inside_a_home_says_what_would_help_on_either_side(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        _, text = await Scene(memory, a, Oracle("directory")).fail("192.168.1.7:4433")
        assert "tried 192.168.1.7:4433" in text
        assert "inside a home" in text
        assert "`coterie doctor` on that computer" in text
        assert "On this side a contact whom both know" in text
        await a.close()

    memory.run(scene())


def test_all_ends_within_the_bound(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        took_s, text = await Scene(memory, a, Oracle("slow", hangs=True)).fail("memory:9")
        assert took_s == pytest.approx(SEEK_S)
        assert "did not answer within 7 s (tried memory:9)" in text
        assert "slow (no answer yet)" in text
        await a.close()

    memory.run(scene())


def test_nothing_known_and_nobody_to_ask(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        _, text = await Scene(memory, a).fail()
        assert "no address is known" in text
        await a.close()

    memory.run(scene())


def test_addresses_that_fail_again_and_again_are_forgotten(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        looking = Scene(memory, a)
        looking.book.note_success(memory.peer(2), "memory:8", NOW)
        for _ in range(3):
            assert "memory:8" in (await looking.fail())[1]
        assert looking.book.candidates(memory.peer(2), NOW) == []
        await a.close()

    memory.run(scene())


# ---- knocking


def test_who_listens_is_knocked_for_until_it_dials_back(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):

            async def rung() -> None:
                await asyncio.sleep(30)
                await b.connect(a.peer_id, a.addresses)

            knocker = Knocker(60.0, rung)
            listed = Oracle("directory", (0.1, record(memory, 2, "203.0.113.9:9", listens_s=60)))
            began = asyncio.get_running_loop().time()
            connection = await Scene(memory, a, listed).seek(knocker).run(b.peer_id, [])
            assert connection.peer == b.peer_id
            assert 30 < asyncio.get_running_loop().time() - began < 35
            assert (knocker.knocked, knocker.ended) == (1, 1)

    memory.run(scene())


def test_a_knock_that_nobody_answers_ends_in_its_time_and_the_error_says_so(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        knocker = Knocker(60.0)
        old = record(memory, 2, "203.0.113.9:9")  # a directory may hold an older record first
        new = record(memory, 2, "203.0.113.9:9", sequence=2, listens_s=60)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TransportError, match="It did not answer a knock") as raised:
            await (
                Scene(memory, a, Oracle("directory", (0.1, old), (2.5, new)))
                .seek(knocker)
                .run(memory.peer(2), [])
            )
        assert 60 < asyncio.get_running_loop().time() - began < 60 + 2 * SEEK_S
        assert "directory (found)" in str(raised.value)
        assert knocker.ended == 1
        await a.close()

    memory.run(scene())


@pytest.mark.parametrize("listens_s", [0, 60])
def test_who_does_not_listen_or_is_found_nowhere_now_is_not_knocked_for(memory: Lab, listens_s: int) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        knocker, raw = Knocker(60.0), record(memory, 2, "203.0.113.9:9", listens_s=listens_s)
        listed = Oracle("directory", *([] if listens_s else [(0.1, raw)]))
        looking = Scene(memory, a, listed)
        looking.take(raw)  # of a time before
        began = asyncio.get_running_loop().time()
        with pytest.raises(TransportError):
            await looking.seek(knocker).run(memory.peer(2), [])
        assert asyncio.get_running_loop().time() - began <= SEEK_S
        assert knocker.knocked == 0
        await a.close()

    memory.run(scene())
