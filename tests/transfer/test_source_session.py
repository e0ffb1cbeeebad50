"""The asking side of one session: a request that went out with the opening word."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from coterie.content.swarm import events as e
from coterie.errors import TransportError
from coterie.identity import SecretKey
from coterie.net import Endpoint, MemoryNetwork, Stream
from coterie.transfer.arriving import Answer, NodePlace
from coterie.transfer.messages import CHUNKS, MANIFEST, PROTOCOL, GetChunks, GetManifest, Open, Pace
from coterie.transfer.source_session import Link
from tests.support import run

ROOT, OTHER = b"r" * 32, b"o" * 32


async def session(
    asks: list[GetManifest | GetChunks], limit: Callable[[], float] = lambda: 0.0
) -> tuple[list[Any], list[Answer], int]:
    """What a giver hears of a session that asked for ROOT early and then for this; what is stored; what arrived."""
    network, heard = MemoryNetwork(), list[Any]()

    async def give(stream: Stream) -> None:
        while len(heard) < 2 + sum(r != GetManifest(ROOT) for r in asks) + bool(limit()):
            heard.append(await stream.receive(5.0))
            match heard[-1]:
                case GetManifest(manifest):
                    await stream.write(PROTOCOL.bulk_header(MANIFEST, 32) + manifest)
                case GetChunks():
                    await stream.write(PROTOCOL.bulk_header(CHUNKS, 3) + b"abc")
        await stream.finish()

    ends = []
    for number in (1, 2):
        endpoint = Endpoint(network.bind(SecretKey(bytes([number]) * 32).peer_id))
        endpoint.start()
        ends.append(endpoint)
    asker, giver = ends
    giver.register(PROTOCOL, give, strangers=True)
    stored, fed = list[Answer](), list[Any]()
    connection = await asker.connect(giver.peer_id, giver.addresses)
    first = PROTOCOL.encode(Open(ROOT, b"")) + PROTOCOL.encode(GetManifest(ROOT))
    stream = await connection.open_stream(PROTOCOL, first)
    link = Link(
        connection,
        stream,
        feed=fed.append,
        store=lambda peer, batch: stored.extend(batch) or [],
        room=lambda peer, size: None,
        hint=lambda peer, addresses: None,
        gave=lambda peer, size: None,
        early=GetManifest(ROOT),
    )
    link.limit = limit
    for request in asks:
        place = NodePlace((), None)
        place.lay_out([(b"h" * 32, 3)])
        link.ask(place, request)
    with contextlib.suppress(TransportError):  # the giver has ended it
        await link.run()
    for end in ends:
        await end.close()
    await asyncio.sleep(0)
    return heard, stored, sum(event.size for event in fed if isinstance(event, e.Arrived))


def test_what_was_asked_for_early_is_not_asked_for_again() -> None:
    heard, stored, _ = run(session([GetManifest(ROOT), GetChunks(OTHER, 0, 1)]))
    assert heard[1:] == [GetManifest(ROOT), GetChunks(OTHER, 0, 1)]
    assert [answer.manifest for answer in stored] == [ROOT, OTHER]


def test_an_early_answer_that_nobody_wants_any_more_is_thrown_away() -> None:
    heard, stored, arrived = run(session([GetChunks(OTHER, 0, 1)]))
    assert heard[1:] == [GetManifest(ROOT), GetChunks(OTHER, 0, 1)]
    assert [answer.manifest for answer in stored] == [OTHER]
    assert arrived == e.cost(3)
    heard, stored, arrived = run(session([]))
    assert heard[1:] == [GetManifest(ROOT)]
    assert not stored


def test_a_giver_is_told_the_limit_before_anything_is_asked_of_it() -> None:
    """And nothing where there is none."""
    heard, stored, _ = run(session([GetManifest(ROOT), GetChunks(OTHER, 0, 1)], lambda: 20_000.9))
    assert heard[1:] == [GetManifest(ROOT), Pace(20_000), GetChunks(OTHER, 0, 1)]
    assert len(stored) == 2
