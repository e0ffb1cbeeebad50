"""Downloads from several sources at once, and receivers that give to each other what they have."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from coterie.apps.overlay.api import Provider
from coterie.content.limit import BURST_S
from coterie.errors import NotFound, UsageError
from coterie.identity import PeerId
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from coterie.transfer.long_run import Streak
from coterie.transfer.messages import (
    CHUNKS,
    PROTOCOL,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    Moved,
    NoManifest,
    Skip,
    Skipped,
)
from coterie.wire import Ticket
from tests.apps.files.hostile import Answerer, Content, file_entry, giver, page
from tests.apps.files.nodes import memory_node, pair, prepare_home, running_node, start, tree_of
from tests.apps.files.test_transfer import make_tree
from tests.support import run

PIECES = [secrets.token_bytes(100_000) for _ in range(60)]
MANY = Content.of(page(*(file_entry(f"{n:02}", piece) for n, piece in enumerate(PIECES))), pieces=PIECES)


@contextlib.asynccontextmanager
async def nodes(network: MemoryNetwork, folder: Path, count: int) -> AsyncIterator[list[Node]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(memory_node(network, folder / f"home-{n}")) for n in range(count)
        ]


def each_once(content: Content) -> tuple[Answerer, list[tuple[bytes, int]]]:
    """A giver that gives each chunk once only, to whoever asks first: others have it from there or never."""
    given: list[tuple[bytes, int]] = []

    async def answer(stream: Stream, request: GetManifest | GetChunks) -> None:
        if isinstance(request, GetManifest):
            await content.answer(stream, request)
            return
        for index, data in enumerate(content.chunks(request), request.first):
            if (request.manifest, index) in given:
                await stream.send(Skipped(Skip.ELSEWHERE))
                return
            given.append((request.manifest, index))
            await asyncio.sleep(0.002)  # no faster than receivers can pass it on
            await stream.write(PROTOCOL.bulk_header(CHUNKS, len(data)) + data)

    return answer, given


def test_receivers_have_from_each_other_what_the_seeder_gives_once(tmp_path: Path) -> None:
    """Four receivers, and a seeder that sends exactly one copy: all of them have it all."""

    async def main() -> None:
        network = MemoryNetwork()
        answer, given = each_once(MANY)
        async with (
            nodes(network, tmp_path, 4) as receivers,
            giver(network, MANY, answer, tells_peers=True) as ticket,
        ):
            got = await asyncio.gather(
                *(node.files.get(ticket, tmp_path / f"copy{n}") for n, node in enumerate(receivers))
            )
        assert len(given) == len(PIECES)
        assert [received.failed for received in got] == [[]] * 4
        for n in range(4):
            assert [p.read_bytes() for p in sorted((tmp_path / f"copy{n}").iterdir())] == PIECES
        assert sum(node.files.server.sent_bytes for node in receivers) >= 3 * sum(map(len, PIECES))

    run(main())


@pytest.mark.parametrize("receivers", [1, 3])
def test_what_waits_for_its_block_is_not_given_before_it_is_there(
    tmp_path: Path, receivers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run past the cache from its first byte on, among receivers that give each other what they have."""
    monkeypatch.setattr("coterie.transfer.long_run.Streak", partial(Streak, run_after_bytes=0))
    large = tmp_path / "large"
    large.write_bytes(secrets.token_bytes(20_000_001))

    async def main() -> None:
        async with nodes(MemoryNetwork(), tmp_path, receivers + 1) as (seeder, *others):
            ticket = (await seeder.files.share(large)).ticket
            got = await asyncio.gather(
                *(node.files.get(ticket, tmp_path / f"copy{n}") for n, node in enumerate(others))
            )
            assert [(received.failed, received.dropped) for received in got] == [([], [])] * receivers
        for n in range(receivers):
            assert (tmp_path / f"copy{n}").read_bytes() == large.read_bytes()

    run(main())


def slow(content: Content) -> Answerer:
    """An honest giver that takes its time: others get their turn."""

    async def answer(stream: Stream, request: GetManifest | GetChunks) -> None:
        await asyncio.sleep(0.005)
        await content.answer(stream, request)

    return answer


async def lies(stream: Stream, request: GetManifest | GetChunks) -> None:
    """Right about manifests, wrong about bytes."""
    if isinstance(request, GetManifest):
        await MANY.answer(stream, request)
        return
    for data in MANY.chunks(request):
        await stream.write(PROTOCOL.bulk_header(CHUNKS, len(data)) + bytes(len(data)))


async def stalls(stream: Stream, request: GetManifest | GetChunks) -> None:
    """Takes requests and says nothing."""


