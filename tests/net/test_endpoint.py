"""Endpoint: one connection per pair, isolation, versions, the guard, idle and dial bounds."""

import asyncio
import logging
import subprocess
import sys
import time

import pytest

from coterie.errors import AccessDenied, CloseCode, LimitExceeded, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint, Guard, NetLimits, Stream
from coterie.net.ahead import Ahead
from coterie.net.connection import AHEAD_S
from coterie.net.memory import PerfectLinks
from coterie.net.router import OPENED_S
from coterie.wire import Protocol
from tests.net.conftest import NOTES, Lab, Note


async def echo(stream: Stream) -> None:
    while (frame := await stream.receive()) is not None:
        assert isinstance(frame, Note)
        await stream.send(frame)


async def ask(connection: Connection, text: str, protocol: Protocol = NOTES) -> str:
    async with await connection.open_stream(protocol) as stream:
        await stream.send(Note(text))
        answer = await stream.receive(timeout_s=10)
        assert isinstance(answer, Note)
        return answer.text


async def settle(endpoints: list[Endpoint], count: int) -> None:
    """Wait until every endpoint has `count` connections."""
    async with asyncio.timeout(10):
        while any(len(e.connections) != count for e in endpoints):
            await asyncio.sleep(0.01)


def test_many_callers_share_one_connection(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(2) as (a, b):
            b.register(NOTES, echo)
            got = await asyncio.gather(*(a.connect(b.peer_id, b.addresses) for _ in range(50)))
            assert len({id(c) for c in got}) == 1
            assert await asyncio.gather(*(ask(got[0], str(n)) for n in range(20))) == [
                str(n) for n in range(20)
            ]
            assert (len(a.connections), len(b.connections)) == (1, 1)
            assert await a.connect(b.peer_id) is got[0]

    lab.run(scene())


def test_both_sides_dial_at_once_again_and_again(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(2, connections_burst=1_000) as (a, b):
            for endpoint in (a, b):
                endpoint.register(NOTES, echo)
            for number in range(60):
                first, second = (a, b) if number % 2 else (b, a)
                dials = [
                    asyncio.create_task(first.connect(second.peer_id, second.addresses)) for _ in range(3)
                ]
                if number % 3 == 0:
                    await asyncio.sleep(0.0003 * (number % 7))
                dials += [
                    asyncio.create_task(second.connect(first.peer_id, first.addresses)) for _ in range(3)
                ]
                connections = await asyncio.gather(*dials)
                assert len({id(c) for c in connections}) == 2, number
                texts = await asyncio.gather(*(ask(c, f"{number}") for c in connections))
                assert set(texts) == {f"{number}"}
                assert (len(a.connections), len(b.connections)) == (1, 1)
                assert a.connections[0].is_dialled is not b.connections[0].is_dialled
                a.connections[0].close()
                await settle([a, b], 0)

    lab.run(scene())


def test_dialling_at_once_the_smaller_ids_connection_stays(memory: Lab) -> None:
    class Far(PerfectLinks):
        def latency_s(self, sender: object, receiver: object) -> float:
            return 0.1

    memory.network.policy = Far()

    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            small, large = sorted((a, b), key=lambda e: e.peer_id)
            for delay_s in (-0.25, -0.15, -0.05, 0, 0.05, 0.15, 0.25):
                first, second = (small, large) if delay_s >= 0 else (large, small)
                one = asyncio.create_task(first.connect(second.peer_id, second.addresses))
                await asyncio.sleep(abs(delay_s))
                other = asyncio.create_task(second.connect(first.peer_id, first.addresses))
                await asyncio.gather(one, other)
                await asyncio.sleep(1)
                assert (len(small.connections), len(large.connections)) == (1, 1)
                assert small.connections[0].is_dialled
                assert not large.connections[0].is_dialled
                await asyncio.sleep(20)
                small.connections[0].close()
                await settle([a, b], 0)

    memory.run(scene())


def test_a_dial_that_gets_nowhere_gives_way_to_the_peers(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(3) as (a, b, _):
            small, large = sorted((a, b), key=lambda e: e.peer_id)
            memory.network.block(small.peer_id, large.peer_id)
            stuck = asyncio.create_task(small.connect(large.peer_id, large.addresses))
            await asyncio.sleep(1)
            memory.network._blocked.clear()  # the way back is open; what the small one sent stays lost
            began = asyncio.get_running_loop().time()
            got = await large.connect(small.peer_id, small.addresses)
            assert asyncio.get_running_loop().time() - began < 3
            assert (await stuck).peer == large.peer_id
            assert got.is_dialled

    memory.run(scene())


def test_a_restarted_peer_replaces_its_old_connection_at_once(lab: Lab) -> None:
    async def scene() -> None:
        a = await lab.endpoint(1)
        a.register(NOTES, echo)
        b = await lab.endpoint(2, boot=b"first run of bob")
        await b.connect(a.peer_id, a.addresses)
        old = a.connections[0]
        again = await lab.endpoint(2, boot=b"other run of bob")  # the same key; the first never said goodbye
        fresh = await again.connect(a.peer_id, a.addresses)
        assert await ask(fresh, "here again") == "here again"
        await old.closed()
        assert len(a.connections) == 1
        assert a.connections[0] is not old
        for endpoint in (a, b, again):
            await endpoint.close()

    lab.run(scene())


@pytest.mark.parametrize("dialler_restarts", [True, False])
def test_a_peer_that_lost_the_connection_may_dial_again(memory: Lab, dialler_restarts: bool) -> None:
    """Our side still believes in the old connection when the peer, in the same run, dials a new one."""

    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            b.register(NOTES, echo)
            a.register(NOTES, echo)
            dialler, other = (a, b) if dialler_restarts else (b, a)
            first = await dialler.connect(other.peer_id, other.addresses)
            await asyncio.sleep(30)
            memory.network.block(a.peer_id, b.peer_id)
            a.connections[0].close()  # the close does not arrive while the link is down
            await asyncio.sleep(0.1)
            for connection in b.connections:
                connection._raw._wire._flying.clear()  # type: ignore[attr-defined]
            second = asyncio.create_task(a.connect(b.peer_id, b.addresses))
            await asyncio.sleep(0.1)
            memory.network.unblock(a.peer_id, b.peer_id)
            assert await ask(await second, "again") == "again"
            assert first.is_closed
            assert (len(a.connections), len(b.connections)) == (1, 1)

    memory.run(scene())


def test_a_handler_that_raises_harms_only_its_stream(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    faults: list[BaseException] = [
        ValueError("bug"),
        PeerError("bad", 42),
        LimitExceeded("full"),
        AccessDenied("not you"),
    ]
    caplog.set_level(logging.CRITICAL)

    async def faulty(stream: Stream) -> None:
        note = await stream.receive()
        assert isinstance(note, Note)
        raise faults[int(note.text)]

    async def scene() -> None:
        async with lab.endpoints(2) as (a, b):
            bad = Protocol("bad", (1,), {1: Note})
            b.register(bad, faulty)
            b.register(NOTES, echo)
            connection = await a.connect(b.peer_id, b.addresses)
            async with await connection.open_stream(NOTES) as healthy:
                for number, code in enumerate((CloseCode.INTERNAL, 42, CloseCode.LIMIT, CloseCode.REFUSED)):
                    stream = await connection.open_stream(bad)
                    await stream.send(Note(str(number)))
                    with pytest.raises(PeerError) as caught:
                        await stream.receive(timeout_s=10)
                    assert caught.value.close_code == code
                    await healthy.send(Note("still here"))
                    assert await healthy.receive(timeout_s=10) == Note("still here")

    lab.run(scene())


def test_versions_are_negotiated_per_protocol(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(2) as (a, b):
            seen: list[int] = []

            async def note_version(stream: Stream) -> None:
                seen.append(stream.version)

            b.register(Protocol("p", (1, 2, 3), {1: Note}), note_version)
            connection = await a.connect(b.peer_id, b.addresses)
            async with await connection.open_stream(Protocol("p", (2, 3, 9), {1: Note})) as stream:
                assert stream.version == 3
                assert await stream.receive() is None
            async with await connection.open_stream(Protocol("p", (1,), {1: Note})) as stream:
                assert stream.version == 1
                assert await stream.receive() is None
            assert seen == [3, 1]
            with pytest.raises(PeerError, match="no version of p") as caught:
                await connection.open_stream(Protocol("p", (7,), {1: Note}))
            assert caught.value.close_code == CloseCode.VERSION

    lab.run(scene())


def test_default_deny_and_a_refusal_looks_like_an_unknown_protocol(lab: Lab) -> None:
    ran: list[str] = []

    async def never(stream: Stream) -> None:
        ran.append(stream.protocol.name)

    async def scene() -> None:
        a = await lab.endpoint(1)
        b = Endpoint(await lab.transport(2))
        b.start()
        secret, hello = (Protocol(name, (1,), {1: Note}) for name in ("secret", "hello"))
        b.register(secret, never)
        b.register(hello, echo, strangers=True)
        connection = await a.connect(b.peer_id, b.addresses)
        assert await ask(connection, "hi", hello) == "hi"
        errors = []
        for protocol in (secret, Protocol("nowhere", (1,), {1: Note})):
            with pytest.raises(PeerError) as caught:
                await connection.open_stream(protocol)
            errors.append((caught.value.close_code, str(caught.value).replace(protocol.name, "NAME")))
        assert errors[0] == errors[1]
        assert errors[0][0] == CloseCode.REFUSED
        assert not ran
        await a.close()
        await b.close()

    lab.run(scene())


def test_a_blocked_peer_is_not_dialled_and_hears_nothing(memory: Lab) -> None:
    async def scene() -> None:
        blocked: set[object] = set()
        b = await memory.endpoint(2)
        guard = Guard(is_blocked=lambda peer: peer in blocked)
        async with Endpoint(await memory.transport(1), guard=guard) as a:
            heard: list[object] = []
            b.watch(up=heard.append)
            blocked.add(b.peer_id)
            with pytest.raises(AccessDenied, match="blocked on this computer"):
                await a.connect(b.peer_id, b.addresses)
            await asyncio.sleep(1)
            assert heard == []
            blocked.clear()
            assert (await a.connect(b.peer_id, b.addresses)).peer == b.peer_id
        await b.close()

    memory.run(scene())


def test_a_dial_under_way_ends_when_its_peer_is_blocked(memory: Lab) -> None:
    async def scene() -> None:
        blocked: set[object] = set()
        b = await memory.endpoint(2)
        guard = Guard(is_blocked=lambda peer: peer in blocked)
        async with Endpoint(await memory.transport(1), guard=guard) as a:
            memory.network.block(a.peer_id, b.peer_id)
            dial = asyncio.ensure_future(a.connect(b.peer_id, b.addresses))
            await asyncio.sleep(0.5)
            assert not dial.done()
            blocked.add(b.peer_id)
            a.review()
            with pytest.raises(AccessDenied, match="blocked on this computer"):
                await asyncio.wait_for(dial, 1)
        await b.close()

    memory.run(scene())


def test_a_predicate_that_fails_refuses(memory: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    def broken(peer: object, name: str) -> bool:
        raise RuntimeError("no database")

    async def scene() -> None:
        a = await memory.endpoint(1)
        b = Endpoint(await memory.transport(2), guard=Guard(broken))
        b.start()
        b.register(NOTES, echo)
        connection = await a.connect(b.peer_id, b.addresses)
        with pytest.raises(PeerError) as caught:
            await connection.open_stream(NOTES)
        assert caught.value.close_code == CloseCode.REFUSED
        await a.close()
        await b.close()

    memory.run(scene())


def test_an_idle_connection_is_closed_and_a_used_one_is_not(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2, idle_s=60) as (a, b):
            b.register(NOTES, echo)
            connection = await a.connect(b.peer_id, b.addresses)
            async with await connection.open_stream(NOTES) as stream:
                await asyncio.sleep(3_600)
                await stream.send(Note("an hour later"))
                assert await stream.receive() == Note("an hour later")
            await asyncio.sleep(59)
            assert not connection.is_closed
            await asyncio.sleep(2)
            assert await connection.closed() == (CloseCode.IDLE, "no stream for 60 s")
            await settle([a, b], 0)
            assert await ask(connection, "opened on the closed one") == "opened on the closed one"
            assert len(a.connections) == 1

    memory.run(scene())


def test_idle_over_quic(quic: Lab) -> None:
    async def scene() -> None:
        async with quic.endpoints(2, idle_s=0.2) as (a, b):
            connection = await a.connect(b.peer_id, b.addresses)
            code, _ = await connection.closed()
            assert code == CloseCode.IDLE
            await settle([a, b], 0)

    quic.run(scene())


def test_an_offline_peer_is_reported_in_time_with_what_was_tried(quic: Lab) -> None:
    async def scene() -> None:
        async with quic.endpoints(1, dial_s=0.5) as (a,):
            began = time.monotonic()
            with pytest.raises(TransportError) as caught:
                await a.connect(quic.peer(9), ["127.0.0.1:9", "127.0.0.1:10"])
            assert time.monotonic() - began < 2
            for part in (quic.peer(9).short, "127.0.0.1:9", "127.0.0.1:10", "0.5 s"):
                assert part in str(caught.value)
            with pytest.raises(TransportError, match="no address"):
                await a.connect(quic.peer(9))

    quic.run(scene())


def test_the_dial_bound_is_six_seconds_by_default(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            memory.network.block(a.peer_id, b.peer_id)
            began = asyncio.get_running_loop().time()
            with pytest.raises(TransportError, match="did not answer within 6 s"):
                await a.connect(b.peer_id, b.addresses)
            assert asyncio.get_running_loop().time() - began == pytest.approx(6)

    memory.run(scene())


def test_a_better_address_joins_a_dial_under_way_for_all_who_wait(lab: Lab) -> None:
    silent = "127.0.0.1:9" if lab.kind == "quic" else "memory:404"

    async def scene() -> None:
        async with lab.endpoints(2) as (a, b):
            bad = asyncio.create_task(a.connect(b.peer_id, [silent]))
            await asyncio.sleep(0.1 if lab.kind == "quic" else 0)
            good = asyncio.create_task(a.connect(b.peer_id, b.addresses))
            assert (await bad) is (await good)
            assert len(a.connections) == 1

    lab.run(scene())


class Silent:
    """A transport whose dials never end; `dials` holds the addresses of each."""

    peer_id = Lab.key(1).peer_id
    addresses: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.dials: list[tuple[str, ...]] = []

    async def connect(self, peer: object, addresses: tuple[str, ...]) -> None:
        self.dials.append(tuple(addresses))
        await asyncio.Event().wait()

    async def accept(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""


def test_more_addresses_do_not_prolong_a_dial_and_restart_it_a_bounded_number_of_times(memory: Lab) -> None:
    async def scene() -> None:
        transport = Silent()
        a = Endpoint(transport, limits=NetLimits(dial_restarts_max=2))  # type: ignore[arg-type]
        began = asyncio.get_running_loop().time()
        calls = []
        for number in range(6):
            calls.append(asyncio.create_task(a.connect(memory.peer(2), [str(number)])))
            await asyncio.sleep(0.5)
        for call in calls:
            with pytest.raises(TransportError, match=r"within 6 s \(tried 0, 1, 2, 3, 4, 5\)"):
                await call
        assert asyncio.get_running_loop().time() - began == pytest.approx(6)
        assert transport.dials == [("0",), ("0", "1"), ("0", "1", "2")]
        await a.close()

    memory.run(scene())


def test_one_caller_who_gives_up_does_not_disturb_the_others(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(2) as (a, b):
            callers = [asyncio.create_task(a.connect(b.peer_id, b.addresses)) for _ in range(3)]
            await asyncio.sleep(0)
            callers[0].cancel()
            assert await callers[1] is await callers[2]
            assert callers[0].cancelled()

    lab.run(scene())


def test_a_node_does_not_connect_to_itself_and_names_are_registered_once(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(1) as (a,):
            a.register(NOTES, echo)
            with pytest.raises(UsageError):
                a.register(NOTES, echo)
            with pytest.raises(UsageError):
                a.register(Protocol("x" * 65, (1,), {}), echo)
            with pytest.raises(UsageError):
                await a.connect(a.peer_id, a.addresses)
            with pytest.raises(UsageError):
                a.start()

    memory.run(scene())


def test_closing_a_node_ends_its_handlers_and_tells_its_peers(lab: Lab) -> None:
    ended: list[str] = []

    async def forever(stream: Stream) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")

    async def scene() -> None:
        a, b = await lab.endpoint(1), await lab.endpoint(2)
        b.register(NOTES, forever)
        down: list[Connection] = []
        up: list[Connection] = []
        a.watch(up=up.append, down=down.append)
        connection = await a.connect(b.peer_id, b.addresses)
        stream = await connection.open_stream(NOTES)
        await b.close()
        assert ended == ["handler"]
        assert await connection.closed() == (CloseCode.SHUTDOWN, "the node is stopping")
        with pytest.raises(PeerError) as caught:
            await stream.receive(timeout_s=5)
        assert caught.value.close_code == CloseCode.SHUTDOWN
        await settle([a], 0)
        async with asyncio.timeout(5):
            while down != [connection]:
                await asyncio.sleep(0.01)
        assert up == [connection]
        await a.close()
        await a.close()
        with pytest.raises(TransportError):
            await a.connect(b.peer_id, ["127.0.0.1:1"])

    lab.run(scene())


def test_datagrams_go_to_their_protocol_and_the_oldest_is_dropped(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(2, datagram_queue_max=4, datagram_protocols_max=2) as (a, b):
            other = Protocol("other", (1,), {})
            ours = await a.connect(b.peer_id, b.addresses)
            await settle([a, b], 1)
            theirs = b.connections[0]
            notes, others = theirs.datagrams(NOTES), theirs.datagrams(other)
            with pytest.raises(UsageError):
                theirs.datagrams(NOTES)
            with pytest.raises(LimitExceeded):
                theirs.datagrams(Protocol("third", (1,), {}))
            for number in range(10):
                await ours.send_datagram(NOTES, bytes([number]))
            await ours.send_datagram(Protocol("unheard of", (1,), {}), b"?")
            await ours.send_datagram(other, b"last")
            assert await anext(others) == b"last"
            assert [await anext(notes) for _ in range(4)] == [bytes([n]) for n in range(6, 10)]
            ours.close()
            with pytest.raises(StopAsyncIteration):
                await anext(notes)

    lab.run(scene())


def test_datagrams_go_past_the_guard(memory: Lab) -> None:
    async def scene() -> None:
        a = await memory.endpoint(1)
        b = Endpoint(await memory.transport(2))
        b.start()
        ours = await a.connect(b.peer_id, b.addresses)
        queue = b.connections[0].datagrams(NOTES)
        await ours.send_datagram(NOTES, b"psst")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(queue), 1)
        await a.close()
        await b.close()

    memory.run(scene())


def test_connections_max_is_kept_for_dialling_and_accepting(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(5) as others:
            hub = await memory.endpoint(9, connections_max=3)
            for other in others[:2]:
                await hub.connect(other.peer_id, other.addresses)
            await others[2].connect(hub.peer_id, hub.addresses)
            with pytest.raises(LimitExceeded, match="connections_max"):
                await hub.connect(others[3].peer_id, others[3].addresses)
            with pytest.raises(PeerError) as caught:
                await others[4].connect(hub.peer_id, hub.addresses)
            assert caught.value.close_code == CloseCode.LIMIT
            assert len(hub.connections) == 3
            await hub.close()

    memory.run(scene())


def test_importing_the_room_does_not_load_quic() -> None:
    code = "import coterie.net, sys; sys.exit('iroh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_limits_are_all_positive() -> None:
    limits = NetLimits()
    assert all(getattr(limits, name) > 0 for name in limits.__slots__)


# ---- what is said ahead


class Far(PerfectLinks):
    """A tenth of a second each way."""

    def latency_s(self, sender: object, receiver: object) -> float:
        return 0.1


AHEAD = Ahead(NOTES, NOTES.encode(Note("ahead")))


async def asked_ahead(a: Endpoint, b: Endpoint) -> str:
    """One question that goes out with the greeting, if nothing is in its way; the answer."""
    connection = await a.connect(b.peer_id, b.addresses, ahead=AHEAD)
    async with await connection.open_ahead(AHEAD) as stream:
        answer = await stream.receive(timeout_s=10)
        assert isinstance(answer, Note)
        return answer.text


def test_what_goes_out_with_the_greeting_is_answered_a_round_trip_earlier(memory: Lab) -> None:
    memory.network.policy = Far()

    async def scene() -> None:
        took = []
        for is_ahead in (False, True):
            async with memory.endpoints(2) as (a, b):
                b.register(NOTES, echo)
                begun = asyncio.get_running_loop().time()
                if not is_ahead:
                    await a.connect(b.peer_id, b.addresses)
                assert await asked_ahead(a, b) == "ahead"
                took.append(asyncio.get_running_loop().time() - begun)
                await asyncio.sleep(1)
                assert b.connections[0].streams_open == 0
        assert took[0] - took[1] == pytest.approx(0.2)

    memory.run(scene())


def test_who_was_told_ahead_reads_nothing_of_who_is_blocked(memory: Lab) -> None:
    memory.network.policy = Far()
    heard: list[object] = []

    async def listen(stream: Stream) -> None:
        heard.append(await stream.receive())

    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            b.register(NOTES, listen)
            b._guard.blocks = lambda peer: True  # type: ignore[method-assign]
            with pytest.raises(PeerError):
                await a.connect(b.peer_id, b.addresses, ahead=AHEAD)
            await asyncio.sleep(5)
        assert heard == []

    memory.run(scene())


def test_both_dial_at_once_with_something_ahead(memory: Lab) -> None:
    """The one of the two connections that goes takes its stream with it; the question is asked again on the other."""
    memory.network.policy = Far()

    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            for endpoint in (a, b):
                endpoint.register(NOTES, echo)
            assert await asyncio.gather(asked_ahead(a, b), asked_ahead(b, a)) == ["ahead", "ahead"]
            assert (len(a.connections), len(b.connections)) == (1, 1)

    memory.run(scene())


def test_who_watches_late_hears_of_whom_is_there_once(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(3) as (a, b, c):
            await a.connect(b.peer_id, b.addresses)
            gone = await a.connect(c.peer_id, c.addresses)
            await asyncio.sleep(0.1)
            up: list[PeerId] = []
            a.watch(up=lambda connection: up.append(connection.peer))
            await asyncio.sleep(0.1)
            assert sorted(up) == sorted((b.peer_id, c.peer_id))
            gone.close(CloseCode.NORMAL, "")
            await asyncio.sleep(0.1)
            a.watch(up=lambda connection: up.append(connection.peer))
            await asyncio.sleep(0.1)
            assert up[2:] == [b.peer_id]

    memory.run(scene())


@pytest.mark.parametrize("opens_after_s", [0.5, OPENED_S + 1.0])
def test_a_protocol_that_is_not_here_yet_is_waited_for(memory: Lab, opens_after_s: float) -> None:
    """While apps start; one that none of them brings is refused then, and after a while all the same."""

    async def scene() -> None:
        opened = asyncio.Event()
        async with (
            Endpoint(
                await memory.transport(1), guard=Guard(lambda peer, name: True), opened=opened
            ) as starting,
            Endpoint(await memory.transport(2)) as asking,
        ):
            connection = await asking.connect(starting.peer_id, starting.addresses)
            answer = asyncio.create_task(ask(connection, "are you there"))
            await asyncio.sleep(opens_after_s)
            assert answer.done() == (opens_after_s > OPENED_S)
            starting.register(NOTES, echo)
            opened.set()
            if answer.done():
                with pytest.raises(PeerError):
                    await answer
            else:
                assert await answer == "are you there"
            with pytest.raises(PeerError):
                await connection.open_stream(Protocol("other", (1,), {1: Note}))

    memory.run(scene())


def test_each_of_what_was_begun_ahead_waits_its_own_time(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            b.register(NOTES, echo)
            connection = await a.connect(b.peer_id, b.addresses, ahead=AHEAD)
            await asyncio.sleep(0.9 * AHEAD_S)
            await connection._begin(Ahead(NOTES, NOTES.encode(Note("later"))))
            for waited, left in ((0.2, 1), (0.7, 1), (0.2, 0)):
                await asyncio.sleep(waited * AHEAD_S)
                assert b.connections[0].streams_open == left

    memory.run(scene())


def test_what_nobody_takes_up_is_given_up(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(2) as (a, b):
            b.register(NOTES, echo)
            connection = await a.connect(b.peer_id, b.addresses, ahead=AHEAD)
            await asyncio.sleep(0.9 * AHEAD_S)
            assert b.connections[0].streams_open == 1
            await asyncio.sleep(0.2 * AHEAD_S)
            assert b.connections[0].streams_open == 0
            assert await ask(connection, "still here") == "still here"

    memory.run(scene())
