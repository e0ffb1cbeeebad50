"""A used-up amount of a grant: whoever presented it hears that, the giver sees it, and nobody else learns of it."""

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.access.resource import Verb
from coterie.apps.files import places_messages as p
from coterie.apps.grants.results import Wanted
from coterie.errors import AccessDenied, CloseCode, NotFound, PeerError
from coterie.identity import SecretKey
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.transfer import messages as f
from coterie.transfer.used_up import denial
from coterie.wire import Ticket
from coterie.wire.frames import Protocol
from tests.apps.files.nodes import befriend, memory_node, opening
from tests.support import run

FILM = random.Random(1).randbytes(3_000_000)
OLD_FILES = dataclasses.replace(f.PROTOCOL, versions=(1, 2))
OLD_PLACES = dataclasses.replace(p.PLACES, versions=(1,))
PERSON = SecretKey(b"giver".ljust(32, b"!")).peer_id


@contextlib.asynccontextmanager
async def node(network: MemoryNetwork, folder: Path, name: str) -> AsyncIterator[Node]:
    async with memory_node(network, folder / f"home-{name}") as made:
        yield made


def share_films(folder: Path) -> Path:
    top = folder / "films"
    top.mkdir()
    (top / "film").write_bytes(FILM)
    (top / "note").write_text("note")
    return top


async def get(guest: Node, host: Node, folder: Path, name: str = "film") -> None:
    await guest.files.get_place(f"{host.peer_id}/films/{name}", folder / "got")


def notices(node: Node) -> list[str]:
    return [notice.said for notice in node.notices.all() if notice.app == "grants"]


def refusals(host: Node, guest: Node) -> Counter[str]:
    """How often `host` noted that it refused something to `guest`, by resource."""
    uses = host.access.audit.lines(peer=bytes(guest.peer_id), refused=True)
    return sum((Counter({use.resource: use.count}) for use in uses), Counter[str]())


def state(node: Node) -> tuple[str, str]:
    (line,) = node.grants.lines()
    return line.state, line.used


def test_a_used_up_amount_is_said_to_its_holder_and_its_giver(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path, "ben") as ben, node(network, tmp_path, "carl") as carl:
            async with node(network, tmp_path, "anna") as anna:
                await befriend(anna, ben)
                await befriend(anna, carl)
                shared = await anna.files.share(share_films(tmp_path))
                anna.grants.give(str(ben.peer_id), "list,read", "files/films", Wanted(604_800, ["2MB"]))
                assert state(anna) == ("valid", "0 B of 2.0 MB")
                said = f"the 2.0 MB that {anna.peer_id.short} granted are used up; ask for a new grant"
                with pytest.raises(AccessDenied, match=said):  # while it runs
                    await get(ben, anna, tmp_path)
                refused = anna.access.audit.lines(peer=bytes(ben.peer_id), refused=True)
                assert [(use.resource, use.verb) for use in refused] == [(f"files/{shared.id}", "read")]
                assert "its quota is used up: 2.0 MB" in refused[0].reason
                (stopped,) = [t for t in await ben.files.transfers() if t.state == "failed"]
                assert said in stopped.note
                assert state(anna) == ("used up", "2.0 MB of 2.0 MB")
                with pytest.raises(AccessDenied, match=said):  # a new one
                    await get(ben, anna, tmp_path, "note")
                with pytest.raises(AccessDenied, match=said):
                    await ben.directory.look(f"{anna.peer_id}/films/no-such-thing")
                with pytest.raises(NotFound):  # who has no grant learns nothing
                    await get(carl, anna, tmp_path)
                (notice,) = notices(anna)
                assert "used up the 2.0 MB granted to list, read files/films" in notice
                why = anna.access.explain(ben.peer_id, Verb.READ, f"files/{shared.id}").reasons
                assert any("its quota is used up: 2.0 MB" in reason.text for reason in why)
            async with node(network, tmp_path, "anna") as anna:  # it stays so over a restart
                assert state(anna) == ("used up", "2.0 MB of 2.0 MB")
                with pytest.raises(AccessDenied, match=said):
                    await get(ben, anna, tmp_path)
                assert len(notices(anna)) == 1
                anna.grants.give(str(ben.peer_id), "list,read", "files/films", Wanted(604_800))
                await get(ben, anna, tmp_path)
                assert (tmp_path / "got").read_bytes() == FILM

    run(main())


async def first_answer(guest: Node, host: Node, ticket: Ticket, protocol: Protocol) -> object:
    """What `guest` hears when it opens this with a protocol as it was."""
    connection = await guest.connect(host.peer_id, ticket.addresses)
    stream = await connection.open_stream(protocol)
    await stream.send(opening(ticket, guest.peer_id))
    answer = await stream.receive(5.0)
    await stream.reset(0)
    return answer