async def has_nothing(stream: Stream, request: GetManifest | GetChunks) -> None:
    """Claims everything on opening, and has none of it."""
    if isinstance(request, GetManifest):
        await stream.send(NoManifest(request.manifest))
        return
    for _ in range(request.count):
        await stream.send(ChunkUnavailable(2))


@contextlib.asynccontextmanager
async def asker(network: MemoryNetwork | None, home: Path) -> AsyncIterator[Node]:
    """A node over the network of memory, or over QUIC."""
    if network is not None:
        async with memory_node(network, home) as node:
            yield node
    else:
        async with Node.open(prepare_home(home)) as node:
            yield node


def test_what_a_third_party_says_of_a_share_is_not_believed(tmp_path: Path) -> None:
    """A computer that another one named says that the share has other content now: the ticket's peer has the word."""

    async def main() -> None:
        network = MemoryNetwork()
        lied: list[bytes] = []

        async def lie(stream: Stream) -> None:
            await stream.send(Moved(int(MANY.kind), b"\7" * 32))
            lied.append(bytes(stream.peer))

        async with contextlib.AsyncExitStack() as stack:
            liar = Ticket.parse(
                await stack.enter_async_context(giver(network, MANY, opening=lie, name=b"liar"))
            )
            hint = (bytes(liar.peer), list(liar.addresses))
            first = await stack.enter_async_context(
                giver(network, MANY, slow(MANY), name=b"first", tells=[hint])
            )
            node = await stack.enter_async_context(asker(network, tmp_path / "home"))
            received = await node.files.get(first, tmp_path / "copy")
        assert lied, "the liar was never asked"
        assert received.failed == []
        assert [p.read_bytes() for p in sorted((tmp_path / "copy").iterdir())] == PIECES

    run(main())


@pytest.mark.parametrize("net", ["memory", "quic"])
def test_of_eight_sources_one_lies_one_stalls_one_has_nothing(tmp_path: Path, net: str) -> None:
    """All is delivered, nothing wrong; the liar is named and asked no more."""
    answers = {b"liar": lies, b"staller": stalls, b"claimer": has_nothing}

    async def main() -> None:
        network = MemoryNetwork() if net == "memory" else None
        async with contextlib.AsyncExitStack() as stack:
            tickets = {}
            for name in (*answers, b"one", b"two", b"three", b"four"):
                answer = answers.get(name) or slow(MANY)
                tickets[name] = Ticket.parse(
                    await stack.enter_async_context(giver(network, MANY, answer, name=name))
                )
            hints = [(bytes(t.peer), list(t.addresses)) for t in tickets.values()]
            first = await stack.enter_async_context(
                giver(network, MANY, slow(MANY), name=b"first", tells=hints)
            )
            node = await stack.enter_async_context(asker(network, tmp_path / "home"))
            received = await node.files.get(first, tmp_path / "copy")
            detail = await node.files.transfer_detail(received.id)
        liar = tickets[b"liar"].peer.short
        assert received.failed == []
        assert [p.read_bytes() for p in sorted((tmp_path / "copy").iterdir())] == PIECES
        assert [d.path for d in received.dropped] == [liar]
        assert "wrong bytes" in received.dropped[0].reason
        assert liar in received.text()
        assert detail.dropped == [f"{liar}: {received.dropped[0].reason}"]
        assert received.sources >= 5

    run(main())


def test_a_giver_gives_each_piece_to_one_before_any_to_two(tmp_path: Path) -> None:
    """A node that shares tells its askers what others were given, and sends them there."""

    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(12_000_000))
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 4) as (anna, *receivers):
            anna.files.limits.change(up=8_000_000, down=None, up_hours=None, down_hours=None)
            ticket = (await anna.files.share(source)).ticket
            got = await asyncio.gather(
                *(node.files.get(ticket, tmp_path / f"copy{n}") for n, node in enumerate(receivers))
            )
            sent = anna.files.server.sent_bytes
        for n in range(3):
            assert (tmp_path / f"copy{n}").read_bytes() == source.read_bytes()
        assert sent <= 1.5 * 12_000_000, f"the one that shares sent {sent / 12e6:.2f} copies to three"
        assert all(received.sources >= 2 for received in got)

    run(main())


