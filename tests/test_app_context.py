"""What an app gets of its node: ten members, each bound to the app, all taken back when it ends."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.apps.app import App
from coterie.apps.context import Context
from coterie.errors import AccessDenied, CloseCode, PeerError, TransportError, UsageError
from coterie.identity import PeerId, load_or_create_key
from coterie.identity.keys import verify
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from coterie.wire.frames import Message, Protocol
from tests.apps.files.nodes import befriend
from tests.support import run

MEMBERS = {"me", "people", "net", "mail", "access", "data", "blobs", "jobs", "local", "tell"}


class Knock(Message, frozen=True):
    """Say `said` back."""

    said: str


DOOR = Protocol(name="door", versions=(1,), kinds={1: Knock})


class Door:
    """Answers a knock; knows when to be silent, or rude."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.met: list[PeerId] = []

    async def start(self) -> None:
        self.context.net.register(DOOR, self._answer)
        self.context.net.watch(self.met.append, lambda peer: None)

    async def _answer(self, stream: Stream) -> None:
        async for message in _messages(stream):
            match message.said:
                case "silent":
                    await asyncio.Event().wait()
                case "rude":
                    return
            await stream.send(message)

    async def close(self) -> None:
        """Nothing is kept."""


async def _messages(stream: Stream) -> AsyncIterator[Knock]:
    while isinstance(message := await stream.receive(), Knock):
        yield message


APP = App(name="door", summary="", create=Door, commands="", signs=(b"door sign 1\0",))


@contextlib.asynccontextmanager
async def pair(folder: Path, *apps: str) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with the app, contacts of each other."""
    network = MemoryNetwork()
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name in ("anna", "ben"):
            home = folder / name
            home.mkdir(mode=0o700)
            transport = network.bind(load_or_create_key(home / "key").peer_id)
            opened = Node.open(home, transport=transport, apps=["contacts", *apps, APP])
            nodes.append(await stack.enter_async_context(opened))
        await befriend(*nodes)
        yield nodes[0], nodes[1]


def test_there_are_ten_members_and_no_more(tmp_path: Path) -> None:
    declared = {name for name in dir(Context) if not name.startswith("_")}
    assert declared == MEMBERS

    async def scene() -> None:
        async with Node.open(tmp_path / "home", offline=True, apps=[APP]) as node:
            context = node.door.context
            own = {name for name in dir(context) if not name.startswith("_")}
            assert own == MEMBERS | {"withdraw"}  # for the host
            assert all(not inspect.ismethod(getattr(context, name)) for name in MEMBERS)
            assert context.data.folder == tmp_path / "home" / "apps" / "door"
            assert context.me.peer_id == context.me.person == node.peer_id
            assert (context.me.name, context.me.addresses()) == (node.name, [])
            assert (context.net.reach, context.net.overlay) == (None, None)

    run(scene())


def test_a_peer_is_asked_and_answers(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path) as (anna, ben):
            net = ben.door.context.net
            assert await net.ask(anna.peer_id, DOOR, Knock("hello")) == Knock("hello")
            async with await net.open(anna.peer_id, DOOR) as stream:
                for said in ("one", "two"):
                    await stream.send(Knock(said))
                    assert await stream.receive() == Knock(said)
            with pytest.raises(TransportError, match="is connected but does not answer"):
                await net.ask(anna.peer_id, DOOR, Knock("silent"), timeout_s=0.05)
            with pytest.raises(PeerError, match="did not answer as coterie does"):
                await net.ask(anna.peer_id, DOOR, Knock("rude"))
            assert ben.peer_id in anna.door.met

    run(scene())


def test_what_an_app_has_is_taken_back_when_it_ends(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path) as (anna, ben):
            context = anna.door.context
            ended = asyncio.Event()

            async def last() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            context.jobs.start(last(), "waiting")
            await asyncio.sleep(0)
            anna.host.fail("door", "for the test")
            async with asyncio.timeout(10):
                await ended.wait()
            with pytest.raises(PeerError) as caught:
                await ben.door.context.net.ask(anna.peer_id, DOOR, Knock("hello"))
            assert caught.value.close_code == CloseCode.REFUSED
            with pytest.raises(UsageError, match="'door' has ended"):
                _ = context.mail

    run(scene())


def test_it_signs_what_it_declared(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Node.open(tmp_path / "home", offline=True, apps=[APP]) as node:
            me = node.door.context.me
            message = b"door sign 1\0hello"
            assert verify(me.peer_id, message, me.sign(message))
            with pytest.raises(AccessDenied, match="signs what it has not declared"):
                me.sign(b"door sign 2\0hello")

    run(scene())


def test_a_computer_knows_whose_it_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path, "circles") as (anna, ben):
            assert ben.door.context.me.person == ben.peer_id
            async with anna.circles.devices.invite() as invitation:
                await ben.circles.devices.join(invitation.invited.ticket)
            assert ben.door.context.me.person == anna.peer_id
            assert anna.door.context.me.person == anna.peer_id

    run(scene())
