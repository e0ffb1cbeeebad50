"""A flood in a topic over real QUIC: a member whose messages come from the future, and those of the others."""

import asyncio
import time
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from coterie.driver import NetDriver
from coterie.machine import Emit
from coterie.net import Endpoint, Guard
from coterie.net.quic.transport import QuicTransport
from coterie.overlay.broadcast import Broadcast, Delivered, NeighbourDown, NeighbourUp, OpenTopic, Publish
from coterie.overlay.plumtree import PlumtreeLimits
from coterie.wire.broadcast import PROTOCOL, Entry
from tests.net.conftest import Lab
from tests.support import run, watch_steps

TOPIC = bytes(range(32))
PAUSE_S = 0.1  # of the loop, at most
HEARD_S = 2.0


class Member:
    """A node that takes part, its clock `ahead_s` before that of the machine."""

    def __init__(self, endpoint: Endpoint, number: int, ahead_s: float, limits: PlumtreeLimits) -> None:
        self.heard: dict[bytes, float] = {}
        self.endpoint = endpoint
        core = Broadcast(endpoint.peer_id, rng=Random(number), sign=Lab.key(number).sign, messages=limits)
        self.core = core
        self.driver = NetDriver(
            core,
            endpoint,
            PROTOCOL,
            on_output={
                Delivered: self._hear,
                NeighbourUp: lambda _: None,
                NeighbourDown: lambda _: None,
                Emit: lambda _: None,
            },
            clock=lambda: time.time() + ahead_s,
        )

    def _hear(self, output: Any) -> None:
        self.heard[output.payload] = time.monotonic()

    def join(self, *others: "Member") -> None:
        self.driver.feed(OpenTopic(TOPIC, tuple(Entry(other.endpoint.peer_id, b"") for other in others)))

    def say(self, payload: bytes) -> None:
        self.driver.feed(Publish(TOPIC, payload))


async def until(check: Any, what: str) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)
    assert check(), what


async def scene(limits: PlumtreeLimits, floods: int, per_turn: int) -> None:
    async with AsyncExitStack() as stack:
        endpoints = []
        for number in (1, 2, 3):
            transport = await QuicTransport.bind(Lab.key(number), bind_ip="127.0.0.1")
            endpoints.append(Endpoint(transport, guard=Guard(lambda peer, name: True)))
            await stack.enter_async_context(endpoints[-1])
        anna, ben, flooder = (
            Member(endpoint, number, ahead_s, limits)
            for endpoint, number, ahead_s in zip(endpoints, (1, 2, 3), (0.0, -1.0, 590.0), strict=True)
        )
        for one in endpoints:
            for other in endpoints:
                if one.peer_id < other.peer_id:
                    await one.connect(other.peer_id, other.addresses)
        everybody = (anna, ben, flooder)
        for member in everybody:
            member.join(*(other for other in everybody if other is not member))
        await until(
            lambda: all(len(m.core.membership(TOPIC).active) == 2 for m in everybody), "no neighbours"
        )
        said: list[tuple[bytes, float]] = []
        with watch_steps() as steps:
            for number in range(floods):
                for part in range(per_turn):
                    flooder.say(b"flood %d %d" % (number, part))
                if number % 20 == 10:
                    said.append((b"honest %d" % number, time.monotonic()))
                    ben.say(said[-1][0])
                await asyncio.sleep(0.01)
            await asyncio.sleep(HEARD_S)
        took = [anna.heard.get(payload, float("inf")) - at for payload, at in said]
        history = anna.core.messages(TOPIC).history
        print(
            f"{floods * per_turn} messages of the future, {len(anna.heard)} heard; {len(took)} honest ones, slowest "
            f"{max(took):.2f} s; longest step {1000 * steps.longest_s:.0f} ms; {len(history)} remembered"
        )
        assert len(anna.heard) > limits.seen_max, "it was no flood"
        assert max(took) < HEARD_S
        assert len(history) <= limits.seen_max
        assert history.held <= limits.held_max
        assert steps.longest_s <= PAUSE_S, steps.what
        for member in everybody:
            await member.driver.close()


def test_a_flood_from_the_future_keeps_nobody_from_being_heard() -> None:
    limits = PlumtreeLimits(seen_max=200, held_max=50, news_per_link_s=2_000, news_per_link_burst=4_000)
    run(scene(limits, floods=120, per_turn=5), 60)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_long_flood_from_the_future_keeps_nobody_from_being_heard() -> None:
    limits = PlumtreeLimits(seen_max=2_000, held_max=200, news_per_link_s=2_000, news_per_link_burst=8_000)
    run(scene(limits, floods=1_000, per_turn=4), 120)
