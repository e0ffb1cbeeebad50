"""Permissions of whole nodes: asked at the guard, explained by `coterie may`, logged, taken back while in use."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.control.permissions import answer, audit_lines
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError, UsageError
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from coterie.transfer.messages import PROTOCOL as FILES
from coterie.transfer.messages import Opened
from coterie.wire import Protocol
from coterie.wire.frames import Message
from tests.apps.circles.nodes import let_in, people, until
from tests.apps.files.nodes import memory_node, opening
from tests.support import run

END_S = 5.0  # what is taken back ends within so long


class Note(Message, frozen=True):
    """A message for tests."""

    text: str


CHAT = Protocol("chat-of-test", (1,), {1: Note})


@contextlib.asynccontextmanager
async def friends(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Anna and ben, who know each other; anna serves CHAT to whom she knows."""
    network = MemoryNetwork()
    async with (
        memory_node(network, folder / "home-anna") as anna,
        memory_node(network, folder / "home-ben") as ben,
    ):
        async with anna.contacts.invite() as invitation:
            await ben.contacts.join(invitation.invited.ticket)
        anna.contacts.rename(str(ben.peer_id), "ben")
        assert anna.endpoint is not None

        async def serve(stream: Stream) -> None:
            while (note := await stream.receive()) is not None:
                await stream.send(note)

        anna.access.open_protocol(CHAT.name, strangers=False)
        anna.endpoint.register(CHAT, serve)
        yield anna, ben


def test_a_contact_may_what_a_stranger_may_not(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            link = await ben.connect(anna.peer_id, anna.addresses)
            async with await link.open_stream(CHAT) as stream:
                await stream.send(Note("hello"))
                assert await stream.receive() == Note("hello")
            yes = answer(anna, "ben", "use", f"protocol/{CHAT.name}")
            assert yes.allowed
            assert "all who are known here may use protocol/chat-of-test" in yes.text()
            anna.contacts.remove("ben")
            with pytest.raises(PeerError) as refused:
                await link.open_stream(CHAT)
            assert refused.value.close_code == CloseCode.REFUSED
            no = answer(anna, str(ben.peer_id), "use", f"protocol/{CHAT.name}")
            assert not no.allowed
            assert "nothing allows it to anyone" in no.text()
            lines = audit_lines(anna, "", refused=True, limit=10)
            assert [(line.verb, line.resource) for line in lines] == [("use", "protocol/chat-of-test")]

    run(scene())


def test_a_stream_under_way_ends_when_its_peer_is_no_longer_known(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            link = await ben.connect(anna.peer_id, anna.addresses)
            stream = await link.open_stream(CHAT)
            await stream.send(Note("hello"))
            assert await stream.receive() == Note("hello")
            began = asyncio.get_running_loop().time()
            anna.contacts.remove("ben")
            with pytest.raises(PeerError) as ended:
                await stream.receive(END_S)
            assert ended.value.close_code == CloseCode.REVOKED
            assert asyncio.get_running_loop().time() - began < END_S
            await stream.reset()

    run(scene())


def test_a_revoked_device_loses_its_connection_at_once(tmp_path: Path) -> None:
    """The drill, as far as this node is concerned: anna's phone is stolen; her laptop takes it off the list."""

    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "laptop") as laptop,
            memory_node(network, tmp_path / "phone") as phone,
        ):
            devices = laptop.service("circles").devices
            async with devices.invite() as invitation:
                await phone.service("circles").devices.join(invitation.invited.ticket)
            (tmp_path / "diary").write_text("mine")
            await laptop.files.share(tmp_path / "diary", to=["anyone"])
            place = f"{laptop.peer_id}/diary"
            assert await phone.directory.look(place)
            link = await phone.connect(laptop.peer_id, laptop.addresses)
            began = asyncio.get_running_loop().time()
            devices.remove(str(phone.peer_id))
            async with asyncio.timeout(END_S):
                await link.closed()
            assert asyncio.get_running_loop().time() - began < END_S
            with pytest.raises(CoterieError):
                await phone.directory.look(place)
            with pytest.raises(CoterieError):
                await phone.files.get_place(place, tmp_path / "stolen")
            no = answer(laptop, str(phone.peer_id), "list", "files/diary")
            assert not no.allowed

    run(scene())


