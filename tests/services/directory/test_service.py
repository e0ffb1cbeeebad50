"""What computers offer each other, over the network: all kinds in one list, for each peer its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App
from coterie.apps.context import Context
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError
from coterie.identity import load_or_create_key
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from coterie.services.directory import service
from coterie.services.directory.core import Offered
from coterie.services.directory.messages import DIRECTORY, OFFERS_MAX, Ask, Offer, Offers
from tests.apps.files.nodes import befriend, friends, memory_node, pair
from tests.support import run


class Postbox:
    """A third party's app, whose kind the core has never heard of."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def start(self) -> None:
        self.context.access.policy.permit("known", Verb.LIST, "postbox/1")
        self.context.net.offer(
            "postbox", lambda peer: [Offered(resource="postbox/1", name="letters", note="red")]
        )

    async def close(self) -> None:
        """Nothing is kept."""


POSTBOX = App(
    name="postbox",
    summary="",
    create=Postbox,
    commands="",
    kinds=(ResourceKind("postbox", Verb.LIST | Verb.WRITE, "a box for letters"),),
)


@contextlib.asynccontextmanager
async def node_with(network: MemoryNetwork, home: Path, *apps: str | App) -> AsyncIterator[Node]:
    home.mkdir(mode=0o700)
    key = load_or_create_key(home / "key")
    async with Node.open(home, transport=network.bind(key.peer_id), apps=apps) as node:
        yield node


async def listed(node: Node, place: str) -> list[tuple[str, str]]:
    return [(line.name, line.kind) for line in await node.directory.look(place)]


def test_all_kinds_stand_in_one_list_those_of_third_parties_too(tmp_path: Path) -> None:
    async def scene() -> None:
        network = MemoryNetwork()
        (tmp_path / "wiki").mkdir()
        (tmp_path / "wiki" / "page").write_text("hello")
        async with (
            node_with(network, tmp_path / "a", "files", "expose", "contacts", POSTBOX) as anna,
            memory_node(network, tmp_path / "b") as ben,
        ):
            await befriend(anna, ben)
            who = str(anna.peer_id)
            assert await listed(ben, who) == [("letters", "postbox")]
            await anna.files.share(tmp_path / "wiki", to=["contacts"])
            anna.expose.expose("80", "door", ["contacts"])
            assert await listed(ben, who) == [("wiki", "folder"), ("letters", "postbox"), ("door", "service")]
            assert [line.note for line in await ben.directory.look(who)] == ["", "red", "tcp"]
            assert await listed(ben, f"{who}/wiki") == [("page", "file")]
            assert await listed(ben, f"{who}/door") == [("door", "service")]
            assert not anna.access.audit.lines(limit=10, refused=True)  # nothing was tried at random
            with pytest.raises(NotFound, match="not shared with this computer"):
                await ben.directory.look(f"{who}/nothing")
            anna.expose.unexpose("door")
            assert await listed(ben, who) == [("wiki", "folder"), ("letters", "postbox")]

    run(scene())


def test_each_peer_sees_its_own_and_a_stranger_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "a") as anna,
            memory_node(network, tmp_path / "b") as ben,
            memory_node(network, tmp_path / "c") as carl,
            memory_node(network, tmp_path / "e") as eve,
        ):
            await befriend(anna, ben)
            await befriend(anna, carl)
            anna.expose.expose("80", "for-ben", [anna.people.name_of(ben.peer_id)])
            anna.expose.expose("81", "for-all", ["anyone"])
            who = str(anna.peer_id)
            assert await listed(ben, who) == [("for-all", "service"), ("for-ben", "service")]
            assert await listed(carl, who) == [("for-all", "service")]
            with pytest.raises(NotFound):
                await carl.directory.look(f"{who}/for-ben")
            link = await eve.connect(anna.peer_id, anna.addresses)
            with pytest.raises(PeerError) as caught:
                await link.open_stream(DIRECTORY)
            assert caught.value.close_code == CloseCode.REFUSED
            assert await listed(eve, who) == []  # what is for anyone stands in `places`, and here is no share

    run(scene())


def test_what_can_be_permitted_here_is_listed_of_every_kind(tmp_path: Path) -> None:
    async def scene() -> None:
        network = MemoryNetwork()
        (tmp_path / "photos").mkdir()
        async with node_with(network, tmp_path / "a", "files", "expose", "grants", POSTBOX) as anna:
            from coterie.control.permissions import answer, resource_lines

            await anna.files.share(tmp_path / "photos")
            anna.expose.expose("80", "wiki", ["contacts"])
            lines = {line.resource: (line.verbs, line.what) for line in resource_lines(anna)}
            assert lines["files/photos"] == ("list, read, write, administer", "folder")
            assert lines["service/wiki"] == ("use", "")
            assert lines["postbox"] == ("list, write", "a box for letters")
            assert lines["postbox/1"] == ("list, write", "")
            assert lines["protocol/expose"] == ("use", "")
            for resource, (verbs, _) in lines.items():
                assert answer(anna, str(anna.peer_id), verbs.partition(",")[0], resource).allowed

    run(scene())


