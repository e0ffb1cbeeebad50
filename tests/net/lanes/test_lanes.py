"""Making lanes, and everything that strangers and peers may do instead."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from coterie.errors import CloseCode, LimitExceeded, PeerError, TransportError
from coterie.net import BulkStream, Lanes
from coterie.net.ahead import Ahead
from coterie.net.interfaces import PathInfo
from coterie.net.lanes.dialling import SHORT_S, is_local_path, segment_seen
from coterie.net.lanes.lanes import LANES_PER_PEER_MAX, READER_S, PeerLanes
from coterie.net.lanes.listener import (
    INVITED_MAX,
    STRANGERS_MAX,
    TOKEN_S,
    LaneListener,
    local_ip_towards,
)
from coterie.net.lanes.tls import LaneIdentity
from coterie.wire.frames import Bulk
from coterie.wire.lanes import (
    PROTOCOL,
    TOKEN_BYTES,
    Declined,
    DialMe,
    Failed,
    Listening,
    Offer,
    Op,
    Signal,
    encode_signal,
)
from tests.net.bulk_lab import BulkLab, block, lanes_of, move_to_lane
from tests.net.conftest import NOTES, Note
from tests.support import run


@pytest.fixture
def lab() -> BulkLab:
    return BulkLab("lane")


def stay(bulk: BulkStream) -> None:
    """Be there until the other side ends."""
    while bulk.receive() is not None:
        pass


async def taking(lab: BulkLab, connection: Any, giver: Any) -> "asyncio.Task[Any]":
    """A taker who waits for bulk, so that its node accepts lanes; cancel it at the end."""
    here = asyncio.Event()

    async def handle(stream: Any) -> None:
        here.set()
        await BulkStream(stream).drive(stay)

    giver.register(NOTES, handle, strangers=True)
    bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
    task = asyncio.create_task(bulk.drive(stay))
    await here.wait()
    return task


def loopback_of(connection: Any) -> str:
    """On which of the two loopback addresses QUIC has settled: lanes go there."""
    return str(connection.path.remote.rpartition(":")[0].strip("[]"))


async def end(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])


# ---- the listener and strangers


def test_a_listener_is_open_only_while_somebody_is_awaited() -> None:
    async def scene() -> None:
        listener = LaneListener()
        assert listener.listening_at == []
        _, port, came = listener.invite("127.0.0.1")
        _, same_port, other = listener.invite("127.0.0.1")
        assert port == same_port
        assert listener.listening_at == [("127.0.0.1", port)]
        came.cancel()
        await asyncio.sleep(0)
        assert len(listener.listening_at) == 1
        other.cancel()
        await asyncio.sleep(0.01)
        assert listener.listening_at == []
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), 2.0)
        await listener.close()

    run(scene())


@pytest.mark.parametrize(
    "said",
    [
        bytes(TOKEN_BYTES),
        os.urandom(TOKEN_BYTES),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
        b"x" * (TOKEN_BYTES - 1),
    ],
    ids=["zeros", "noise", "http", "tls", "short"],
)
def test_a_stranger_sees_a_connection_that_closes(said: bytes) -> None:
    async def scene() -> None:
        listener = LaneListener()
        _, port, came = listener.invite("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        if len(said) < TOKEN_BYTES:
            writer.write_eof()
        with contextlib.suppress(ConnectionError):  # closed over unread bytes: a reset says as little
            assert await reader.read() == b"", "not a byte before the token"
        writer.close()
        assert not came.done()
        came.cancel()
        await listener.close()

    run(scene())


def test_a_stranger_that_is_slow_is_closed_and_holds_up_nobody() -> None:
    async def scene() -> None:
        listener = LaneListener()
        token, port, came = listener.invite("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = asyncio.get_running_loop().time()

        async def drip() -> None:
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.2)

        dripping = asyncio.create_task(drip())
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(token)
        taken = await came
        assert asyncio.get_running_loop().time() - began < TOKEN_S
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began < TOKEN_S + 2.0
        await dripping
        writer.close()
        sock.close()
        taken.close()
        await listener.close()

    run(scene())


def test_of_more_strangers_than_the_bound_the_oldest_is_closed_at_once_and_who_is_awaited_gets_in() -> None:
    async def scene() -> None:
        listener = LaneListener()
        token, port, came = listener.invite("127.0.0.1")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(STRANGERS_MAX)]
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await silent[0][0].read() == b""
        assert asyncio.get_running_loop().time() - began < TOKEN_S / 2
        writer.write(token)
        async with asyncio.timeout(TOKEN_S / 2):
            (await came).close()
        for _, other in [*silent, (reader, writer)]:
            other.close()
        await listener.close()

    run(scene())


def test_a_token_serves_once() -> None:
    async def scene() -> None:
        listener = LaneListener()
        token, port, came = listener.invite("127.0.0.1")
        _, _, other = listener.invite("127.0.0.1")  # keeps it open
        first = socket.create_connection(("127.0.0.1", port))
        first.sendall(token)
        taken = await came
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(token)
        assert await reader.read() == b""
        for thing in (writer, first, taken):
            thing.close()
        other.cancel()
        await listener.close()

    run(scene())


def test_one_invitation_more_than_the_bound() -> None:
    async def scene() -> None:
        listener = LaneListener()
        invited = [listener.invite("127.0.0.1")[2] for _ in range(INVITED_MAX)]
        with pytest.raises(LimitExceeded, match="INVITED_MAX"):
            listener.invite("127.0.0.1")
        for came in invited:
            came.cancel()
        await listener.close()

    run(scene())


def test_lanes_follow_the_address_that_the_node_is_bound_to() -> None:
    assert local_ip_towards("127.0.0.1", "0.0.0.0") == "127.0.0.1"
    assert local_ip_towards("127.0.0.1", "127.0.0.1") == "127.0.0.1"
    assert local_ip_towards("192.0.2.1", "127.0.0.1") is None


def test_a_node_of_local_reach_uses_private_addresses_only() -> None:
    assert is_local_path(PathInfo("direct", "192.168.1.7:4000"))
    assert is_local_path(PathInfo("direct", "[fd00::1]:4000"))
    assert not is_local_path(PathInfo("direct", "8.8.8.8:4000"))
    assert not is_local_path(PathInfo("relay", "http://relay:80"))


@pytest.mark.parametrize(
    ("payload_bytes", "rtt_s", "segment"),
    [
        (1252, 0.02, 1240),
        (1400, 0.02, 0),
        (1399, 0.02, 1387),
        (0, 0.02, 0),
        (1252, SHORT_S, 0),
        (1252, None, 0),
    ],
)
def test_segments_are_no_larger_than_what_the_path_was_seen_to_carry(
    payload_bytes: int, rtt_s: float | None, segment: int
) -> None:
    """A path of 1280: 1252 of UDP, 1240 of TCP. Within one network the system knows better."""
    assert segment_seen(PathInfo("direct", "192.0.2.7:4000", rtt_s, 0, payload_bytes)) == segment


# ---- TLS


def secured(client: Any, server: Any) -> tuple[Any, Any]:
    """Run both sides over a pair of sockets; what each returned or raised."""
    one, other = socket.socketpair()
    results: list[Any] = [None, None]

    def side(index: int, work: Any, sock: socket.socket) -> None:
        try:
            results[index] = work(sock)
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            results[index] = error
            sock.close()

    threads = [
        threading.Thread(target=side, args=(0, client, one)),
        threading.Thread(target=side, args=(1, server, other)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    return results[0], results[1]


def close_all(*things: Any) -> None:
    for thing in things:
        if isinstance(thing, socket.socket):
            thing.close()


def test_both_sides_know_each_other_and_speak_tls_1_3() -> None:
    a, b = LaneIdentity(), LaneIdentity()
    one, other = secured(
        lambda s: a.wrap(s, b.certificate, is_server=False),
        lambda s: b.wrap(s, a.certificate, is_server=True),
    )
    assert one.version() == other.version() == "TLSv1.3"
    close_all(one, other)


@pytest.mark.parametrize("liar", ["client", "server"])
def test_somebody_with_another_certificate_gets_no_lane(liar: str) -> None:
    a, b, mallory = LaneIdentity(), LaneIdentity(), LaneIdentity()
    client, server = (mallory, b) if liar == "client" else (a, mallory)
    one, other = secured(
        lambda s: client.wrap(s, b.certificate, is_server=False),
        lambda s: server.wrap(s, a.certificate, is_server=True),
    )
    deceived = other if liar == "client" else one
    assert isinstance(deceived, TransportError)
    close_all(one, other)


def _foreign(version: ssl.TLSVersion, identity: LaneIdentity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_of_old_tls_or_without_a_certificate_gets_no_lane(version: ssl.TLSVersion) -> None:
    a, b = LaneIdentity(), LaneIdentity()

    def client(sock: socket.socket) -> bytes:
        with _foreign(version, None).wrap_socket(sock) as wrapped:
            return wrapped.recv(1)

    one, other = secured(client, lambda s: b.wrap(s, a.certificate, is_server=True))
    assert isinstance(other, TransportError)
    assert isinstance(one, OSError)


@pytest.mark.parametrize("garbage", [b"", os.urandom(2000), b"\x16\x03\x03\xff\xff" + bytes(100)])
def test_garbage_in_place_of_tls_gets_no_lane(garbage: bytes) -> None:
    a, b = LaneIdentity(), LaneIdentity()

    def client(sock: socket.socket) -> None:
        sock.sendall(garbage)
        sock.close()

    _, other = secured(client, lambda s: b.wrap(s, a.certificate, is_server=True))
    assert isinstance(other, TransportError)


@pytest.mark.parametrize("told", [b"no certificate", b"\x30\x03\x02\x01\x01"])
def test_a_certificate_that_is_none_is_the_peers_fault(told: bytes) -> None:
    one, other = socket.socketpair()
    with pytest.raises(PeerError, match="certificate"):
        LaneIdentity().wrap(one, told, is_server=True)
    other.close()


def test_certificates_say_nothing_and_are_never_the_same() -> None:
    a, b = LaneIdentity(), LaneIdentity()
    assert a.certificate != b.certificate
    assert len(a.certificate) < 512
    assert socket.gethostname().encode() not in a.certificate


# ---- the negotiation, by a peer that misbehaves


def test_nobody_offers_a_lane_to_a_node_that_takes_no_bulk(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (_, taker, giver):
            connection = await giver.connect(taker.peer_id)
            async with await connection.open_stream(PROTOCOL) as stream:
                await stream.send(Offer(LaneIdentity().certificate))
                assert await stream.receive(5.0) == Declined()

    lab.run(scene())


def test_an_offer_that_is_heard_before_what_makes_us_read_bulk_is_taken_all_the_same(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            offer = PROTOCOL.encode(Offer(LaneIdentity().certificate))
            stream = await (await giver.connect(taker.peer_id)).open_stream(PROTOCOL, offer)
            heard = asyncio.create_task(stream.receive(5.0))
            await asyncio.sleep(READER_S / 10)
            task = await taking(lab, connection, giver)
            assert isinstance(await heard, Listening)
            await stream.reset()
            await end(task)

    lab.run(scene())


def test_an_offer_that_an_old_reader_declines_too_early_is_made_again_once(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (_, taker, giver):
            lanes = lanes_of(await giver.connect(taker.peer_id))
            for is_tried_again in (True, False):
                lanes._begin()
                assert lanes._making is not None
                await lanes._making
                assert lanes.problem == "the peer wants no lane"
                assert lanes.choice.wants_lane(time.monotonic()) is is_tried_again

    lab.run(scene())


def test_the_writer_begins_before_the_reader_says_that_the_lane_stands(
    lab: BulkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the reader waits for the lane that it is told of."""

    gate = asyncio.Event()  # the word that the stream goes on over the lane is here before the lane is

    async def reached(self: PeerLanes, *given: Any, real: Any = PeerLanes._reached) -> Any:
        secured = await real(self, *given)
        await gate.wait()
        return secured

    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            monkeypatch.setattr(PeerLanes, "_reached", reached)
            task = await taking(lab, connection, giver)
            lanes = lanes_of(await giver.connect(taker.peer_id))
            making = asyncio.create_task(lanes._offer())
            await lanes._stands.wait()
            assert not making.done()
            with lanes._lock:
                (lane,) = lanes._to_write
            here = lanes_of(connection)
            assert lane.id in here._coming
            coming = asyncio.create_task(asyncio.to_thread(here.take_to_read, lane.id))
            gate.set()
            taken = await coming
            assert taken.id == lane.id
            assert await making is lane
            taken.close()
            lane.close()
            await end(task)

    lab.run(scene())