def test_a_session_of_a_removed_member_ends_and_its_role_counts(tmp_path: Path) -> None:
    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "owner") as owner,
            memory_node(network, tmp_path / "member") as member,
        ):
            circles = owner.service("circles")
            circles.create("home")
            async with circles.invite("home", role="member") as invitation:
                await member.service("circles").join(invitation.invited.ticket)
            async with asyncio.timeout(10):
                while not circles.roles_of(member.peer_id):
                    await asyncio.sleep(0.02)
            owner.contacts.remove(str(member.peer_id))
            (tmp_path / "diary").write_text("ours")
            await owner.files.share(tmp_path / "diary", to=["home"])
            ticket = await member.files.locate(f"{owner.peer_id}/diary")
            link = await member.connect(owner.peer_id, owner.addresses)
            stream = await link.open_stream(FILES)
            await stream.send(opening(ticket, member.peer_id))
            assert isinstance(await stream.receive(END_S), Opened)
            name = next(m.name for m in circles.members("home") if str(member.peer_id) in m.devices)
            began = asyncio.get_running_loop().time()
            circles.remove("home", name)
            with pytest.raises(PeerError) as ended:
                while await stream.receive(END_S) is not None:
                    pass
            assert ended.value.close_code == CloseCode.REVOKED
            assert asyncio.get_running_loop().time() - began < END_S
            await stream.reset()
            with pytest.raises(NotFound):
                await member.files.locate(f"{owner.peer_id}/diary")

    run(scene())


def test_what_is_said_about_permissions_has_names_and_no_ids(tmp_path: Path) -> None:
    """Ben joined the circle; carl owns it too, and is no contact of anna's."""

    async def scene() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            owner = anna.service("circles")
            owner.create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in(ben, carl, "home")
            (tmp_path / "diary").write_text("ours")
            await anna.files.share(tmp_path / "diary", to=["home:owner", "ben"])
            await until(lambda: len(owner.members("home")) == 3)
            assert answer(anna, "ben", "read", "files/diary").text() == (
                "yes: ben may read files/diary\n"
                "  home:owner may list, read files/diary\n"
                "  ben may list, read files/diary"
            )
            assert answer(anna, "carl", "read", "files/diary").text() == (
                "no: carl may not read files/diary\n"
                "  nothing allows it to anyone, all who are known here, home:guest, home, carl"
            )
            place = f"{anna.peer_id}/diary"
            assert await ben.directory.look(place)
            with pytest.raises(NotFound):
                await carl.files.get_place(place, tmp_path / "stolen")
            (refused,) = audit_lines(anna, "carl", refused=True, limit=10)
            assert (refused.peer, refused.answer) == ("carl", "refused")
            assert (
                refused.reason
                == "nothing allows it to anyone, all who are known here, home:guest, home, carl"
            )
            used = [line for line in audit_lines(anna, "ben", refused=False, limit=10) if line.verb == "list"]
            assert [(line.peer, line.resource) for line in used] == [("ben", "files/diary")]
            assert used[0].reason == "home:owner may list, read files/diary; ben may list, read files/diary"

    run(scene())


def test_questions_that_cannot_be_answered_say_why(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            with pytest.raises(UsageError, match="nothing one can do to protocol"):
                answer(anna, "ben", "read", "protocol/chat")
            with pytest.raises(UsageError, match="no resource"):
                answer(anna, "ben", "read", "/etc/passwd")
            with pytest.raises(UsageError, match="one verb"):
                answer(anna, "ben", "read,list", "files")
            with pytest.raises(UsageError, match="lines"):
                audit_lines(anna, "", refused=False, limit=10_000)

    run(scene())