def test_who_has_all_gives_on_after_the_first_giver_left(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 2) as (ben, carl):
            async with memory_node(network, tmp_path / "home-anna") as anna:
                ticket = Ticket.parse((await anna.files.share(source)).ticket)
                received = await ben.files.get(ticket, tmp_path / "copy")
            from_ben = Ticket(
                ticket.kind, ben.peer_id, ticket.content_id, ticket.secret, tuple(ben.addresses)
            )
            await carl.files.get(from_ben, tmp_path / "second")
            assert tree_of(tmp_path / "second") == tree_of(source)
            await ben.files.cancel(received.id)  # forgotten: given no more
            with pytest.raises(NotFound):
                await carl.files.get(from_ben, tmp_path / "third")

    run(main())


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(tmp_path: Path) -> None:
    for name in ("early/a1.txt", "late/a[1].txt", "late/a1.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "in")).ticket
            received = await ben.files.get(ticket, tmp_path / "out", only=["a[1].txt"])
            assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a[1].txt"]
            assert (received.files, received.size) == (1, len("late/a[1].txt"))

    run(main())


def test_only_chosen_files_of_a_folder(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 2) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            some = await ben.files.begin(ticket, tmp_path / "some", only=["many/1*.txt", "c.bin", "empty"])
            received = await some.result
            with pytest.raises(NotFound, match="no file in it is like"):
                await (await ben.files.begin(ticket, tmp_path / "none", only=["*.nothing"])).result
            assert anna.files.server.sent_bytes < 5_200_000
        files = {p.relative_to(tmp_path / "some") for p in (tmp_path / "some").rglob("*") if not p.is_dir()}
        wanted = {p.relative_to(source) for p in source.rglob("*") if p.match("many/1*.txt")}
        assert files == wanted | {Path("c.bin"), Path("empty/up")}
        assert (tmp_path / "some/c.bin").read_bytes() == (source / "c.bin").read_bytes()
        assert received.files == len(wanted) + 1

    run(main())


def test_a_limit_holds_down_and_up(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(4_000_000))
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 2) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            now = ben.files.limits.change(up=None, down=2_000_000, up_hours=None, down_hours=None)
            assert (now.down, now.up) == (2_000_000, 0)
            received = await ben.files.get(ticket, tmp_path / "copy")
            assert 1.0 < received.seconds < 6
            ben.files.limits.change(up=None, down=0, up_hours=None, down_hours=None)
            anna.files.limits.change(up=2_000_000, down=None, up_hours=None, down_hours=None)
            source.write_bytes(secrets.token_bytes(4_000_000))
            other = (await anna.files.share(source)).ticket
            received = await ben.files.get(other, tmp_path / "second")
            assert 1.0 < received.seconds < 6
            with pytest.raises(UsageError, match="08:00-18:00"):
                anna.files.limits.change(up=None, down=None, up_hours="tomorrow", down_hours=None)
        async with nodes(network, tmp_path, 1) as (again,):
            assert again.files.limits.now().up == 2_000_000, "limits survive a restart"

    run(main())


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_limit_holds_for_a_file_that_is_asked_for_at_once(tmp_path: Path, way: str) -> None:
    """Two requests ask for all of it: they were answered as fast as the line would go."""

    async def main() -> None:
        source = tmp_path / "small.bin"
        source.write_bytes(secrets.token_bytes(300_000))
        async with nodes(MemoryNetwork(), tmp_path, 2) as (anna, ben):
            up, down = (200_000, None) if way == "up" else (None, 200_000)
            limits = anna.files.limits if way == "up" else ben.files.limits
            limits.change(up=up, down=down, up_hours=None, down_hours=None)
            ticket = (await anna.files.share(source)).ticket
            received = await ben.files.get(ticket, tmp_path / "copy")
            assert received.seconds > 300_000 / 200_000 - 2 * BURST_S

    run(main())


def test_what_came_is_to_the_credit_of_who_gave_it(tmp_path: Path) -> None:
    """The giving side hears of every byte that the asking side had from somebody: it serves them by that."""

    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(6_000_000))
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 2) as (anna, ben):
            told: list[tuple[bytes, PeerId, int]] = []
            gave = ben.files.server.gave
            ben.files.server.gave = lambda *said: (told.append(said), gave(*said))  # type: ignore[method-assign, assignment]
            shared = await anna.files.share(source)
            await ben.files.get(shared.ticket, tmp_path / "copy")
        root = Ticket.parse(shared.ticket).content_id
        assert {(about, peer) for about, peer, _ in told} == {(root, anna.peer_id)}
        assert 6_000_000 <= sum(size for *_, size in told) < 6_010_000, "with the manifest"

    run(main())