def test_an_older_asker_hears_what_it_understands(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path, "anna") as anna, node(network, tmp_path, "ben") as ben:
            await befriend(anna, ben)
            await anna.files.share(share_films(tmp_path))
            anna.grants.give(str(ben.peer_id), "list,read", "files/films", Wanted(604_800, ["100kB"]))
            ticket = await ben.files.locate(f"{anna.peer_id}/films/film")
            connection = await ben.connect(anna.peer_id, ticket.addresses)
            stream = await connection.open_stream(OLD_FILES)
            await stream.send(opening(ticket, ben.peer_id))
            assert isinstance(await stream.receive(5.0), f.Opened)
            await stream.send(f.GetChunks(ticket.content_id, 0, 5))
            with pytest.raises(PeerError) as ended:
                while await stream.receive(5.0) is not None:
                    pass
            assert ended.value.close_code == CloseCode.REVOKED
            assert await first_answer(ben, anna, ticket, OLD_FILES) == f.Refused()
            assert await first_answer(ben, anna, ticket, f.PROTOCOL) == f.UsedUp(100_000, bytes(anna.peer_id))
            stream = await connection.open_stream(OLD_PLACES)
            for question in (p.Locate("films/film"), p.List("films")):
                await stream.send(question)
                assert await stream.receive(5.0) == p.NotThere()
            await stream.finish()

    run(main())


def test_the_secret_of_a_place_is_no_proof_of_a_grant(tmp_path: Path) -> None:
    """Whoever else shows it hears the one answer for all; so does its holder when the grant was taken back."""

    async def main() -> None:
        network = MemoryNetwork()
        async with (
            node(network, tmp_path, "anna") as anna,
            node(network, tmp_path, "ben") as ben,
            node(network, tmp_path, "carl") as carl,
        ):
            await befriend(anna, ben)
            await befriend(anna, carl)
            await anna.files.share(share_films(tmp_path))
            given = anna.grants.give(str(ben.peer_id), "list,read", "files/films", Wanted(604_800, ["2MB"]))
            ticket = await ben.files.locate(f"{anna.peer_id}/films/film")
            with pytest.raises(AccessDenied):
                await get(ben, anna, tmp_path)
            assert await first_answer(carl, anna, ticket, f.PROTOCOL) == f.Refused()
            assert isinstance(await first_answer(ben, anna, ticket, f.PROTOCOL), f.UsedUp)
            anna.grants.revoke(given.id)
            (shared,) = anna.files.shared()
            before = refusals(anna, ben)
            assert await first_answer(ben, anna, ticket, f.PROTOCOL) == f.Refused()
            assert state(anna)[0] == "revoked"
            with pytest.raises(NotFound):
                await get(ben, anna, tmp_path / "again", "note")
            with pytest.raises(NotFound):
                await ben.files.get_place(f"{anna.peer_id}/no such share", tmp_path / "again")
            news = refusals(anna, ben) - before
            assert set(news) == {f"files/{shared.id}/film", f"files/{shared.id}/note", "files"}

    run(main())


def test_sessions_beside_each_other_tell_the_giver_once(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path, "anna") as anna, node(network, tmp_path, "ben") as ben:
            await befriend(anna, ben)
            await anna.files.share(share_films(tmp_path))
            anna.grants.give(str(ben.peer_id), "list,read", "files/films", Wanted(604_800, ["1MB"]))
            places = [f"{anna.peer_id}/films/film", f"{anna.peer_id}/films"]
            gets = [ben.files.get_place(place, tmp_path / str(n)) for n, place in enumerate(places)]
            ended = await asyncio.gather(*gets, return_exceptions=True)
            assert [type(error) for error in ended] == [AccessDenied, AccessDenied]
            assert len(notices(anna)) == 1
            assert [notice.times for notice in anna.notices.all() if notice.app == "grants"] == [1]

    run(main())


@pytest.mark.parametrize(
    ("granted", "by"),
    [(0, bytes(PERSON)), (-1, bytes(PERSON)), (2**53 + 1, bytes(PERSON)), (1, b""), (1, b"\x02" * 32)],
    ids=["nothing", "less than nothing", "beyond all reason", "by nobody", "by no key"],
)
def test_what_cannot_be_used_up_is_the_peers_fault(granted: int, by: bytes) -> None:
    assert isinstance(denial(PERSON, f.UsedUp(granted, by)), PeerError)
    assert isinstance(denial(PERSON, f.UsedUp(2**53, bytes(PERSON))), AccessDenied)