def test_a_switch_to_a_lane_that_does_not_come_about_ends_at_once(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, _, _giver):
            lanes = lanes_of(connection)
            lanes._coming.add(b"l" * 16)
            taking = asyncio.create_task(asyncio.to_thread(lanes.take_to_read, b"l" * 16))
            await asyncio.sleep(0.05)
            assert not taking.done()
            await lanes.close()
            with pytest.raises(TransportError, match="not here"):
                await taking

    lab.run(scene())


@pytest.mark.parametrize("certificate", [b"", bytes(1025)])
def test_an_impossible_certificate_ends_the_negotiation(lab: BulkLab, certificate: bytes) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            task = await taking(lab, connection, giver)
            stream = await (await giver.connect(taker.peer_id)).open_stream(PROTOCOL)
            await stream.send(Offer(certificate))
            with pytest.raises(PeerError) as raised:
                await stream.receive(5.0)
            assert raised.value.close_code == CloseCode.PROTOCOL_VIOLATION
            await stream.reset()
            await end(task)

    lab.run(scene())


@pytest.mark.parametrize("port", [22, 80, 443, 1023, 70_000])
def test_a_peer_cannot_make_us_dial_a_service(lab: BulkLab, port: int) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            task = await taking(lab, connection, giver)
            stream = await (await giver.connect(taker.peer_id)).open_stream(PROTOCOL)
            await stream.send(Offer(LaneIdentity().certificate))
            assert isinstance(await stream.receive(5.0), Listening)
            await stream.send(DialMe(bytes(TOKEN_BYTES), port))
            with pytest.raises(PeerError, match="protocol_violation"):
                await stream.receive(5.0)
            await stream.reset()
            await end(task)

    lab.run(scene())


