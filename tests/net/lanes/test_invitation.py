"""Invitations: a lane that stands as soon as TCP does, and what peers and strangers may do with one instead."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from coterie.errors import PeerError, TransportError
from coterie.net import BulkStream
from coterie.net.ahead import Ahead
from coterie.net.lanes import bundle, invitation, lanes
from coterie.net.lanes.bundle import WAYS
from coterie.net.lanes.tls import LaneIdentity, Shaking
from coterie.wire.frames import Bulk
from coterie.wire.lanes import (
    LANE_ID_BYTES,
    PROTOCOL,
    SHAKE_BYTES_MAX,
    TOKEN_BYTES,
    WAYS_MAX,
    Coming,
    Invite,
    Shaken,
)
from tests.net.bulk_lab import BulkLab, block, lanes_of
from tests.net.conftest import NOTES, Note

AHEAD = Ahead(NOTES, NOTES.encode(Note("begin")), reads_bulk=True)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> BulkLab:
    """Where every path counts as a long one."""
    monkeypatch.setattr(lanes, "FAR_S", 0.0)
    return BulkLab("lane", after_bytes=1 << 20)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of all negotiations, as they are encoded."""
    words: list[str] = []
    encode = type(PROTOCOL).encode

    def heard(self: Any, message: Any) -> bytes:
        if self is PROTOCOL:
            words.append(type(message).__name__)
        return encode(self, message)

    monkeypatch.setattr(type(PROTOCOL), "encode", heard)
    return words


async def stay(stream: Any) -> None:
    """Be there until the other side ends."""
    while await stream.receive() is not None:
        pass


async def give_and_take(lab: BulkLab, *, is_dialled: bool) -> str:
    """Ten blocks from who expects to give much; the way that they came."""
    taker, giver = await lab.endpoint(1), await lab.endpoint(2)

    async def handle(stream: Any) -> None:
        assert await stream.receive(5.0) == Note("begin")
        stream.expect(100 << 20)
        while lanes_of(giver.connections[0])._making is not None and not stream.is_on_lane:
            await asyncio.sleep(0.01)
            await stream.write(block(b"x"))
        for _ in range(10):
            await stream.write(block(b"y"))
        await stream.finish()

    def take(bulk: BulkStream) -> str:
        way = "stream"
        while (frame := bulk.receive(10.0)) is not None:
            assert isinstance(frame, Bulk)
            way = "lane" if bulk.is_on_lane else way
        return way

    giver.register(NOTES, handle, strangers=True)
    try:
        if not is_dialled:
            await taker.connect(giver.peer_id, giver.addresses)
        connection = await taker.connect(giver.peer_id, giver.addresses, ahead=AHEAD)
        return await BulkStream(await connection.open_ahead(AHEAD), takes_bulk=True).drive(take)
    finally:
        await taker.close()
        await giver.close()


@pytest.mark.parametrize("is_dialled", [True, False], ids=["with the greeting", "on a connection"])
def test_who_reads_over_a_long_path_says_at_once_where_to_come(
    lab: BulkLab, said: list[str], *, is_dialled: bool
) -> None:
    async def scene() -> None:
        assert await give_and_take(lab, is_dialled=is_dialled) == "lane"

    lab.run(scene())
    assert said == ["Invite", "Coming", "Shaken", "Ready"]


@pytest.mark.parametrize("knows", [True, False], ids=["by the rate", "as the system has it"])
def test_over_a_far_path_a_lane_has_several_connections_where_they_can_go_by_the_rate(
    lab: BulkLab, said: list[str], monkeypatch: pytest.MonkeyPatch, *, knows: bool
) -> None:
    came: list[str] = []
    add = bundle.Connections.add

    def counted(self: bundle.Connections, sock: socket.socket) -> None:
        came.append(threading.current_thread().name)
        add(self, sock)

    monkeypatch.setattr(bundle.Connections, "add", counted)
    monkeypatch.setattr(lanes, "WAYS_FROM_US", 0)
    monkeypatch.setattr(invitation, "goes_by_rate", lambda: knows)

    async def scene() -> None:
        assert await give_and_take(lab, is_dialled=True) == "lane"

    lab.run(scene())
    assert said == ["Invite", "Coming", "Shaken", "Ready"]
    assert len(came) == (2 * (WAYS - 1) if knows else 0)


def test_nobody_is_invited_over_a_short_path(said: list[str]) -> None:
    lab = BulkLab("lane", after_bytes=1 << 20)

    async def scene() -> None:
        assert await give_and_take(lab, is_dialled=True) == "lane"

    lab.run(scene())
    assert said == ["Offer", "Listening", "Ready"]


def test_an_invitation_that_cannot_be_reached_costs_nothing_but_itself(
    lab: BulkLab, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: Any) -> socket.socket:
        raise TransportError("a firewall")

    async def scene() -> None:
        monkeypatch.setattr(invitation, "dialled", unreachable)
        assert await give_and_take(lab, is_dialled=True) == "lane"

    lab.run(scene())
    assert said[:2] == ["Invite", "Coming"]
    assert said[-4:] == ["Offer", "Listening", "DialMe", "Ready"]


