"""Hostile givers: what they say is told, nothing of it is believed, and the node goes on."""

import asyncio
import contextlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from coterie.content import manifest as m
from coterie.content import writer
from coterie.content.names import NameRules
from coterie.content.swarm import core
from coterie.content.swarm import events as swarm_events
from coterie.content.swarm import state as swarm_state
from coterie.errors import CoterieError, PeerError, StorageError, TransportError
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from coterie.transfer import fetch, receive, source_session, tree_memory
from coterie.transfer.messages import (
    CHUNKS,
    CHUNKS_PER_REQUEST_MAX,
    MANIFEST,
    PROTOCOL,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    NoManifest,
)
from coterie.wire.ticket import TicketKind
from tests.apps.files.hostile import Answerer, Content, file_entry, folder_entry, giver, id_of, outside, page
from tests.apps.files.nodes import memory_node, prepare_home
from tests.support import run

HELLO = b"hello"
MEMORY_BYTES_MAX = 64 << 20  # of what Python allocates while a peer lies
BILLION = 10**9


@contextlib.asynccontextmanager
async def asker(
    folder: Path, content: Content, **lies: object
) -> AsyncIterator[tuple[Node, str, MemoryNetwork]]:
    """A node, and the ticket of a giver with these lies; afterwards the node still gets what an honest one has."""
    network = MemoryNetwork()
    (folder / "in").mkdir()
    async with memory_node(network, folder / "home-ben") as ben:
        async with giver(network, content, **lies) as ticket:  # type: ignore[arg-type]
            yield ben, ticket, network
        assert outside(folder) == {"in"}, "something was written where nothing may be"
        good = Content.of(page(file_entry("a", HELLO)), pieces=[HELLO])
        async with giver(network, good) as ticket:
            received = await ben.files.get(ticket, folder / "good")
        assert (received.files, (folder / "good" / "a").read_bytes()) == (1, HELLO)


def refused(folder: Path, content: Content, why: str, **lies: object) -> None:
    """Getting `content` fails for good, and says `why`."""

    async def main() -> None:
        async with asker(folder, content, **lies) as (ben, ticket, _):
            with pytest.raises(PeerError, match=why):
                await ben.files.get(ticket, folder / "in")
            (record,) = await ben.files.transfers() or [None]
            assert record is None or record.state == "failed"
            if record is not None:
                await ben.files.cancel(record.id)
            assert list((folder / "in").iterdir()) == []

    run(main())


def waits(folder: Path, content: Content, why: str, **lies: object) -> None:
    """Getting `content` waits for a better answer, and says `why`."""

    async def main() -> None:
        async with asker(folder, content, **lies) as (ben, ticket, _):
            transfer = await ben.files.begin(ticket, folder / "in")
            while transfer.record.state != "waiting":
                assert transfer.record.state == "running", transfer.record.note
                await asyncio.sleep(0.01)
            assert why in transfer.record.note
            await ben.files.cancel(transfer.record.id)
            assert list((folder / "in").iterdir()) == []

    run(main())


INNER = page(file_entry("a", HELLO))
LEAF = m.BlobLeaf(m.pack_chunks([(m.node_id(HELLO), 5)]))
TWO_PAGES = (page(file_entry("a", HELLO)), page(file_entry("b", HELLO)))


def index(*pages: tuple[str, m.Node], level: int = 1) -> m.TreeIndex:
    """An index over these pages with the first names it claims for them."""
    return m.TreeIndex(level, tuple(m.Page(first, id_of(node), *m.totals(node)) for first, node in pages))


