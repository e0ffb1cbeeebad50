"""The sweep of a `NetDriver`: streams that nobody uses end, those that are kept stay. In virtual time."""

import asyncio
from random import Random
from typing import Any

from coterie.driver import NetDriver
from coterie.identity import PeerId
from coterie.machine import Send
from coterie.net import Stream
from coterie.sim.clock import run
from coterie.sim.network import SimNetwork
from coterie.wire.broadcast import PROTOCOL, Prune

IDLE_S = 10.0
MESSAGE = Prune(bytes(32))


class Says:
    """A core that sends to whom it is told."""

    def handle(self, event: Any, now: float) -> list[Any]:
        return [Send(event, MESSAGE)] if isinstance(event, PeerId) else []


async def times(random: Random, *, keeps: bool, sends_at: tuple[float, ...]) -> list[str]:
    """What the other side sees: each message and each end of a stream."""
    network, seen = SimNetwork(random), list[str]()

    async def hear(stream: Stream) -> None:
        while await stream.receive() is not None:
            seen.append("message")
        seen.append("end")

    async with network.endpoint("a") as a, network.endpoint("b") as b:
        b.register(PROTOCOL, hear, strangers=True)
        driver = NetDriver(
            Says(),
            a,
            PROTOCOL,
            on_output={},
            addresses=lambda peer: b.addresses,
            stream_idle_s=IDLE_S,
            keeps=lambda peer: keeps,
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        for at in sends_at:
            await asyncio.sleep(began + at - loop.time())
            driver.feed(b.peer_id)
        await asyncio.sleep(2 * IDLE_S)
        heard = list(seen)
        await driver.close()
    return heard


def test_an_idle_stream_is_finished_and_the_next_message_opens_another() -> None:
    heard = run(lambda random: times(random, keeps=False, sends_at=(0.0, 25.0)), seed=1)
    assert heard == ["message", "end", "message", "end"]


def test_a_used_stream_stays() -> None:
    heard = run(lambda random: times(random, keeps=False, sends_at=(0.0, 8.0, 16.0)), seed=1)
    assert heard == ["message", "message", "message", "end"]


def test_the_stream_to_a_peer_that_is_kept_stays() -> None:
    heard = run(lambda random: times(random, keeps=True, sends_at=(0.0, 40.0)), seed=1)
    assert heard == ["message", "message"]