def test_a_giver_that_knows_of_no_invitations_makes_its_offer(
    lab: BulkLab, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def skip(self: Any, stream: Any, _: Any) -> None:
        await stream.receive(10.0)

    async def scene() -> None:
        monkeypatch.setattr(lanes.PeerLanes, "be_invited", skip)
        assert await give_and_take(lab, is_dialled=True) == "lane"

    lab.run(scene())
    assert said == ["Invite", "Offer", "Listening", "Ready"]


def test_a_listener_of_an_invitation_that_nobody_follows_closes(
    lab: BulkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitation, "INVITED_S", 0.2)

    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):
            giver.register(NOTES, stay, strangers=True)
            here = lanes_of(connection)
            for _ in range(2):  # one is enough
                stream = await connection.open_ahead(AHEAD)
                await stream.reset()
            assert len(here._lanes.listener.listening_at) == 1
            assert len(here._coming) == 1
            while here._coming:
                await asyncio.sleep(0.02)
            assert here._lanes.listener.listening_at == []

    lab.run(scene())


@pytest.mark.parametrize(
    "told",
    [
        {"certificate": b""},
        {"token": bytes(TOKEN_BYTES - 1)},
        {"port": 443},
        {"port": 0},
        {"lane": bytes(LANE_ID_BYTES - 1)},
        {"shake": b""},
        {"more": (bytes(TOKEN_BYTES - 1),)},
        {"more": (bytes(TOKEN_BYTES),) * WAYS_MAX},
        {"shake": bytes(SHAKE_BYTES_MAX + 1), "certificate": b"c"},
    ],
    ids="-".join,
)
def test_an_invitation_that_cannot_be_is_refused(lab: BulkLab, told: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "certificate": LaneIdentity().certificate,
        "token": bytes(TOKEN_BYTES),
        "port": 40_000,
        "lane": bytes(LANE_ID_BYTES),
        "shake": b"hello",
        **told,
    }

    async def scene() -> None:
        async with lab.pair() as (connection, _, _giver):
            with pytest.raises(PeerError, match="protocol_violation"):
                async with await connection.open_stream(PROTOCOL, PROTOCOL.encode(Invite(**good))) as stream:
                    await stream.receive(5.0)

    lab.run(scene())


def test_whoever_shows_the_token_and_has_no_keys_is_not_heard(lab: BulkLab) -> None:
    """It overheard the token, and is faster than the writer."""

    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):
            here = lanes_of(connection)
            made = await here._lanes.invitation(connection)
            assert made is not None
            here.await_invited(made)
            invite = await invited_by(giver, made.first)
            thief = socket.create_connection((made.remote, invite.port))
            await asyncio.to_thread(thief.sendall, invite.token + b"\x17\x03\x03\x00\x40" + os.urandom(64))
            lane = await asyncio.to_thread(here.take_to_read, made.lane)
            with pytest.raises(TransportError, match="broke"):
                await asyncio.to_thread(lane.read_into, memoryview(bytearray(100)), 1, 5.0)
            thief.close()
            lane.close()

    lab.run(scene())


async def invited_by(giver: Any, first: bytes) -> Invite:
    """The giver's half of the handshake, without the TCP connection; the invitation that began it."""
    while not (waiting := lanes_of(giver.connections[0])._invited):
        await asyncio.sleep(0.01)
    invite = waiting.invite
    assert PROTOCOL.encode(invite) == first
    identity = LaneIdentity()
    shaking = Shaking(identity, invite.certificate, is_server=True)
    await waiting.stream.send(Coming(identity.certificate, shaking.step(invite.shake)))
    shaken = await waiting.stream.receive(5.0)
    assert isinstance(shaken, Shaken)
    shaking.step(shaken.shake)
    assert shaking.is_done
    shaking.close()
    return invite


# ---- the handshake alone


def shaken(client: Shaking, server: Shaking, change: Callable[[bytes], bytes] = lambda data: data) -> None:
    """All of it, what the client says at last changed on the way."""
    server.step(change(client.step(server.step(client.step()))))


def test_a_handshake_that_travelled_apart_secures_a_connection() -> None:
    a, b = LaneIdentity(), LaneIdentity()
    client, server = Shaking(a, b.certificate, is_server=False), Shaking(b, a.certificate, is_server=True)
    shaken(client, server)
    assert client.is_done
    assert server.is_done
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        came, _ = listener.accept()
    one, other = client.secure(dialled), server.secure(came)
    assert one.version() == "TLSv1.3"
    for sock in (one, other):
        sock.settimeout(5.0)
    other.sendall(b"bulk")
    assert one.recv(10) == b"bulk"
    one.close()
    other.close()


@pytest.mark.parametrize("liar", ["client", "server"])
def test_somebody_with_another_certificate_does_not_get_through(liar: str) -> None:
    a, b, mallory = LaneIdentity(), LaneIdentity(), LaneIdentity()
    client = Shaking(mallory if liar == "client" else a, b.certificate, is_server=False)
    server = Shaking(mallory if liar == "server" else b, a.certificate, is_server=True)
    with pytest.raises(TransportError, match="secured"):
        shaken(client, server)
    client.close()
    server.close()


def test_a_handshake_that_was_changed_on_the_way_does_not_get_through() -> None:
    a, b = LaneIdentity(), LaneIdentity()
    client, server = Shaking(a, b.certificate, is_server=False), Shaking(b, a.certificate, is_server=True)
    with pytest.raises(TransportError, match="secured"):
        shaken(client, server, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    client.close()
    server.close()