def test_only_the_peers_own_address_is_dialled(lab: BulkLab) -> None:
    """Nothing in the negotiation names a host: what is dialled is where the connection itself goes."""

    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            task = await taking(lab, connection, giver)
            ip = loopback_of(connection)
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            listener = socket.create_server((ip, 0), family=family)
            stream = await (await giver.connect(taker.peer_id)).open_stream(PROTOCOL)
            await stream.send(Offer(LaneIdentity().certificate))
            assert isinstance(await stream.receive(5.0), Listening)
            token = os.urandom(TOKEN_BYTES)
            await stream.send(DialMe(token, listener.getsockname()[1]))
            listener.settimeout(5.0)
            sock, from_ = await asyncio.to_thread(listener.accept)
            assert from_[0] == ip
            sock.settimeout(5.0)
            assert await asyncio.to_thread(sock.recv, TOKEN_BYTES) == token
            sock.close()
            assert await stream.receive(10.0) == Failed()
            listener.close()
            await end(task)

    lab.run(scene())


def test_a_replayed_token_of_an_earlier_lane_is_refused(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            task = await taking(lab, connection, giver)
            back = await giver.connect(taker.peer_id)
            first = await back.open_stream(PROTOCOL)
            await first.send(Offer(LaneIdentity().certificate))
            listening = await first.receive(5.0)
            assert isinstance(listening, Listening)
            await first.reset()
            second = await back.open_stream(PROTOCOL)
            await second.send(Offer(LaneIdentity().certificate))
            other = await second.receive(5.0)
            assert isinstance(other, Listening)
            assert other.token != listening.token
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection(loopback_of(connection), other.port)
            writer.write(listening.token)
            assert await reader.read() == b""
            writer.close()
            await second.reset()
            await end(task)

    lab.run(scene())


def test_a_switch_that_nobody_agreed_to_ends_the_conversation() -> None:
    lab = BulkLab("quic")

    def give(bulk: BulkStream) -> None:
        bulk.write(encode_signal(Signal(Op.SWITCH, bytes(16))))
        stay(bulk)

    talk = lab.run(lab.talk(give, lambda bulk: bulk.receive(5.0)))
    assert isinstance(talk.took, PeerError)


@pytest.mark.parametrize("signal", [Signal(Op.SWITCH, bytes(16)), Signal(Op.SWITCH, b"x"), Signal(Op.BACK)])
def test_a_switch_to_nowhere_ends_the_conversation(lab: BulkLab, signal: Signal) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):

            def give(bulk: BulkStream) -> None:
                bulk.write(encode_signal(signal))
                stay(bulk)

            lab.kind = "quic"  # do not move first
            talk = await lab.converse(connection, giver, give, lambda bulk: bulk.receive(5.0))
            assert isinstance(talk.took, PeerError | TransportError)
            assert isinstance(talk.gave, PeerError)

    lab.run(scene())


