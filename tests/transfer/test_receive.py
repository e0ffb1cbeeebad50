"""What several peers bring of one download is readied, written and counted once."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content import Store
from coterie.content import manifest as m
from coterie.content.importer import Imported, import_path
from coterie.content.swarm.events import NodeArrived, Prepared, Stored, Wrong
from coterie.content.versions import Versions
from coterie.identity import PeerId, SecretKey
from coterie.transfer import partial_content, receive
from coterie.transfer.arrival import Arrival
from coterie.transfer.arriving import Answer, NodePlace
from coterie.transfer.discretion import Discretion
from coterie.transfer.got import Got, GotBook
from coterie.transfer.messages import CHUNKS, MANIFEST
from coterie.transfer.receive import Receiver
from coterie.transfer.records import TransferRecord
from coterie.wire import Ticket
from coterie.wire.frames import Bulk
from coterie.wire.ticket import TicketKind

ONE, OTHER = (SecretKey(bytes([n]) * 32).peer_id for n in (1, 2))


class Scene:
    """A giver's store with one tree, and a receiver of it."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.source, self.target = folder / "source", folder / "target"
        for name, data in files.items():
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            (self.source / name).write_bytes(data)
        self.theirs = Store.open(folder / "theirs" / "store.db")
        self.ours = Store.open(folder / "ours" / "store.db")
        self.shared: Imported = import_path(self.theirs, self.source)
        self.receiver = self.make()

    def make(self, book: GotBook | None = None) -> Receiver:
        ticket = Ticket(TicketKind.TREE, ONE, self.shared.root, b"s" * 16)
        record = TransferRecord(
            id="t",
            ticket=str(ticket),
            target=str(self.target),
            name="source",
            files=self.shared.files,
            size=self.shared.bytes,
            created=0.0,
        )
        versions = Versions(self.target.parent / "versions")
        arrival = Arrival(self.target, versions, book, None, source="somebody")
        discretion = Discretion(is_giver_known=False)
        return Receiver(ticket, record, store=self.ours, discretion=discretion, arrival=arrival)

    def close(self) -> None:
        self.receiver.close()
        self.theirs.close()
        self.ours.close()

    def node(self, peer: PeerId, manifest: bytes, place: NodePlace) -> Prepared:
        data = self.theirs.manifest(manifest)
        assert data is not None
        (event,) = self.receiver.store(peer, [Answer(peer, place, manifest, -1, Bulk(MANIFEST, data))])
        assert isinstance(event, NodeArrived)
        assert event.prepared is not None
        return event.prepared

    def chunks(self, place: NodePlace, first: int, end: int) -> bytes:
        wanted = place.chunks[first:end]
        return b"".join(bytes(one) for one in self.theirs.read_chunks(wanted))  # type: ignore[arg-type]

    def bring(self, peer: PeerId, manifest: bytes, place: NodePlace, first: int, end: int) -> int:
        data = memoryview(self.chunks(place, first, end))
        answer = Answer(peer, place, manifest, first, Bulk(CHUNKS, data), end - first)
        events = self.receiver.store(peer, [answer])
        assert all(isinstance(event, Stored) for event in events)
        return sum(event.count for event in events if isinstance(event, Stored))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    rng = random.Random(1)
    files = {f"small-{n}": rng.randbytes(10 * n) for n in range(5)}
    made = Scene(tmp_path, {**files, "cut": rng.randbytes(60_000), "folder/last": b"last"})
    yield made
    made.close()


def test_a_node_that_two_bring_is_readied_once(scene: Scene) -> None:
    place = scene.receiver.root_place()
    first = scene.node(ONE, scene.shared.root, place)
    assert scene.node(OTHER, scene.shared.root, place) is first
    assert not [path for path in scene.target.parent.iterdir() if path.name == "target"]


