"""Files for somebody who is no contact: over a one-time code, and to a computer of the local network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.contacts.results import Invited
from coterie.apps.send.direct import STREAMS_OF_ONE_MAX
from coterie.apps.send.events import Heard
from coterie.apps.send.messages import PROTOCOL, Gone, Hello, Item, Offer, Said, Take
from coterie.apps.send.records import Part
from coterie.apps.send.results import Sent
from coterie.apps.send.strangers import NotTaken, Offered
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError, UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import memory_node, pair
from tests.apps.send.test_service import offers, states, until
from tests.support import run


async def ticket_of(events: AsyncIterator[Any]) -> str:
    """The long form of the code, which the first event tells."""
    first = await anext(events)
    assert isinstance(first, Invited)
    assert first.join_with == "receive"
    return first.ticket


async def by_code(node: Node, path: Path) -> AsyncIterator[Any]:
    record = await offers(node).read([path], lasts_s=3_600.0, note="")
    return offers(node).strangers.by_code(record, 15.0)


async def last(events: AsyncIterator[Any]) -> Any:
    """The last of them."""
    async for event in events:
        found = event
    return found


def test_a_code_gives_a_file_once_and_makes_no_contacts(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 50_000)
        async with pair(tmp_path) as (anna, ben):
            events = await by_code(anna, photo)
            ticket = await ticket_of(events)
            following = asyncio.ensure_future(last(events))
            with pytest.raises(Offered, match=r"\(stranger\) offers photo.jpg \(1 file, 300.* kB\)"):
                await last(offers(ben).strangers.receive(ticket))
            assert states(ben) == ["delivered"]
            got = await last(offers(ben).strangers.receive(ticket, folder=tmp_path / "got", yes=True))
            assert (got.state, got.is_over()) == ("received", True)
            sent = await following
            assert isinstance(sent, Sent)
            assert (sent.state, sent.is_over()) == ("received", True)
            assert (tmp_path / "got" / "photo.jpg").read_bytes() == photo.read_bytes()
            assert anna.contacts.contacts() == ben.contacts.contacts() == []
            await until(lambda: not anna.files.gifts.roots())
            async with await (await ben.connect(anna.peer_id, anna.addresses)).open_stream(
                PROTOCOL
            ) as stream:
                await stream.send(Take(bytes(16)))
                assert await stream.receive(5.0) == Gone(bytes(16))
            with pytest.raises(CoterieError):
                await ben.contacts.join(ticket)
            assert anna.contacts.contacts() == []

    run(play())


def test_a_code_is_for_the_one_command_that_it_says(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with pair(tmp_path) as (anna, ben):
            events = await by_code(anna, photo)
            ticket = await ticket_of(events)
            with pytest.raises(UsageError, match="coterie receive CODE"):
                await ben.contacts.join(ticket)
            async with anna.contacts.invite() as invitation:
                with pytest.raises(UsageError, match="coterie join CODE"):
                    await last(offers(ben).strangers.receive(invitation.invited.ticket))
            assert anna.contacts.contacts() == ben.contacts.contacts() == []
            await events.aclose()  # type: ignore[attr-defined]
            await until(lambda: not anna.files.gifts.roots())
            with pytest.raises(NotFound):
                await last(offers(ben).strangers.receive(ticket))

    run(play())


def test_both_hear_when_the_other_declines_or_cancels(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with pair(tmp_path) as (anna, ben):
            for end in ("declined", "cancelled"):
                events = await by_code(anna, photo)
                ticket = await ticket_of(events)
                following = asyncio.ensure_future(last(events))
                with pytest.raises(Offered):
                    await last(offers(ben).strangers.receive(ticket))
                mine = await until(
                    lambda: [line for line in offers(anna).sent() if line.state == "delivered"]
                )
                theirs = next(line for line in offers(ben).inbox() if line.state == "delivered")
                if end == "declined":
                    offers(ben).decline(theirs.id)
                else:
                    offers(anna).cancel(mine[0].id)
                with pytest.raises(NotTaken, match=end):
                    await following
                await until(lambda end=end: states(anna)[-1] == states(ben)[-1] == end)

    run(play())


def test_strangers_here_offer_only_while_the_owner_says_so(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with pair(tmp_path) as (anna, ben):
            with pytest.raises(NotFound):
                await offers(anna).direct.name_of(ben.peer_id, ben.addresses)
            unasked = Offer(bytes(16), [Item("a", 1, 1, 1)], 2**31)
            for message in (unasked, Hello(), Take(bytes(16))):
                async with await (await anna.connect(ben.peer_id, ben.addresses)).open_stream(
                    PROTOCOL
                ) as stream:
                    await stream.send(message)
                    assert await stream.receive(5.0) == Gone(bytes(16))
            assert offers(ben).inbox() == []
            with offers(ben).direct.open_to_near():
                assert await offers(anna).direct.name_of(ben.peer_id, ben.addresses)
                record = await offers(anna).read([photo], lasts_s=3_600.0, note="")
                part = Part(str(ben.peer_id), record.created + 3_600, is_stranger=True, dials=True)
                part.addresses = list(ben.addresses)
                record.parts = [part]
                offers(anna).make(record)
                line = await until(lambda: offers(ben).inbox())
                assert line[0].sender.endswith("(stranger)")
                assert line[0].state == "delivered"
            offers(ben).accept(line[0].id, tmp_path / "got")
            await until(lambda: states(anna) == states(ben) == ["received"])
            assert (tmp_path / "got" / "photo.jpg").read_bytes() == b"sunset"

    run(play())


def test_a_stranger_goes_on_after_a_restart_of_either(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 100_000)
        network = MemoryNetwork()
        home_a, home_b = tmp_path / "home-anna", tmp_path / "home-ben"
        async with memory_node(network, home_b) as ben:
            async with memory_node(network, home_a) as anna:
                events = await by_code(anna, photo)
                ticket = await ticket_of(events)
                following = asyncio.ensure_future(last(events))
                with pytest.raises(Offered):
                    await last(offers(ben).strangers.receive(ticket))
                await until(lambda: states(anna) == ["delivered"])
                following.cancel()
            offers(ben).accept(offers(ben).inbox()[0].id, tmp_path / "got")
        async with memory_node(network, home_b) as ben, memory_node(network, home_a) as anna:
            await until(lambda: states(anna) == states(ben) == ["received"])
        assert (tmp_path / "got" / "photo.jpg").read_bytes() == photo.read_bytes()

    run(play())


def test_one_stranger_has_so_many_streams_and_does_not_hear_that_what_it_offers_is_over(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with pair(tmp_path) as (anna, ben), contextlib.AsyncExitStack() as streams:
            told = [
                Offer(bytes([number]) * 16, [Item("a", 1, 1, 1)], 2**31)
                for number in range(STREAMS_OF_ONE_MAX + 1)
            ]
            for one in told:  # each by a code
                offers(ben).feed(Heard(anna.peer_id, one, is_stranger=True, dials=True))
            connection = await anna.connect(ben.peer_id, ben.addresses)
            for one in told[:-1]:
                stream = await streams.enter_async_context(await connection.open_stream(PROTOCOL))
                await stream.send(one)
                assert isinstance(await stream.receive(5.0), Said)
            stream = await streams.enter_async_context(await connection.open_stream(PROTOCOL))
            await stream.send(told[-1])
            with pytest.raises(PeerError) as refused:
                await stream.receive(5.0)
            assert refused.value.close_code == CloseCode.LIMIT

    run(play())
