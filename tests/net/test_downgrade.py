"""Nobody is talked into an older version than it offers."""

import asyncio

import pytest

from coterie.errors import CloseCode, PeerError
from coterie.wire import Protocol
from coterie.wire.handshake import HANDSHAKE, Hello, StreamHeader, StreamReply, Welcome
from tests.net.conftest import Lab, Note
from tests.net.test_hostile import BOOT, first_message, intrude

NEW_ONLY = Protocol("notes", (2, 3), {1: Note})


def test_an_answer_in_a_version_that_was_not_offered_is_refused(lab: Lab) -> None:
    """The other side would like to speak version 1, whose weakness it knows; we offered 2 and 3."""

    async def scene() -> None:
        hostile = await lab.transport(66)
        async with lab.endpoints(1) as (victim,):

            async def answer() -> None:
                raw = await hostile.accept()
                greeting = await raw.accept_stream()
                assert isinstance(await first_message(greeting), Hello)
                await greeting.write(HANDSHAKE.encode(Welcome(BOOT)))
                await greeting.finish()
                stream = await raw.accept_stream()
                assert isinstance(await first_message(stream), StreamHeader)
                await stream.write(HANDSHAKE.encode(StreamReply(1)))
                await raw.closed()

            answering = asyncio.ensure_future(answer())
            connection = await victim.connect(hostile.peer_id, hostile.addresses)
            with pytest.raises(PeerError, match="not on offer"):
                await connection.open_stream(NEW_ONLY)
            connection.close()
            await answering

    lab.run(scene())


def test_a_header_that_offers_only_an_old_version_gets_no_stream(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(1) as (victim,):
            victim.register(NEW_ONLY, _never)
            raw = await intrude(lab, victim)
            stream = await raw.open_stream()
            await stream.write(HANDSHAKE.encode(StreamHeader("notes", [1])))
            with pytest.raises(PeerError) as refused:
                while await stream.read(4096):
                    pass
            assert refused.value.close_code == CloseCode.VERSION

    lab.run(scene())


async def _never(stream: object) -> None:
    raise AssertionError("a stream in a version that is not ours")