def test_a_file_of_several_chunks_is_written_whole_or_piece_by_piece(scene: Scene) -> None:
    place, root = scene.receiver.root_place(), scene.shared.root
    (below,) = scene.node(ONE, root, place).children
    count = len(place.chunks)
    assert count > 8
    begin = place.firsts[next(n for n, file in enumerate(place.files) if file.parts == ("cut",))]
    cut = next(file for file in place.files if file.parts == ("cut",))
    middle = begin + 2
    assert scene.bring(ONE, root, place, begin, middle) == 2
    assert scene.bring(OTHER, root, place, begin, middle + 1) == 3  # two of them were there
    assert (cut.left, scene.receiver.files) == (
        place.ends[-1] - place.ends[middle + 1] - _behind(place, begin),
        1,
    )
    assert scene.bring(OTHER, root, place, 0, count) == count
    assert scene.receiver.files == 6
    scene.node(ONE, *below)
    assert scene.bring(ONE, *below, 0, 1) == 1
    assert (scene.receiver.done_bytes, scene.receiver.files) == (scene.shared.bytes, scene.shared.files)
    done = scene.receiver.finish("fail")
    assert {p.name: p.read_bytes() for p in done.path.rglob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in scene.source.rglob("*") if p.is_file()
    }
    assert all(
        p.stat().st_mtime_ns == (done.path / p.relative_to(scene.source)).stat().st_mtime_ns
        for p in scene.source.rglob("*")
    )


def _behind(place: NodePlace, begin: int) -> int:
    """Bytes of the files behind the one that begins there."""
    later = [first for first in place.firsts if first > begin]
    return place.ends[-1] - place.ends[later[0]] if later else 0


def test_one_wrong_byte_among_many_files_is_noticed_and_nothing_of_it_written(scene: Scene) -> None:
    place, root = scene.receiver.root_place(), scene.shared.root
    scene.node(ONE, root, place)
    data = bytearray(scene.chunks(place, 0, len(place.chunks)))
    data[-1] ^= 1
    frame = Bulk(CHUNKS, memoryview(bytes(data)))
    (event,) = scene.receiver.store(ONE, [Answer(ONE, place, root, 0, frame, len(place.chunks))])
    assert isinstance(event, Wrong)
    assert scene.receiver.files == 1  # the empty one


@pytest.mark.parametrize("ahead_max", [5, 6, 7])
def test_what_is_noted_of_files_is_what_was_written_however_many_are_listed_ahead(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_max: int
) -> None:
    """There are seven files; more than `ahead_max` are looked at when they have their names."""
    monkeypatch.setattr(receive, "WRITTEN_AHEAD_MAX", ahead_max)
    book = GotBook(tmp_path / "got.db")
    scene.receiver = scene.make(book)
    place, root = scene.receiver.root_place(), scene.shared.root
    (below,) = scene.node(ONE, root, place).children
    scene.bring(ONE, root, place, 0, len(place.chunks))
    scene.node(ONE, *below)
    scene.bring(ONE, *below, 0, 1)
    path = scene.receiver.finish("fail").path
    got = Got("id", str(path), bytes(ONE), "", "", "source", root, 0.0)
    (path / "small-4").write_bytes(b"changed here at once")  # after it was delivered, before it is noted
    scene.receiver.remember(path, got)
    assert book.size("id") == (scene.shared.files, scene.shared.bytes)
    for name in ["small-0", "small-4", "cut", "folder/last"]:
        noted = book.written("id", name)
        assert noted is not None
        source = (scene.source / name).stat()
        assert (noted.size, noted.mtime_ns) == (source.st_size, source.st_mtime_ns)
        assert noted.is_at((path / name).stat()) is (name != "small-4")
    book.close()


def test_nodes_reach_the_store_in_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_content, "FLUSH_S", 1e9)
    root, staged = scene.shared.root, scene.receiver.staged
    (below,) = scene.node(ONE, root, scene.receiver.root_place()).children
    assert (scene.ours.manifest(root), staged.node(root)) == (None, scene.theirs.manifest(root))
    scene.receiver.close()
    assert scene.ours.in_root(root, root)
    monkeypatch.setattr(partial_content, "FRESH_MAX", 1)
    scene.node(ONE, *below)
    assert scene.ours.in_root(root, below[0])
    assert m.decode(staged.node(below[0]) or b"") == m.decode(scene.ours.manifest(below[0]) or b"")