LIES: dict[str, tuple[Content, str]] = {
    "sizes that do not add up": (Content.of(page(file_entry("a", HELLO, size=99))), "do not add up"),
    "out of order": (Content.of(page(file_entry("b"), file_entry("a"))), "not in order"),
    "a name twice": (Content.of(page(file_entry("a"), file_entry("a"))), "not in order, or not unique"),
    "a folder that is missing": (Content.of(page(folder_entry("d", INNER))), "no longer has"),
    "a folder that is a file": (
        Content.of(page(m.DirectoryEntry("d", 0, id_of(LEAF), 1, 5)), LEAF),
        "turns out to be something else",
    ),
    "a root of another kind": (Content.of(LEAF, opened={"files": 1}), "another kind"),
    "opened as another kind": (Content.of(INNER, opened={"kind": 1}), "another kind than the ticket says"),
    "opened with another size": (Content.of(INNER, opened={"size": 4}), "1 files of 4 bytes were announced"),
    "opened with other files": (Content.of(INNER, opened={"files": 2}), "2 files of 5 bytes were announced"),
    "opened below zero": (Content.of(INNER, opened={"size": -5}), "below zero"),
    "opened with files below zero": (Content.of(INNER, opened={"files": -1}), "below zero"),
    "opened beyond 63 bits": (Content.of(INNER, opened={"files": 2**63}), "beyond 63 bits"),
    "opened in another age": (Content.of(INNER, opened={"mtime_ns": 2**64 - 1}), "modification time"),
    "a folder larger than announced": (
        Content.of(page(folder_entry("d", INNER, files=0, size=0)), INNER),
        "announces 0 files of 0 bytes, and describes 1 of 5",
    ),
    "a billion files announced": (
        Content.of(page(folder_entry("d", INNER, files=10**6)), INNER),
        "announces 1000000 files",
    ),
    "a page with a wrong first name": (
        Content.of(index(("a", TWO_PAGES[0]), ("bb", TWO_PAGES[1])), *TWO_PAGES),
        "begins with another name",
    ),
    "one page many times": (
        Content.of(index(*((f"{n:04}", INNER) for n in range(4096))), INNER),
        "begins with another name",
    ),
    "an index in an index of its own level": (
        Content.of(
            index(("a", index(("a", TWO_PAGES[0]), ("b", TWO_PAGES[1]))), ("c", INNER), level=2),
            index(("a", TWO_PAGES[0]), ("b", TWO_PAGES[1])),
            *TWO_PAGES,
            INNER,
        ),
        "another level|begins with another name",
    ),
    "one enormous page": (
        Content.of(page(*(file_entry(f"{n:05}") for n in range(4097)))),
        "over 4096 entries",
    ),
    "deeper than 128": (None, "more than 128 folders"),  # type: ignore[dict-item]
}


def chain(depth: int) -> Content:
    """Folders within each other, each with the longest of names."""
    node, nodes = INNER, [INNER]
    for _ in range(depth):
        node = page(folder_entry("d" * 255, node))
        nodes.append(node)
    return Content.of(*reversed(nodes), pieces=[HELLO])


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_manifest(tmp_path: Path, lie: str) -> None:
    content, why = LIES[lie]
    content = content or chain(129)
    if lie == "a root of another kind":
        content.kind = TicketKind.TREE
        content.opened = type(content.opened)(2, "gift", 1, 5)
    content.pieces[m.node_id(HELLO)] = HELLO
    refused(tmp_path, content, why)


def test_the_deepest_tree_arrives_and_can_be_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with asker(tmp_path, chain(128)) as (ben, ticket, _):
            received = await ben.files.get(ticket, tmp_path / "home-ben" / "deep")
            assert received.files == 1
        writer.place.remove(tmp_path / "home-ben" / "deep")

    run(main())


async def _other_bytes(stream: Stream, request: GetManifest | GetChunks) -> None:
    data = m.encode(page(file_entry("evil", HELLO)))
    await stream.write(PROTOCOL.bulk_header(MANIFEST, len(data)) + data)