def test_a_priority_shares_a_limit_and_is_kept(tmp_path: Path) -> None:
    """Two downloads under one limit of 4 MB/s: the high one has four fifths of it."""

    async def main() -> None:
        network = MemoryNetwork()
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(secrets.token_bytes(12_000_000))
        async with nodes(network, tmp_path, 2) as (anna, ben):
            tickets = [(await anna.files.share(tmp_path / name)).ticket for name in ("one", "two")]
            ben.files.limits.change(up=None, down=4_000_000, up_hours=None, down_hours=None)
            high, low = [
                await ben.files.begin(ticket, tmp_path / f"copy{n}") for n, ticket in enumerate(tickets)
            ]
            await ben.files.set_priority(low.record.id, "low")
            detail = await ben.files.set_priority(high.record.id, "high")
            assert detail.priority == "high"
            with pytest.raises(UsageError, match="high, normal, low"):
                await ben.files.set_priority(low.record.id, "urgent")
            await high.result
            there = low.record.done
            shown = await ben.files.transfer_detail(low.record.id)
            here = sum(shown.pieces) / len(shown.pieces) / 100
            assert abs(here - shown.done / shown.size) < 0.15, "the map says what the number says"
            assert max(shown.rates) > 100_000
            await ben.files.pause(low.record.id)
            await ben.files.limit_transfer(low.record.id, down=None, up=1_000_000)
            assert there < 0.45 * 12_000_000, f"the low one had {there:,} bytes by then"
        async with nodes(network, tmp_path, 2) as (_, again):
            assert (await again.files.transfer_detail(low.record.id)).priority == "low"
            assert again.files.server.limit_of(low.content_id) == 1_000_000, "a limit survives a restart"

    run(main())


def test_who_has_it_is_found_by_the_table_when_the_ticket_has_nobody_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carl fetched it long ago; ben is in the middle of it when anna leaves for good. Nobody named carl to ben."""
    table: dict[bytes, list[Node]] = {}

    def take_part(node: Node) -> None:
        """Of a level at which strangers meet, the part that this is about."""
        overlay = node.service("overlay")

        async def provide(key: bytes) -> None:
            table.setdefault(key, []).append(node)

        async def find_providers(key: bytes) -> AsyncIterator[Provider]:
            for found in table.get(key, []):
                if found is not node:
                    yield Provider(str(found.peer_id), list(found.addresses))

        monkeypatch.setattr(type(overlay), "is_public", True)
        monkeypatch.setattr(overlay, "provide", provide)
        monkeypatch.setattr(overlay, "find_providers", find_providers)
        monkeypatch.setattr(overlay, "withdraw", lambda key: table[key].remove(node))

    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(6_000_000))
        network = MemoryNetwork()
        async with nodes(network, tmp_path, 2) as (ben, carl):
            async with memory_node(network, tmp_path / "home-anna") as anna:
                ticket = (await anna.files.share(source)).ticket
                take_part(carl)
                take_part(ben)
                root = Ticket.parse(ticket).content_id
                had = await carl.files.get(ticket, tmp_path / "carls")
                while anna.files.server.askers(root):  # as long as carl is there, anna names him
                    await asyncio.sleep(0.01)
                anna.files.limits.change(up=1_000_000, down=None, up_hours=None, down_hours=None)
                begun = await ben.files.begin(ticket, tmp_path / "copy")
                while begun.record.done == 0:
                    await asyncio.sleep(0.01)
            received = await begun.result
            assert received.failed == []
            assert (tmp_path / "copy").read_bytes() == source.read_bytes()
            (found,) = table.values()
            while len(found) < 2:
                await asyncio.sleep(0.01)
            assert (found, root in table) == ([carl, ben], False)
            await carl.files.cancel(had.id)
            assert list(table.values()) == [[ben]], "forgotten: announced no more"

    run(main())


def test_three_processes_over_quic_give_to_each_other(tmp_path: Path) -> None:
    """One that shares at 5 MB/s, two that fetch at once: each has part of it from the other."""
    source = tmp_path / "large.bin"
    source.write_bytes(secrets.token_bytes(20_000_000))
    with (
        running_node(tmp_path / "anna") as anna,
        running_node(tmp_path / "ben") as ben,
        running_node(tmp_path / "carl") as carl,
    ):
        anna.call("limits", "--up", "5000000")
        ticket = anna.call("share", str(source))["ticket"]
        getting = [
            start(node.home, "--json", "get", ticket, str(tmp_path / node.home.name / "copy"))
            for node in (ben, carl)
        ]
        received = []
        for process in getting:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            received.append(json.loads(out.splitlines()[-1]))
        sent = anna.call("status")["apps"]["files"]["bytes sent"]
        detail = ben.call("transfers", "show", received[0]["id"])
    for name in ("ben", "carl"):
        assert (tmp_path / name / "copy").read_bytes() == source.read_bytes()
    assert [r["sources"] for r in received] == [2, 2]
    assert sent < 1.7 * 20_000_000, f"{sent / 20e6:.2f} copies to two"
    assert detail["state"] == "done"