def test_lanes_of_one_peer_that_no_stream_takes_up_are_bounded(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, taker, giver):
            task = await taking(lab, connection, giver)
            lanes = lanes_of(await giver.connect(taker.peer_id))
            made = [await lanes._offer() for _ in range(LANES_PER_PEER_MAX + 1)]
            await asyncio.sleep(0.1)
            assert [lane.has_ended for lane in made] == [True] + [False] * LANES_PER_PEER_MAX
            for lane in made:
                lane.close()
            await end(task)

    lab.run(scene())


# ---- what becomes of a transfer


def give_forever(bulk: BulkStream) -> None:
    while True:
        bulk.write(block(bytes(100_000)))


def test_a_lane_that_is_cut_ends_the_conversation_and_the_next_goes_over_the_stream(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):

            def take(bulk: BulkStream) -> None:
                bulk.receive(5.0)
                assert bulk._reading is not None
                bulk._reading._socket.shutdown(socket.SHUT_RDWR)  # as a router that forgets the connection
                while True:
                    bulk.receive(5.0)

            talk = await lab.converse(connection, giver, give_forever, take)
            assert isinstance(talk.took, TransportError)
            assert isinstance(talk.gave, TransportError | PeerError)
            assert not connection.is_closed

            async def handle(stream: Any) -> None:
                await BulkStream(stream).drive(give_some)

            def give_some(bulk: BulkStream) -> None:
                bulk.receive(5.0)
                for number in range(100):
                    bulk.write(block(number.to_bytes(1, "big") * 10_000))

            def take_all(bulk: BulkStream) -> list[bytes]:
                bulk.send(Note("begin"))
                got = []
                while (frame := bulk.receive(5.0)) is not None:
                    assert isinstance(frame, Bulk)
                    assert bulk.path is not None
                    assert bulk.path.kind == "direct"
                    got.append(bytes(frame.data[:1]))
                return got

            giver._router._routes.pop("notes")
            giver.register(NOTES, handle, strangers=True)
            bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
            assert await bulk.drive(take_all) == [bytes([n]) for n in range(100)]

    lab.run(scene())


