"""Nobody is talked into an older version than it offers."""

import asyncio

import pytest

from coterie.errors import CloseCode, PeerError, TransportError
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


def test_an_older_form_of_the_whole_transport_finds_nobody(
    quic: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the form (ALPN) is part of the TLS handshake: both sides sign what both have heard of it."""

    async def scene() -> None:
        victim = await quic.transport(1)
        monkeypatch.setattr("coterie.net.quic.transport.ALPN", b"coterie/0")
        with pytest.raises(TransportError):
            await (await quic.transport(2)).connect(victim.peer_id, victim.addresses)

    quic.run(scene())


def test_nobody_stands_between_two_peers_to_change_what_they_offer(quic: Lab) -> None:
    """Whoever answers at an address without the key that was dialled gets no connection, so reads nothing."""

    async def scene() -> None:
        dialler, between, wanted = [await quic.transport(number) for number in (1, 2, 3)]
        with pytest.raises(TransportError):
            await dialler.connect(wanted.peer_id, between.addresses)

    quic.run(scene())


async def _never(stream: object) -> None:
    raise AssertionError("a stream in a version that is not ours")
