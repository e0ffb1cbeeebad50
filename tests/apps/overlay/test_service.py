"""The overlay service on whole endpoints: who finds whom, who hears what, who is let in."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coterie.apps.overlay.core import Discreet
from coterie.apps.overlay.topic import NAME_BYTES_MAX, WAITING_MAX, Topic, TopicCalls, topic_id
from coterie.errors import NotFound, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Send
from coterie.overlay.kademlia.messages import Contact, Nodes
from coterie.sim.clock import run
from coterie.wire.broadcast import PAYLOAD_BYTES_MAX
from tests.apps.overlay.group import Group


def play(main: Callable[[Group], Awaitable[None]], home: Path, **options: Any) -> None:
    async def whole(random: Random) -> None:
        async with Group(random, home, **options) as group:
            await main(group)

    run(whole, seed=1, threads_inline=True)


async def providers(peer: Any, key: bytes) -> list[str]:
    return [provider.peer async for provider in peer.service.find_providers(key)]


def test_what_one_provides_others_find_and_what_it_puts_they_get(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        await asyncio.sleep(20)
        first, other, last = group.peers[0], group.peers[5], group.peers[-1]
        assert (await first.service.provide(b"a song")).holders >= 5
        assert await providers(last, b"a song") == [str(first.peer_id)]
        assert await providers(last, b"no song") == []
        plain = await first.service.put(b"immutable")
        assert (await last.service.get(bytes.fromhex(plain.key))).value == b"immutable"
        await first.service.put(b"one", salt=b"news")
        await asyncio.sleep(1)
        await first.service.put(b"two", salt=b"news")
        got = await other.service.get_of(first.peer_id, b"news")
        assert (got.value, got.publisher) == (b"two", str(first.peer_id))
        with pytest.raises(NotFound):
            await other.service.get(bytes(32))

    play(main, tmp_path, count=10)


def test_a_topic_reaches_everybody_and_ends_when_closed(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        topics = [peer.service.topic("tea") for peer in group.peers]
        await asyncio.sleep(60)
        topics[3].publish(b"ready")
        await asyncio.sleep(5)
        for topic in topics:
            topic.close()
        heard = [[message async for message in topic] for topic in topics]
        said = [(group.peers[3].peer_id, b"ready")]
        assert heard == [[] if number == 3 else said for number in range(8)]
        with pytest.raises(UsageError, match="closed"):
            topics[0].publish(b"too late")

    play(main, tmp_path, count=8)


def test_a_closed_topic_has_no_place_for_others(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        members = [peer.peer_id for peer in group.peers[:3]]
        inside = [
            p.service.topic("board", peers=members, may_join=members.__contains__) for p in group.peers[:3]
        ]
        intruder = group.peers[4].service.topic("board", peers=members)
        await asyncio.sleep(60)
        inside[0].publish(b"secret")
        intruder.publish(b"listen to me")
        await asyncio.sleep(30)
        assert intruder.neighbours == []
        for topic in (*inside, intruder):
            topic.close()
        assert [payload async for _, payload in intruder] == []
        assert [payload async for _, payload in inside[1]] == [b"secret"]

    play(main, tmp_path, count=5)


def test_searches_find_who_answers_and_can_be_left(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        for number in (2, 6):
            group.peers[number].service.answer("books", lambda query, n=number: [b"%d:" % n + query])
        await asyncio.sleep(90)
        asker = group.peers[0].service
        hits = [hit async for hit in asker.search("books", b"dune", wanted=2)]
        assert sorted(hit.items[0] for hit in hits) == [b"2:dune", b"6:dune"]
        assert {hit.peer for hit in hits} == {str(group.peers[n].peer_id) for n in (2, 6)}
        search = asker.search("films", b"dune", deadline_s=5)
        assert [hit async for hit in search] == []

    play(main, tmp_path, count=8)


def test_among_acquaintances_it_sleeps_until_it_is_used_and_introduces_nobody(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        anna, bert, carl = group.peers
        for one, other in ((anna, bert), (bert, carl)):
            one.friends.append(other.peer_id)
            other.friends.append(one.peer_id)
        await asyncio.sleep(120)
        assert not anna.dialled
        assert not bert.dialled
        await anna.service.provide(b"a song")
        assert await providers(bert, b"a song") == [str(anna.peer_id)]
        assert await providers(carl, b"a song") == [str(anna.peer_id)], (
            "bert holds the announcement, and is asked"
        )
        assert carl.peer_id not in anna.dialled
        assert anna.peer_id not in carl.dialled
        assert anna.service.describe().contacts == 1

    play(main, tmp_path, count=3, level="circle")


def test_who_cannot_be_reached_asks_and_does_not_serve(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        hidden = await group.add([group.peers[0].peer_id])
        hidden.is_reached = False
        await asyncio.sleep(40)
        assert not hidden.service.describe().serves
        await group.peers[1].service.provide(b"a song")
        assert await providers(hidden, b"a song") == [str(group.peers[1].peer_id)]
        assert "asks only" in hidden.service.describe().text()

    play(main, tmp_path, count=4)


def test_the_table_is_kept_between_runs(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        await asyncio.sleep(30)
        assert group.peers[1].service.describe().contacts >= 3

    play(main, tmp_path, count=5)
    saved = (tmp_path / "1" / "table").read_bytes()
    assert len(saved) > 3 * 32
    (tmp_path / "2" / "table").write_bytes(b"damaged")
    play(main, tmp_path, count=5)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        group.peers[0].service.topic("tea")
        group.peers[1].service.topic("tea")
        await asyncio.sleep(60)
        status = group.peers[0].service.describe()
        text = status.text()
        assert status.is_public
        assert [len(topic.active) for topic in status.topics if topic.name == "tea"] == [1]
        for word in (
            "open to everybody",
            "2 nodes in 1 bucket;",
            "tea: 1 neighbour",
            "kademlia",
            "broadcast",
            "search",
        ):
            assert word in text
        assert {line.protocol for line in status.traffic} == {"kademlia", "broadcast", "search"}
        assert group.peers[0].service.status()["topics"] == 1

    play(main, tmp_path, count=3)


def test_alone_it_keeps_its_own_and_has_nobody_to_ask(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        service = group.peers[0].service
        assert (await service.put(b"value")).holders <= 1
        with pytest.raises(TransportError):
            [hit async for hit in service.search("books", b"dune")]
        with pytest.raises((TransportError, NotFound)):
            await service.get(bytes(32))

    play(main, tmp_path, count=1)


# ---- parts


def topic_without_a_network() -> Topic:
    calls = TopicCalls(lambda *_: None, lambda *_: None, lambda *_: None, lambda _: [])
    return Topic("tea", topic_id("tea"), calls)


def test_names_and_payloads_have_bounds() -> None:
    topic_id("x" * NAME_BYTES_MAX)
    for bad in ("", "x" * (NAME_BYTES_MAX + 1)):
        with pytest.raises(UsageError):
            topic_id(bad)
    topic = topic_without_a_network()
    topic.publish(bytes(PAYLOAD_BYTES_MAX))
    with pytest.raises(UsageError):
        topic.publish(bytes(PAYLOAD_BYTES_MAX + 1))


def test_an_app_that_does_not_listen_misses_the_oldest() -> None:
    async def main(_: Random) -> None:
        topic = topic_without_a_network()
        for number in range(WAITING_MAX + 2):
            topic.deliver(PeerId(bytes(32)), b"%d" % number)
        topic.close()
        heard = [payload async for _, payload in topic]
        assert (len(heard), heard[0], topic.missed) == (WAITING_MAX, b"2", 2)

    run(main)


class _Answers:
    def __init__(self, output: Any) -> None:
        self._output = output

    def handle(self, event: Any, now: float) -> list[Any]:
        return [self._output]


def test_only_whom_the_asker_may_hear_of_is_named() -> None:
    asker, friend, other = (PeerId(bytes([number]) * 32) for number in (1, 2, 3))
    answer = Send(asker, Nodes(7, [Contact(bytes(friend)), Contact(bytes(other))]))
    core = Discreet(_Answers(answer), lambda who, about: (who, about) == (asker, friend))
    assert core.handle(None, 0.0) == [Send(asker, Nodes(7, [Contact(bytes(friend))]))]
    assert Discreet(_Answers("anything"), lambda *_: False).handle(None, 0.0) == ["anything"]


def test_a_small_network_does_not_join_again_and_again(tmp_path: Path) -> None:
    async def main(group: Group) -> None:
        await asyncio.sleep(600)
        before = [peer.service._kademlia.counters["lookups"] for peer in group.peers]
        await asyncio.sleep(6 * 3600)
        after = [peer.service._kademlia.counters["lookups"] for peer in group.peers]
        assert all(peer.service.describe().contacts == 3 for peer in group.peers)
        # Each looks up its own place every hour, and joins again hourly, with one look two minutes later.
        assert max(b - a for a, b in zip(before, after, strict=True)) <= 6 * 3 + 3

    play(main, tmp_path, count=4)