def test_one_lane_serves_one_conversation_after_the_other(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):
            seen: list[bytes] = []

            async def handle(stream: Any) -> None:
                def give(bulk: BulkStream) -> None:
                    bulk.receive(5.0)
                    move_to_lane(bulk)
                    assert bulk._writing is not None
                    seen.append(bulk._writing.id)
                    bulk.write(block(b"x" * 300_000))

                await BulkStream(stream).drive(give)

            def take(bulk: BulkStream) -> int:
                bulk.send(Note("begin"))
                size = 0
                while (frame := bulk.receive(5.0)) is not None:
                    size += len(frame.data) if isinstance(frame, Bulk) else 0
                return size

            giver.register(NOTES, handle, strangers=True)
            for _ in range(5):
                bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
                assert await bulk.drive(take) == 300_000
            assert len(seen) == 5
            assert len(set(seen)) == 1
            assert lanes_of(connection)._lanes.listener.listening_at == []

    lab.run(scene())


def test_the_answer_to_an_opening_never_goes_over_a_lane_that_is_there_already(lab: BulkLab) -> None:
    """Whoever opens may say at once that it can follow, and hears the answer before it does.

    Version 0.1 answers over the lane all the same: so where there is one, we say it later.
    """

    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):

            async def handle(stream: Any) -> None:
                assert await stream.receive(5.0) == Note("begin")
                if is_first:

                    def give(bulk: BulkStream) -> None:
                        move_to_lane(bulk)
                        bulk.write(block(b"x"))

                    await BulkStream(stream).drive(give)
                    return
                await stream.write(NOTES.encode(Note("answer")))
                await stream.write(block(b"y"))
                ways.append(stream.is_on_lane)

            def take(bulk: BulkStream) -> Any:
                bulk.send(Note("begin"))
                return bulk.receive(5.0)

            giver.register(NOTES, handle, strangers=True)
            ways: list[bool] = []
            is_first = True
            assert isinstance(
                await BulkStream(await connection.open_stream(NOTES), takes_bulk=True).drive(take), Bulk
            )
            is_first = False
            until = time.monotonic() + 5.0
            while not lanes_of(giver.connections[0])._to_write and time.monotonic() < until:
                await asyncio.sleep(0.01)
            first = NOTES.encode(Note("begin"))
            stream = await connection.open_stream(NOTES, first + encode_signal(Signal(Op.WELCOME)))
            assert await stream.receive(5.0) == Note("answer")
            came = await BulkStream(stream, takes_bulk=True).drive(lambda bulk: bulk.receive(5.0))
            assert isinstance(came, Bulk)
            async with await connection.open_ahead(Ahead(NOTES, first, reads_bulk=True)) as stream:
                assert await stream.receive(5.0) == Note("answer")
                assert isinstance(await stream.receive(5.0), Bulk)
            assert ways == [True, False]

    lab.run(scene())


