"""The resolver of the mainline DHT with a made-up session, in virtual time: what it puts, asks, and gives up."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from coterie.errors import TransportError
from coterie.identity import PeerId, SecretKey
from coterie.net.find import mainline
from coterie.net.find.mainline import (
    LOOKUPS_MAX,
    PUBLIC_ROUTERS,
    PUT_EVERY_S,
    REPUBLISH_S,
    RESOLVE_S,
    RETRY_MAX_S,
    SETTLE_S,
    MainlineResolver,
)
from coterie.net.find.mainline_session import (
    STATE_BYTES_MAX,
    Event,
    Item,
    SessionOptions,
    Stored,
    Table,
    Trouble,
)
from coterie.wire.record import PeerRecord
from tests.support import run_virtual

EXPIRE_S = 2 * 3600.0  # BEP 44: what the nodes of the DHT forget after
NOW = 1_700_000_000
HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In virtual time a thread would be left behind: what goes into one is called at once."""

    async def directly(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", directly)


class Dht:
    """All that the made-up sessions share: what is stored, how the DHT behaves, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[PeerId, list[tuple[float, bytes, bool]]] = {}
        self.nodes = 40
        self.takes = 8
        self.answer_s = 0.1
        self.puts: list[tuple[float, bytes]] = []
        self.gets: list[tuple[float, PeerId]] = []
        self.opened: list[tuple[float, SessionOptions]] = []
        self.open_now = 0
        self.refusal = ""

    def open(self, key: SecretKey, options: SessionOptions, tell: Callable[[Event], None]) -> "Session":
        self.opened.append((asyncio.get_running_loop().time(), options))
        if self.refusal:
            raise TransportError(self.refusal)
        self.open_now += 1
        return Session(self, tell)


class Session:
    def __init__(self, dht: Dht, tell: Callable[[Event], None]) -> None:
        self._dht, self._tell = dht, tell
        self._loop = asyncio.get_running_loop()

    def get(self, peer: PeerId) -> None:
        self._dht.gets.append((self._loop.time(), peer))
        for after_s, value, is_last in self._dht.answers.get(peer, [(self._dht.answer_s, b"", True)]):
            self._loop.call_later(after_s, self._tell, Item(peer, value, is_last))

    def put(self, record: bytes) -> None:
        self._dht.puts.append((self._loop.time(), record))
        self._loop.call_later(self._dht.answer_s, self._tell, Stored(self._dht.takes))

    def count(self) -> None:
        self._loop.call_soon(self._tell, Table(self._dht.nodes))
        if not self._dht.nodes:
            self._loop.call_soon(self._tell, Trouble("no such host"))

    def save(self) -> bytes:
        return b"what is known"

    def close(self) -> None:
        self._dht.open_now -= 1


KEY = SecretKey(secrets.token_bytes(32))
OTHER = SecretKey(secrets.token_bytes(32))


def record(key: SecretKey = KEY, sequence: int = 1, lifetime_s: int = 86_400) -> bytes:
    made = PeerRecord(
        peer=key.peer_id,
        sequence=sequence,
        issued=NOW,
        expires=NOW + lifetime_s,
        addresses=("192.0.2.1:4433",),
    )
    return made.sign(key)


def resolver(dht: Dht, **options: Any) -> MainlineResolver:
    def clock() -> float:
        return NOW + asyncio.get_running_loop().time()

    return MainlineResolver(KEY, open_session=dht.open, clock=clock, **options)


def play(scene: Callable[[Dht, MainlineResolver], Any], dht: Dht | None = None, **options: Any) -> Dht:
    """Run `scene` with a started resolver."""
    made = dht or Dht()

    async def whole() -> None:
        one = resolver(made, **options)
        await one.start(lambda raw: None)
        try:
            await scene(made, one)
        finally:
            await one.close()

    run_virtual(whole())
    assert made.open_now == 0, "a session was left open"
    return made


async def all_of(one: MainlineResolver, peer: PeerId) -> list[bytes]:
    return [raw async for raw in one.resolve(peer)]


# ---- publishing


def test_a_record_is_stored_and_stored_again_before_it_is_forgotten() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await one.publish(record())
        await asyncio.sleep(12 * HOUR_S)

    puts = play(scene).puts
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(puts)]
    assert max(gaps) < EXPIRE_S / 2, "one failed attempt does no harm"
    assert min(gaps) >= REPUBLISH_S
    assert {raw for _, raw in puts} == {record()}


def test_a_new_record_is_stored_soon_and_a_flood_of_them_rarely() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        for sequence in range(1, 601):
            await one.publish(record(sequence=sequence))
            await asyncio.sleep(0.1)
        await asyncio.sleep(PUT_EVERY_S + 1)
        assert dht.puts[-1][1] == record(sequence=600)

    assert len(play(scene).puts) <= 60 / PUT_EVERY_S + 2


def test_the_same_record_again_is_nothing_new() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        for _ in range(10):
            await one.publish(record())
            await asyncio.sleep(60)

    assert len(play(scene).puts) == 1


def test_what_few_nodes_took_is_stored_again_soon_but_less_and_less_often() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.takes = 3
        await one.publish(record())
        await asyncio.sleep(HOUR_S)

    assert 4 <= len(play(scene).puts) <= 7


def test_a_put_that_reaches_nobody_is_tried_again_at_most_once_a_minute_in_the_end() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.takes = 0
        await one.publish(record())
        await asyncio.sleep(HOUR_S)
        assert "took our record" in one.problem
        assert one.stored_on == 0
        dht.takes = 8
        await asyncio.sleep(RETRY_MAX_S + 1)
        assert one.problem == ""
        assert one.stored_on == 8

    puts = play(scene).puts
    assert 55 <= len(puts) <= 70
    assert puts[1][0] - puts[0][0] < 10


def test_an_expired_record_is_not_stored_again() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await one.publish(record(lifetime_s=3 * 3600))
        await asyncio.sleep(24 * HOUR_S)

    assert len(play(scene).puts) == 4


# ---- looking


def looking(answers: list[tuple[float, bytes, bool]]) -> tuple[list[bytes], float]:
    """What a search for OTHER brings, and how long it takes."""
    result: list[bytes] = []
    took = 0.0

    async def scene(dht: Dht, one: MainlineResolver) -> None:
        nonlocal result, took
        dht.answers[OTHER.peer_id] = answers
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        result = await all_of(one, OTHER.peer_id)
        took = asyncio.get_running_loop().time() - began

    play(scene)
    return result, took


def test_the_first_item_comes_at_once_and_a_newer_one_after_it() -> None:
    old, new = record(OTHER, 1), record(OTHER, 2)
    assert looking([(0.2, old, False), (0.5, new, False), (15, new, True)])[0] == [old, new]


def test_an_older_sequence_after_a_newer_one_is_not_handed_on() -> None:
    old, new = record(OTHER, 1), record(OTHER, 2)
    assert looking([(0.2, new, False), (0.3, old, False), (0.4, new, False), (0.5, old, True)])[0] == [new]


def test_nobody_waits_for_the_last_word_once_there_is_an_item() -> None:
    found, took = looking([(0.2, record(OTHER), False), (15.0, record(OTHER), True)])
    assert found == [record(OTHER)]
    assert took <= 0.2 + SETTLE_S + 0.01


def test_the_last_word_ends_the_search() -> None:
    assert looking([(0.2, record(OTHER), False), (0.3, record(OTHER), True)])[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "value",
    [
        record(KEY),
        record(OTHER)[:-1] + b"\x00",
        record(OTHER, lifetime_s=1),
        b"\x01" * 20,
        b"\x02" + record(OTHER)[1:],
        record(OTHER) + b"\x00" * 900,
    ],
    ids=["of another peer", "forged", "expired", "garbage", "of another version", "oversized"],
)
def test_what_is_no_valid_record_of_that_peer_neither_counts_nor_ends_the_search(value: bytes) -> None:
    sound = record(OTHER, 7)
    assert looking([(0.1, value, False), (0.6, sound, False), (0.7, sound, True)])[0] == [sound]
    found, took = looking([(0.1, value, True)])
    assert found == []
    assert took <= RESOLVE_S + 0.01


def test_what_nobody_has_is_asked_for_again_until_the_time_is_over() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        assert await all_of(one, OTHER.peer_id) == []
        assert asyncio.get_running_loop().time() - began <= RESOLVE_S + 0.01

    assert 3 <= len(play(scene).gets) <= 8


def test_a_search_before_the_dht_is_there_waits_for_it() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.nodes = 0
        dht.answers[OTHER.peer_id] = [(0.1, record(OTHER), True)]
        asyncio.get_running_loop().call_later(3, setattr, dht, "nodes", 5)
        assert await all_of(one, OTHER.peer_id) == [record(OTHER)]

    play(scene)


def test_so_many_searches_at_once_and_not_one_more() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await asyncio.sleep(1)
        dht.answer_s = 60.0
        peers = [PeerId(bytes([number]) * 32) for number in range(LOOKUPS_MAX + 1)]
        searches = [asyncio.ensure_future(all_of(one, peer)) for peer in peers]
        await asyncio.sleep(1)
        assert len(dht.gets) == LOOKUPS_MAX
        assert await asyncio.gather(*searches) == [[]] * len(peers)

    play(scene)


# ---- no network


def test_without_a_network_it_says_so_and_tries_once_a_minute() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.nodes = 0
        await one.publish(record())
        await asyncio.sleep(HOUR_S)
        assert "no internet" in one.problem
        assert "no such host" in one.problem
        with pytest.raises(TransportError, match="no node of the mainline DHT answers"):
            await all_of(one, OTHER.peer_id)
        dht.nodes = 5
        await asyncio.sleep(2 * RETRY_MAX_S)
        assert one.problem == ""
        assert one.stored_on == 8

    dht = play(scene)
    starts = [at for at, _ in dht.opened]
    assert min(b - a for a, b in itertools.pairwise(starts[5:])) >= RETRY_MAX_S


def test_a_dht_that_is_lost_is_looked_for_again() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await one.publish(record())
        await asyncio.sleep(1)
        dht.nodes = 0
        await asyncio.sleep(10 * 60)
        assert one.problem
        dht.nodes = 40
        await asyncio.sleep(2 * RETRY_MAX_S)
        assert one.problem == ""
        assert one.stored_on == 8

    assert len(play(scene).puts) == 2


def test_a_library_that_is_missing_is_said_and_nothing_else_suffers() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.refusal = "libtorrent is not usable here"
        await asyncio.sleep(1)
        assert one.problem == one.describe() == "libtorrent is not usable here"

    play(scene)


def test_starting_does_nothing_by_itself() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        assert not dht.opened

    play(scene)


# ---- whom it asks first


def test_the_well_known_nodes_are_asked_the_first_time() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await asyncio.sleep(1)

    assert play(scene).opened[0][1].bootstrap == PUBLIC_ROUTERS


def test_later_they_are_asked_only_when_nobody_known_answers() -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.nodes = 0
        await asyncio.sleep(60)

    first, second = (options for _, options in play(scene, state=b"nodes of yesterday").opened[:2])
    assert (list(first.bootstrap), first.state) == ([], b"nodes of yesterday")
    assert second.bootstrap == PUBLIC_ROUTERS


def test_what_is_known_is_kept_now_and_then_and_at_the_end() -> None:
    kept: list[bytes] = []

    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await asyncio.sleep(HOUR_S)
        assert 4 <= len(kept) <= 6

    play(scene, keep=kept.append)
    assert set(kept) == {b"what is known"}


def test_nothing_is_kept_of_a_session_that_knew_nobody() -> None:
    kept: list[bytes] = []

    async def scene(dht: Dht, one: MainlineResolver) -> None:
        dht.nodes = 0
        await asyncio.sleep(HOUR_S)

    play(scene, keep=kept.append)
    assert not kept


@pytest.mark.parametrize(("size", "used"), [(STATE_BYTES_MAX, True), (STATE_BYTES_MAX + 1, False)])
def test_a_state_of_absurd_size_is_not_used(size: int, used: bool) -> None:
    async def scene(dht: Dht, one: MainlineResolver) -> None:
        await asyncio.sleep(1)

    assert bool(play(scene, state=b"x" * size).opened[0][1].state) is used


def test_the_public_dht_gets_the_public_record_only() -> None:
    assert MainlineResolver(KEY).is_public
    assert not MainlineResolver(KEY, test_network=True).is_public
    assert mainline.SessionOptions().test_network is False
