"""Strangers who flood a whole node over real QUIC, on every protocol that is open to them: the loop goes on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.circles.messages import PROTOCOL as CIRCLES
from coterie.apps.circles.messages import Have, Want
from coterie.apps.contacts.messages import PROTOCOL as INVITE
from coterie.apps.contacts.messages import Knock
from coterie.apps.expose.messages import PROTOCOL as EXPOSE
from coterie.apps.expose.messages import Use
from coterie.apps.files.places_messages import PLACES, List
from coterie.apps.grants.messages import PROTOCOL as GRANTS
from coterie.apps.grants.messages import Present, Revoked
from coterie.apps.grants.results import Wanted
from coterie.apps.send.messages import PROTOCOL as SEND
from coterie.apps.send.messages import Hello, Item, Offer, Take
from coterie.errors import CoterieError
from coterie.identity import SecretKey, load_or_create_key
from coterie.net import Connection, Endpoint
from coterie.net.find.exchange import PEER_RECORD, Ask
from coterie.net.quic.transport import QuicTransport
from coterie.node import Node
from coterie.transfer.messages import PROTOCOL as FILES
from coterie.transfer.messages import Open
from coterie.wire import lanes
from coterie.wire.frames import Message, Protocol
from tests.apps.files.nodes import befriend
from tests.net.relay.test_server import resident_mb
from tests.support import run, watch_steps

HOST = "127.0.0.1"
PAUSE_S = 0.1  # of the loop, at most
ANSWER_S = 2.0  # to a contact, at most

FLOODS: Sequence[tuple[Protocol, Sequence[Message]]] = (
    (GRANTS, [Revoked([])] * 2_000),
    (GRANTS, [Present(b"\1" * 2_000)] * 30),
    (PLACES, [List("", ""), List("photos", ""), List("x/y/z", "")] * 300),
    (PEER_RECORD, [Ask(bytes(32))]),
    (CIRCLES, [Have(bytes(32), []), Want(bytes(32), [], [])] * 500),
    (FILES, [Open(bytes(32), bytes(32))]),
    (INVITE, [Knock(0, 1, b"")]),
    (EXPOSE, [Use("wiki")]),
    (lanes.PROTOCOL, [lanes.Offer(b"")] * 300),
    (SEND, [Offer(bytes(16), [Item("a", 1, 1, 1)], 2**31), Hello(), Take(bytes(16))] * 300),
)
"""What is sent on one stream after the other."""


@contextlib.asynccontextmanager
async def quic_node(home: Path) -> AsyncIterator[Node]:
    home.mkdir(mode=0o700)
    transport = await QuicTransport.bind(load_or_create_key(home / "key"), bind_ip=HOST)
    async with Node.open(home, transport=transport) as node:
        yield node


async def flood(victim: Node, number: int, counts: dict[str, int]) -> None:
    """One stranger, until cancelled: all protocols in turn, as fast as it gets through."""
    key = SecretKey(bytes([200, number]) * 16)
    async with Endpoint(await QuicTransport.bind(key, bind_ip=HOST)) as endpoint:
        while True:
            with contextlib.suppress(CoterieError, TimeoutError):
                connection = await endpoint.connect(victim.peer_id, victim.addresses)
                for protocol, messages in FLOODS:
                    await drown(connection, protocol, messages)
                    counts[protocol.name] = counts.get(protocol.name, 0) + 1
            await asyncio.sleep(0.02)


async def drown(connection: Connection, protocol: Protocol, messages: Sequence[Message]) -> None:
    stream = await connection.open_stream(protocol)
    with contextlib.suppress(CoterieError, TimeoutError):
        async with asyncio.timeout(1.0):
            await stream.write(b"".join(protocol.encode(message) for message in messages))
    await stream.reset()


async def scene(folder: Path, *, grants: int, strangers: int, seconds: float) -> dict[str, Any]:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"a")
    slowest, asked, counts = 0.0, 0, dict[str, int]()
    async with quic_node(folder / "anna") as anna, quic_node(folder / "ben") as ben:
        await befriend(anna, ben)
        await anna.files.share(folder / "photos", to=["contacts"])
        given = anna.service("grants")
        for number in range(grants):
            peer = SecretKey(number.to_bytes(32, "big")).peer_id
            given.give(str(peer), "read", "files/photos", Wanted(lasting_s=604_800))
            if not number % 20:
                await asyncio.sleep(0)
        before = resident_mb()
        with watch_steps() as steps:
            floods = [asyncio.ensure_future(flood(anna, n, counts)) for n in range(strangers)]
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                at = time.monotonic()
                assert [line.name for line in await ben.directory.look(f"{anna.peer_id}/photos")] == ["a.jpg"]
                slowest, asked = max(slowest, time.monotonic() - at), asked + 1
                await asyncio.sleep(0.05)
            assert not any(task.done() for task in floods)
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        grown = resident_mb() - before
    print(
        f"{strangers} strangers for {seconds:g} s, {grants} grants: {sum(counts.values())} streams; a contact "
        f"asked {asked} times, slowest answer {slowest:.2f} s; longest step "
        f"{1000 * steps.longest_s:.0f} ms; {grown:.0f} MB more"
    )
    return {
        "step_s": steps.longest_s,
        "what": steps.what,
        "slowest_s": slowest,
        "grown_mb": grown,
        "counts": counts,
    }


def test_strangers_on_every_protocol_do_not_hold_up_the_node(tmp_path: Path) -> None:
    seen = run(scene(tmp_path, grants=100, strangers=2, seconds=2.5))
    assert seen["step_s"] <= PAUSE_S, seen["what"]
    assert seen["slowest_s"] <= ANSWER_S
    assert len(seen["counts"]) == len({protocol.name for protocol, _ in FLOODS}), (
        "not every protocol was reached"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_strangers_on_every_protocol_do_not_hold_up_the_node(tmp_path: Path) -> None:
    seen = run(scene(tmp_path, grants=1_000, strangers=12, seconds=30), 200)
    assert seen["step_s"] <= PAUSE_S, seen["what"]
    assert seen["slowest_s"] <= ANSWER_S
    assert seen["grown_mb"] <= 150