def test_a_slower_lane_is_left_without_a_byte_lost() -> None:
    """The rule is told that the stream gave a terabyte a second: so the lane is left after its trial."""
    lab = BulkLab("lane")
    ways: list[str] = []

    def give(bulk: BulkStream) -> None:
        assert bulk._lanes is not None
        for _ in range(40):
            bulk._lanes.choice.sent_by_stream(1 << 40, 1.0)
        for number in range(60):
            bulk.write(block(number.to_bytes(1, "big") * 1_000_000))
            way = bulk.path.kind if bulk.path else ""
            if not ways or ways[-1] != way:
                ways.append(way)
                time.sleep(0.3)  # the reader has gone back before there is anything to read

    def take(bulk: BulkStream) -> list[int]:
        got = []
        while (frame := bulk.receive(10.0)) is not None:
            assert isinstance(frame, Bulk)
            assert len(frame.data) == 1_000_000
            assert frame.data[:1] == frame.data[-1:]
            got.append(frame.data[0])
        return got

    assert lab.run(lab.talk(give, take)).took == list(range(60))
    assert ways == ["lane", "direct"]


def test_a_small_transfer_makes_no_lane_and_opens_no_port() -> None:
    lab = BulkLab("lane", after_bytes=4 << 20)

    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):

            def give(bulk: BulkStream) -> None:
                for _ in range(10):
                    bulk.write(block(bytes(100_000)))

            def take(bulk: BulkStream) -> int:
                return sum(1 for _ in iter(lambda: bulk.receive(5.0), None))

            lab.kind = "quic"
            talk = await lab.converse(connection, giver, give, take)
            assert talk.took == 10
            back = lanes_of(giver.connections[0])
            assert back._making is None
            assert not back._to_write
            assert back._lanes.listener.listening_at == []

    lab.run(scene())


@pytest.mark.parametrize(("size", "is_made"), [(1 << 20, False), (100 << 20, True)])
def test_who_expects_to_write_much_has_a_lane_before_the_first_byte(size: int, *, is_made: bool) -> None:
    lab = BulkLab("lane", after_bytes=4 << 20)

    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):
            ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

            async def handle(stream: Any) -> None:
                stream.expect(size)  # before it is known that the other side can follow
                assert await stream.receive(5.0) == Note("begin")
                lanes = lanes_of(giver.connections[0])
                until = time.monotonic() + (5.0 if is_made else 0.5)
                while not lanes._to_write and time.monotonic() < until:
                    await asyncio.sleep(0.01)
                await stream.send(Note("answer"))
                await stream.write(block(b"x"))
                ended.set_result(stream.is_on_lane)

            giver.register(NOTES, handle, strangers=True)
            bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)

            def take(bulk: BulkStream) -> Any:
                bulk.send(Note("begin"))
                assert bulk.receive(10.0) == Note("answer")
                return bulk.receive(10.0)

            came = await bulk.drive(take)
            assert isinstance(came, Bulk)
            assert await ended is is_made

    lab.run(scene())


def test_a_closed_node_leaves_no_socket_and_no_thread() -> None:
    lab = BulkLab("lane")

    async def scene() -> None:
        lanes: list[Lanes] = []
        async with lab.pair() as (connection, _, giver):
            await lab.converse(connection, giver, lambda b: b.write(block(b"x")), lambda b: b.receive(5.0))
            lanes += [lanes_of(connection)._lanes, lanes_of(giver.connections[0])._lanes]
        assert all(not made._peers and not made.listener.listening_at for made in lanes)

    lab.run(scene())
    assert not [t for t in threading.enumerate() if t.name.startswith("bulk")]