def test_an_app_that_ended_offers_nothing_and_one_offers_only_its_own_kinds(tmp_path: Path) -> None:
    class Greedy(Postbox):
        async def start(self) -> None:
            self.context.net.offer("files", lambda peer: [])

    greedy = App(name="greedy", summary="", create=Greedy, commands="")

    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            node_with(network, tmp_path / "a", "contacts", POSTBOX, greedy) as anna,
            memory_node(network, tmp_path / "b") as ben,
        ):
            await befriend(anna, ben)
            failed = next(state for state in anna.host.states() if state.name == "greedy")
            assert "a kind that it has not declared" in failed.reason
            assert await listed(ben, str(anna.peer_id)) == [("letters", "postbox")]
            anna.host.fail("postbox", "for the test")
            async with asyncio.timeout(10):
                while anna.directory.offered(anna.peer_id, "postbox"):  # it is ended in the background
                    await asyncio.sleep(0.01)
            assert await listed(ben, str(anna.peer_id)) == []

    run(scene())


def test_a_computer_that_knows_no_directory_is_asked_as_before(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            (tmp_path / "letter").write_text("hello")
            await anna.files.share(tmp_path / "letter", to=["contacts"])
            assert anna.endpoint is not None
            anna.endpoint.unregister(DIRECTORY.name)
            assert await listed(ben, str(anna.peer_id)) == [("letter", "file")]

    run(scene())


@pytest.mark.parametrize("more", [True, False])
def test_endless_and_wrong_answers_end(tmp_path: Path, more: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Always the same, and always more of it; or something else."""
    monkeypatch.setattr(service, "ANSWERS_MAX", 3)
    answered: list[int] = []

    async def lie(stream: Stream) -> None:
        while await stream.receive() is not None:
            answered.append(1)
            await stream.send(Offers([Offer("box", "same")], more=True) if more else Ask())

    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            assert anna.endpoint is not None
            anna.endpoint.unregister(DIRECTORY.name)
            anna.endpoint.register(DIRECTORY, lie)
            if more:
                assert len(await listed(ben, str(anna.peer_id))) == len(answered) == 3
            else:
                with pytest.raises(PeerError, match="did not answer as coterie does"):
                    await listed(ben, str(anna.peer_id))

    run(scene())


def test_who_asks_without_end_is_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ANSWER_S", 0.0)
    monkeypatch.setattr(service, "ASKED_BURST", 3)

    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            link = await ben.connect(anna.peer_id)
            stream = await link.open_stream(DIRECTORY)
            with pytest.raises(CoterieError) as caught:
                for _ in range(3 + 2):
                    await stream.send(Ask())
                    assert isinstance(await stream.receive(), Offers)
            assert isinstance(caught.value, PeerError)
            assert caught.value.close_code == CloseCode.LIMIT

    run(scene())


def test_who_may_list_nothing_of_much_does_not_hold_up_the_node_and_pays_for_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ANSWER_S", 0.0)

    async def scene() -> None:
        async with pair(tmp_path) as (anna, ben):
            await befriend(anna, ben)
            anna.access.declare(ResourceKind("box", Verb.LIST, "boxes"))
            many = [Offered(resource=f"box/{n}", name=f"{n}") for n in range(20 * OFFERS_MAX)]
            anna.directory.add("box", lambda peer: many)
            link = await ben.connect(anna.peer_id)
            stream = await link.open_stream(DIRECTORY)
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            beside = asyncio.ensure_future(others())
            with pytest.raises(CoterieError) as caught:
                for _ in range(4):  # each costs 21 questions: the burst has two of them
                    await stream.send(Ask())
                    before = turns
                    assert await stream.receive() == Offers([])
                    assert turns - before >= len(many) / service.WEIGHED_IN_ROW_MAX
            beside.cancel()
            assert isinstance(caught.value, PeerError)
            assert caught.value.close_code == CloseCode.LIMIT

    run(scene())


def test_thousands_come_whole(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path) as (anna, ben):
            await befriend(anna, ben)
            many = OFFERS_MAX * 2 + 1
            anna.access.declare(ResourceKind("box", Verb.LIST, "boxes"))
            anna.access.policy.permit("known", Verb.LIST, "box")
            anna.directory.add(
                "box", lambda peer: [Offered(resource=f"box/{n}", name=f"{n:06}") for n in range(many)]
            )
            lines = await ben.directory.look(str(anna.peer_id))
            assert [line.name for line in lines] == [f"{n:06}" for n in range(many)]

    run(scene())