async def _too_large(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(PROTOCOL.bulk_header(MANIFEST, 1_000_001) + bytes(1_000_001))


async def _garbage(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(PROTOCOL.bulk_header(MANIFEST, 300) + os.urandom(300))


async def _oversized(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write((1 << 30).to_bytes(4, "big") + bytes([MANIFEST]))


async def _empty_frame(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(bytes(4))


async def _chunk_for_manifest(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(PROTOCOL.bulk_header(CHUNKS, 5) + HELLO)


async def _twice(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.send(NoManifest(request.manifest))
    await stream.send(NoManifest(request.manifest))


async def _unavailable(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.send(ChunkUnavailable(1))


async def _cut(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(PROTOCOL.bulk_header(MANIFEST, 300) + bytes(200))
    await stream.finish()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_other_bytes, "does not have the hash"),
        (_garbage, "does not have the hash"),
        (_too_large, "over 1000000"),
        (_oversized, "over the limit"),
        (_empty_frame, "an empty frame"),
        (_chunk_for_manifest, "does not fit the request"),
        (_unavailable, "does not fit the request"),
        (_twice, "no longer has|answer to nothing"),
        (_cut, "inside a frame"),
    ],
)
def test_a_wrong_answer_to_a_request_for_a_manifest(tmp_path: Path, answer: Answerer, why: str) -> None:
    refused(tmp_path, Content.of(INNER), why, answer=answer)


PIECES = [bytes([n]) * 40_000 for n in range(6)]
SIX = page(*(file_entry(f"{n}", piece) for n, piece in enumerate(PIECES)), file_entry("large", *PIECES))


def with_chunks(lie: Callable[[list[bytes]], list[bytes]], root: m.Node = SIX) -> tuple[Content, Answerer]:
    """A giver that is honest about manifests and answers chunks with what `lie` makes of the right ones."""
    content = Content.of(root, pieces=PIECES)

    async def answer(stream: Stream, request: GetManifest | GetChunks) -> None:
        if isinstance(request, GetManifest):
            await content.answer(stream, request)
            return
        for data in lie(content.chunks(request)):
            await stream.write(PROTOCOL.bulk_header(CHUNKS, len(data)) + data)

    return content, answer


@pytest.mark.parametrize(
    "lie",
    [
        lambda chunks: [bytes(len(c)) + b"" for c in chunks[:3]] + [b"\1" * 40_000] * 9,
        lambda chunks: [chunks[0][:-1], *chunks[1:]],
        lambda chunks: [chunks[0] + b"!", *chunks[1:]],
        lambda chunks: [b"", *chunks[1:]],
        lambda chunks: chunks[::-1],
        lambda chunks: [*chunks[:2], b"".join(chunks[2:4]) + b"\1" * 40_000, *chunks[5:]],
        lambda chunks: [b"".join(chunks)[:-1]],
        lambda chunks: [b"".join(chunks) + b"!"],
        lambda chunks: [b"".join(chunks) + chunks[0]],
    ],
    ids=[
        "wrong bytes", "too short", "too long", "empty", "out of order",
        "wrong in the middle", "together too short", "together too long", "together one too many",
    ],
)  # fmt: skip
def test_wrong_chunks_are_never_delivered(tmp_path: Path, lie: Callable[[list[bytes]], list[bytes]]) -> None:
    content, answer = with_chunks(lie)
    refused(tmp_path, content, r"sent wrong bytes for (\d|large)", answer=answer)


@pytest.mark.parametrize("together", [1, 2, 5, 7, 100])
def test_chunks_may_come_together_as_the_giver_likes(tmp_path: Path, together: int) -> None:
    """Whole small files, some chunks of a larger one, and both in one frame."""
    content, answer = with_chunks(
        lambda chunks: [b"".join(chunks[at : at + together]) for at in range(0, len(chunks), together)]
    )
    network = MemoryNetwork()

    async def main() -> None:
        async with (
            memory_node(network, tmp_path / "home-ben") as ben,
            giver(network, content, answer=answer) as ticket,
        ):
            await ben.files.get(ticket, tmp_path / "copy")
            assert (tmp_path / "copy" / "large").read_bytes() == b"".join(PIECES)
            assert [(tmp_path / "copy" / f"{n}").read_bytes() for n in range(6)] == PIECES

    run(main())


def test_more_chunks_than_asked_for(tmp_path: Path) -> None:
    """What is too much is refused, unless all was there before it came."""
    content, answer = with_chunks(lambda chunks: [*chunks, *[HELLO] * 1000])
    network = MemoryNetwork()

    async def main() -> None:
        async with (
            memory_node(network, tmp_path / "home-ben") as ben,
            giver(network, content, answer=answer) as ticket,
        ):
            with contextlib.suppress(PeerError):
                await ben.files.get(ticket, tmp_path / "copy")
                assert (tmp_path / "copy" / "large").read_bytes() == b"".join(PIECES)
                assert len(list((tmp_path / "copy").iterdir())) == 7
            assert outside(tmp_path) <= {"copy", "copy/large", *(f"copy/{n}" for n in range(6))}

    run(main())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of seconds become fractions of one."""
    monkeypatch.setattr(core, "STALL_S", 0.3)
    monkeypatch.setattr(fetch, "OPENED_S", 0.3)
    monkeypatch.setattr(source_session, "LISTEN_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_fewer_chunks_than_asked_for(tmp_path: Path) -> None:
    content, answer = with_chunks(lambda chunks: chunks[:-1], page(file_entry("a", *PIECES[:3])))
    waits(tmp_path, content, "no answer for", answer=answer)


async def _half_and_silence(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.write(PROTOCOL.bulk_header(MANIFEST, 300) + bytes(200))


async def _silence(stream: Stream, request: GetManifest | GetChunks) -> None:
    """Says nothing."""


async def _end(stream: Stream, request: GetManifest | GetChunks) -> None:
    await stream.finish()


async def _drip(stream: Stream, request: GetManifest | GetChunks) -> None:
    with contextlib.suppress(CoterieError):
        await stream.write(PROTOCOL.bulk_header(MANIFEST, 300))
        for _ in range(300):
            await asyncio.sleep(0.05)
            await stream.write(b"?")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_half_and_silence, "no answer for"),
        (_silence, "no answer for"),
        (_drip, "no answer for"),
        (_end, "ended the session"),
    ],
)
def test_a_giver_that_stops_answering_counts_as_gone(tmp_path: Path, answer: Answerer, why: str) -> None:
    waits(tmp_path, Content.of(INNER), why, answer=answer)


@pytest.mark.usefixtures("impatient")
def test_a_slow_line_is_not_taken_for_silence(tmp_path: Path) -> None:
    """One chunk takes five times as long as silence may last."""
    piece = bytes(30_000)
    content = Content.of(page(file_entry("a", piece)), pieces=[piece])

    async def slowly(stream: Stream, request: GetManifest | GetChunks) -> None:
        if isinstance(request, GetManifest):
            await content.answer(stream, request)
            return
        data = PROTOCOL.bulk_header(CHUNKS, len(piece)) + piece
        for at in range(0, len(data), 1_000):
            await asyncio.sleep(0.05)
            await stream.write(data[at : at + 1_000])

    async def main() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "home-ben") as ben,
            giver(network, content, answer=slowly) as ticket,
        ):
            await ben.files.get(ticket, tmp_path / "copy")
            assert len(content.requests) == 2  # nothing was asked for again

    run(main())


@pytest.mark.usefixtures("impatient")
def test_silence_after_open(tmp_path: Path) -> None:
    async def main() -> None:
        async def nothing(stream: Stream) -> None:
            """Says nothing, to no request either."""
            while await stream.receive() is not None:
                pass

        async with asker(tmp_path, Content.of(INNER), opening=nothing) as (ben, ticket, _):
            with pytest.raises(TransportError, match="connected but does not answer"):
                await ben.files.get(ticket, tmp_path / "in")
            assert await ben.files.transfers() == []

    run(main())


def raw(data: bytes, *, after_opened: bool) -> Callable[[Content], Callable[[Stream], Awaitable[None]]]:
    """An opening that says these bytes, after the right words or in their place."""

    def of(content: Content) -> Callable[[Stream], Awaitable[None]]:
        async def opening(stream: Stream) -> None:
            if after_opened:
                await stream.send(content.opened)
            await stream.write(data)

        return opening

    return of


@pytest.mark.parametrize(
    ("opening", "why"),
    [
        (
            raw(os.urandom(4096) + b"\xff" * 4096, after_opened=True),
            "over the limit|empty frame|nothing|malformed",
        ),
        (raw(b"GET / HTTP/1.1\r\n\r\n", after_opened=False), "over the limit"),
        (
            raw(PROTOCOL.encode(NoManifest(bytes(32))), after_opened=True),
            "answer to nothing|no longer|not fit",
        ),
        (raw(PROTOCOL.encode(NoManifest(bytes(32))), after_opened=False), "does? not answer as coterie does"),
        (raw(b"\0\0\0\5\2\x94\1\2\3", after_opened=False), "malformed"),
        (raw(b"\0\0\0\1\x63" * 100, after_opened=True), "unknown files frames"),
    ],
    ids=["garbage", "another protocol", "an answer to nothing", "no opened", "malformed", "unknown frames"],
)
def test_a_wrong_opening(
    tmp_path: Path, opening: Callable[[Content], Callable[[Stream], Awaitable[None]]], why: str
) -> None:
    content = Content.of(INNER)
    refused(tmp_path, content, why.replace("does?", "did"), opening=opening(content))


BAD_NAMES = ["", ".", "..", "/etc/passwd", "../up", "a/b", "nul\0", "x" * 256, "é" * 128]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_be_paths_are_refused(tmp_path: Path, name: str) -> None:
    content = Content.of(page(file_entry(name, HELLO)), pieces=[HELLO])
    refused(tmp_path, content, "a manifest with a name that")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_share_with_an_impossible_name_gets_one_of_ours(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        content = Content.of(INNER, pieces=[HELLO], opened={"name": name})
        network = MemoryNetwork()
        (tmp_path / "in").mkdir()
        async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
            received = await ben.files.get(ticket, tmp_path / "in")
        here = f"coterie-{content.root.hex()[:12]}"
        assert received.path == str(tmp_path / "in" / here)
        assert outside(tmp_path) == {"in", f"in/{here}", f"in/{here}/a"}

    run(main())


@pytest.mark.parametrize("name", [".profile", "..profile", ".ssh"])
def test_what_would_be_hidden_is_not(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        content = Content.of(LEAF, pieces=[HELLO], opened={"name": name})
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
            await ben.files.get(ticket, tmp_path)
        assert outside(tmp_path) == {name.lstrip(".")}

    run(main())


ODD_NAMES = [
    "A",
    "CON",
    "C:evil",
    "a",
    "a\\..\\b",
    "nul.txt",
    "x" * 255,
    "\x1b[2J",
    "e\u0301",
    "\u00e9",
    "\u202ename",
]


@pytest.mark.parametrize("folds", [False, True])
def test_odd_names_arrive_each_as_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    rules = NameRules(folds_case=folds, folds_unicode=folds)
    monkeypatch.setattr(writer, "rules_of", lambda parent: rules)

    async def main() -> None:
        pieces = [name.encode() for name in sorted(ODD_NAMES)]
        content = Content.of(page(*(file_entry(p.decode(), p) for p in pieces)), pieces=pieces)
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
            received = await ben.files.get(ticket, tmp_path / "copy")
        assert sorted(p.read_bytes() for p in (tmp_path / "copy").iterdir()) == sorted(pieces)
        names = {p.name for p in (tmp_path / "copy").iterdir()}
        assert (names == set(ODD_NAMES)) is not folds
        assert len(received.changed_names) == 2 * folds
        assert outside(tmp_path) == {"copy"} | {f"copy/{name}" for name in names}

    run(main())


def test_names_that_are_one_here_on_different_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = NameRules(folds_case=True, folds_unicode=True)
    monkeypatch.setattr(writer, "rules_of", lambda parent: rules)

    async def main() -> None:
        pages = [
            page(file_entry("A", b"1"), file_entry("B", b"2")),
            page(file_entry("a", b"3"), file_entry("b", b"4")),
        ]
        content = Content.of(index(("A", pages[0]), ("a", pages[1])), *pages, pieces=[b"1", b"2", b"3", b"4"])
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
            await ben.files.get(ticket, tmp_path / "copy")
        found = {p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()}
        assert found == {"A": b"1", "B": b"2", "a (2)": b"3", "b (2)": b"4"}

    run(main())


def test_links_that_lead_out_are_left_out(tmp_path: Path) -> None:
    bad = ["/etc/passwd", "../out", "a/../../out", "..", "b/.."]

    async def main() -> None:
        entries = [file_entry("a", HELLO), *(m.LinkEntry(f"l{n}", target) for n, target in enumerate(bad))]
        content = Content.of(page(*entries, m.LinkEntry("ok", "a")), pieces=[HELLO])
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
            received = await ben.files.get(ticket, tmp_path / "copy")
        assert [p.path for p in received.failed] == [f"l{n}" for n in range(len(bad))]
        assert all("leads out" in p.reason for p in received.failed)
        assert outside(tmp_path) == {"copy", "copy/a", "copy/ok"}

    run(main())


def bomb(levels: int, bottom: m.Node, width: int = 64) -> Content:
    """Few nodes that describe `width` ** `levels` folders: every entry of a folder is the same folder."""
    node, nodes = bottom, [bottom]
    for _ in range(levels):
        node = page(*(folder_entry(f"{n:04}", node) for n in range(width)))
        nodes.append(node)
    return Content.of(*reversed(nodes), pieces=[HELLO])


@contextlib.contextmanager
def bounded_memory() -> object:  # type: ignore[misc]
    """Fail when more than MEMORY_BYTES_MAX are allocated at once meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_a_tree_of_folders_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_memory, "FOLDER_MEMORY_BYTES_MAX", 1 << 20)
    content = bomb(100, page())
    assert (content.opened.files, content.opened.size) == (0, 0)  # nothing that was announced bounds it
    with bounded_memory():
        refused(tmp_path, content, "too many folders and links")
    assert len(content.requests) < 5000


def test_a_tree_that_is_wide_at_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "NODES_WAITING_MAX", 2000)
    with bounded_memory():
        refused(tmp_path, bomb(100, page()), "over 2000 nodes in waiting")


def test_links_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_memory, "FOLDER_MEMORY_BYTES_MAX", 1 << 20)
    links = page(*(m.LinkEntry(f"{n}", "x" * 900) for n in range(1000, 2000)))
    refused(tmp_path, bomb(2, links), "too many folders and links")


def test_more_files_or_bytes_than_the_disk_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(
        f_files=10**7, f_favail=10**6, f_frsize=1, f_bavail=10**12, f_bfree=10**12, f_blocks=10**13
    )
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    empty = page(*(file_entry(f"{n:02}") for n in range(64)))
    full = page(*(file_entry(f"{n:02}", *[bytes(500_000)] * 8) for n in range(64)))

    async def main() -> None:
        for content, why in ((bomb(4, empty), "room for 1,000,000 more files"), (bomb(4, full), "disk full")):
            assert content.opened.files >= BILLION
            network = MemoryNetwork()
            async with memory_node(network, tmp_path / "home-ben") as ben, giver(network, content) as ticket:
                with pytest.raises(StorageError, match=why):
                    await ben.files.get(ticket, tmp_path / "copy")
        assert outside(tmp_path) == set()

    run(main())


def test_chunks_of_one_byte_are_not_asked_for_all_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        chunks = [(bytes([n % 256, n >> 8]) * 16, 1) for n in range(8192)]
        leaf = m.BlobLeaf(m.pack_chunks(chunks))
        index = m.BlobIndex(1, m.CHILD.pack(id_of(leaf), 8192) * 8192)
        content = Content.of(index, leaf)

        async def manifests_only(stream: Stream, request: GetManifest | GetChunks) -> None:
            if isinstance(request, GetManifest):
                await content.answer(stream, request)

        async with asker(tmp_path, content, answer=manifests_only) as (ben, ticket, _):
            transfer = await ben.files.begin(ticket, tmp_path / "in")
            while not any(isinstance(r, GetChunks) for r in content.requests):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # it could go on asking now, if nothing held it back
            await ben.files.cancel(transfer.record.id)
        under_way = sum(r.count for r in content.requests if isinstance(r, GetChunks))
        assert under_way <= max(
            CHUNKS_PER_REQUEST_MAX, swarm_state.WINDOW_BYTES_START // swarm_events.CHUNK_COST_BYTES
        )
        assert len(content.requests) < 40

    with bounded_memory():
        run(main())


def test_an_error_of_our_own_ends_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def main() -> None:
        async with asker(tmp_path, Content.of(INNER)) as (ben, ticket, _):
            with monkeypatch.context() as patch:
                patch.setattr(receive.Receiver, "store", broken)
                with pytest.raises(RuntimeError):
                    await ben.files.get(ticket, tmp_path / "in")
            (record,) = await ben.files.transfers()
            assert (record.state, "a bug" in record.note) == ("failed", True)
            await ben.files.cancel(record.id)

    run(main())


def test_hints_at_ids_that_are_no_key_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        content = Content.of(page(file_entry("a", HELLO)), pieces=[HELLO])
        lies = [(b"\x02" * 32, ["127.0.0.1:9"]), (bytes([7]) * 31 + b"\x02", ["127.0.0.1:9"])]
        home = prepare_home(tmp_path / "home-ben")
        async with Node.open(home) as ben, giver(None, content, tells=lies) as ticket:
            received = await ben.files.get(ticket, tmp_path / "in")
            assert (received.files, ben.tasks.troubles()) == (1, [])

    run(main())
    assert "IrohError" not in caplog.text


@pytest.mark.parametrize("name", [".coterie-partial-", ".coterie-versions-", ".Coterie-\u200cPartial-"])
def test_a_tree_that_brings_a_staging_folder_gets_nothing_into_what_comes_later(
    tmp_path: Path, name: str
) -> None:
    """What lies in a folder of such a name must be neither delivered nor taken for what an earlier run left."""
    later = Content.of(page(file_entry("a", HELLO)), pieces=[HELLO])
    planted = page(file_entry("evil.sh", b"planted"))
    staging = page(folder_entry("data", planted))
    entry = folder_entry(f"{name}inner-{later.root.hex()[:32]}", staging)
    first = Content.of(
        page(entry, file_entry(f"{name}x", b"planted"), file_entry("z", HELLO)),
        *(staging, planted),
        pieces=[HELLO, b"planted"],
    )

    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben:
            async with giver(network, first) as ticket:
                received = await ben.files.get(ticket, tmp_path / "gift")
            assert os.listdir(tmp_path / "gift") == ["z"]
            assert [problem.path for problem in received.failed] == sorted([entry.name, f"{name}x"])
            for at in (tmp_path / "gift", tmp_path / "made"):  # nor what somebody else put there
                (at / f"{name}inner-{later.root.hex()[:32]}" / "data").mkdir(parents=True)
                (at / f"{name}inner-{later.root.hex()[:32]}" / "data" / "evil.sh").write_text("planted")
                async with giver(network, later) as ticket:
                    await ben.files.get(ticket, at / "inner")
                assert os.listdir(at / "inner") == ["a"]

    run(main())
