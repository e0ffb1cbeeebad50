"""Real sessions of libtorrent on loopback: one address each, nothing else on the network."""

import os
import queue
import random
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import libtorrent as lt
import pytest

from coterie.content.bittorrent.hashing import hash_files
from coterie.content.bittorrent.layout import METAINFO_BYTES_MAX
from coterie.content.bittorrent.magnet import magnet_link
from coterie.content.bittorrent.port import port_for
from coterie.content.bittorrent.read import Source, read_torrent
from coterie.content.bittorrent.session import (
    RENAMES_MAX,
    BitTorrentSession,
    Complete,
    Described,
    Event,
    Failed,
    Flushed,
    Kept,
    Listening,
    Moved,
    Removed,
    Task,
)
from coterie.content.bittorrent.settings import RECONNECT_S, SessionOptions
from coterie.content.bittorrent.torrent_file import TorrentEntry, bencode, in_order, torrent_file
from coterie.errors import LimitExceeded, PeerError, UsageError

WAIT_S = 20.0
PIECE = 16_384
E = TypeVar("E", bound=Event)
_hosts = count(1)


class Client:
    """A session with its events in order."""

    def __init__(self, ip: str = "", *, port: int = 0) -> None:
        self.ip = ip or f"127.{os.getpid() % 250}.7.{next(_hosts)}"
        self.events: queue.Queue[Event] = queue.Queue()
        options = SessionOptions(is_open=False, bind_ip=self.ip, port=port)
        self.session = BitTorrentSession(options, self.events.put)
        self.port = self.expect(Listening).port

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def expect(self, kind: type[E]) -> E:
        """The next event of this kind; a failure is one."""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if isinstance(event, kind):
                return event
            assert not isinstance(event, Failed), event

    def watch(self, enough: Callable[[Moved], bool], limit_s: float = WAIT_S) -> Moved | None:
        """The first state of a torrent that is `enough`; None when there is none in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.session.look()
            with suppress(queue.Empty):
                event = self.events.get(timeout=0.05)
                if isinstance(event, Moved) and enough(event):
                    return event
        return None

    def remove(self, key: str) -> None:
        self.session.remove(key)
        self.expect(Removed)


def test_every_address_has_the_same_port() -> None:
    """Else links and the local network are told that of the first address, which is the loopback's."""
    events: queue.Queue[Event] = queue.Queue()
    session = BitTorrentSession(SessionOptions(is_open=False, bind_ip="0.0.0.0"), events.put)
    try:
        addresses = 2 if socket.has_ipv6 else 1
        ports = [_port(events.get(timeout=WAIT_S)) for _ in range(2 * addresses)]  # TCP and UDP
        assert set(ports) == {session.port}
    finally:
        session.close()


def test_a_port_that_is_taken_gives_way_to_one_that_is_free() -> None:
    ip = f"127.{os.getpid() % 250}.7.{next(_hosts)}"
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind((ip, 0))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            assert port_for(ip, port) not in (0, port)
        assert port_for(ip, port) == port


def _port(event: Event) -> int:
    assert isinstance(event, Listening)
    return event.port


@contextmanager
def clients(number: int) -> Iterator[list[Client]]:
    opened: list[Client] = []
    try:
        for _ in range(number):
            opened.append(Client())
        yield opened
    finally:
        for client in opened:
            client.session.close()


def make(top: Path, sizes: dict[str, int]) -> Source:
    """Files of random bytes in the folder `top`, and their torrent."""
    noise = random.Random(1)
    for name, size in sizes.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(size))
    entries = in_order([TorrentEntry(tuple(name.split("/")), size) for name, size in sizes.items()])
    hashes = hash_files(top, entries, PIECE, is_folder=True)
    return read_torrent(torrent_file(top.name, entries, hashes, PIECE, is_folder=True).metainfo)


def places(source: Source, under: str) -> dict[int, str]:
    return {file.index: os.path.join(under, *file.path) for file in source.files if not file.hidden}


def seed(client: Client, source: Source, top: Path) -> None:
    task = Task(folder=str(top.parent), places=places(source, top.name), is_complete=True)
    client.session.fetch("seed", source, task)


SIZES = {"a": 100_000, "sub/b": 1, "sub/empty": 0, "c": 3 * PIECE}


def same(left: Path, right: Path) -> bool:
    return all((right / name).read_bytes() == (left / name).read_bytes() for name in SIZES)


def test_a_folder_travels_by_file_and_lands_where_it_was_told(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        task = Task(folder=str(tmp_path), places=places(source, "to"), peers=[anna.address])
        ben.session.fetch("get", source, task)
        ben.expect(Complete)
        ben.session.flush("get")
        ben.expect(Flushed)
        assert same(tmp_path / "from", tmp_path / "to")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "to"]


def test_the_description_comes_by_magnet_link_and_nothing_else_is_written(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        link = magnet_link(source.v1, source.v2, "from", peers=[anna.address])
        ben.session.describe("get", link, str(tmp_path / "private"))
        found = ben.expect(Described)
        assert anna.address in found.peers
        assert read_torrent(found.metainfo).files == source.files
        ben.remove("get")
        assert not (tmp_path / "private").exists()
        task = Task(folder=str(tmp_path), places=places(source, "to"), peers=found.peers)
        ben.session.fetch("get", read_torrent(found.metainfo), task)
        ben.expect(Complete)


def described(ben: Client, anna: Client, source: Source, private: Path) -> Described:
    """Ben has the description from Anna, and still is in touch with her."""
    link = magnet_link(source.v1, source.v2, "from", peers=[anna.address])
    ben.session.describe("get", link, str(private))
    return ben.expect(Described)


def test_the_content_comes_from_who_described_it_without_a_new_connection(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        found = described(ben, anna, source, tmp_path / "private")
        assert not ben.watch(lambda moved: moved.done > 0, limit_s=0.5)  # that it is finished is no news
        (tmp_path / "to" / "sub").mkdir(parents=True)
        (tmp_path / "to" / "sub" / "empty").touch()
        began = time.monotonic()
        task = Task(folder=str(tmp_path), places=places(source, "to"))
        assert ben.session.go_on("get", read_torrent(found.metainfo), task)
        ben.expect(Complete)
        assert time.monotonic() - began < RECONNECT_S / 2  # a second connection waits for that
        ben.session.flush("get")
        ben.expect(Flushed)
        assert same(tmp_path / "from", tmp_path / "to")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "to"]


def test_going_on_fetches_only_what_is_wanted_under_the_names_it_was_given(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    wanted = [file.index for file in source.files if file.path == ("c",)]
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        described(ben, anna, source, tmp_path / "private")
        task = Task(folder=str(tmp_path), places=dict.fromkeys(wanted, "to/other"), wanted=wanted)
        assert ben.session.go_on("get", source, task)
        ben.expect(Complete)
        ben.session.flush("get")
        ben.expect(Flushed)
        assert (tmp_path / "to" / "other").read_bytes() == (tmp_path / "from" / "c").read_bytes()
        assert [path.name for path in (tmp_path / "to").iterdir()] == ["other"]


def test_a_disk_that_fails_when_going_on_is_told(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    (tmp_path / "to").write_text("in the way")
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        described(ben, anna, source, tmp_path / "private")
        assert ben.session.go_on("get", source, Task(folder=str(tmp_path), places=places(source, "to")))
        while not isinstance(ben.events.get(timeout=WAIT_S), Failed):
            pass
        assert (tmp_path / "to").read_text() == "in the way"


def test_one_who_cannot_go_on_says_so(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    empty = [file.index for file in source.files if not file.size]
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        task = Task(folder=str(tmp_path), places=places(source, "to"))
        assert not ben.session.go_on("get", source, task)  # nothing was described
        described(ben, anna, source, tmp_path / "private")
        assert not ben.session.go_on("get", source, replace(task, resume=b"kept"))
        assert not ben.session.go_on("get", source, replace(task, wanted=empty))
        many = {index: str(index) for index in range(RENAMES_MAX + 1)}
        assert not ben.session.go_on("get", source, replace(task, places=many))
        ben.remove("get")
        ben.session.fetch("get", source, replace(task, peers=[anna.address]))
        ben.expect(Complete)


def test_only_what_is_wanted_is_fetched(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    wanted = [file.index for file in source.files if file.path == ("a",)]
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        task = Task(folder=str(tmp_path), places=places(source, "to"), wanted=wanted, peers=[anna.address])
        ben.session.fetch("get", source, task)
        ben.expect(Complete)
        ben.session.flush("get")
        ben.expect(Flushed)
        assert (tmp_path / "to" / "a").read_bytes() == (tmp_path / "from" / "a").read_bytes()
        assert not (tmp_path / "to" / "c").exists()


def test_what_was_kept_is_not_fetched_again(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        wanted = [file.index for file in source.files if file.path == ("a",)]
        task = Task(folder=str(tmp_path), places=places(source, "to"), wanted=wanted, peers=[anna.address])
        ben.session.fetch("get", source, task)
        ben.expect(Complete)
        ben.session.keep("get")
        kept = ben.expect(Kept).resume
        assert kept
        ben.remove("get")
        rest = Task(folder=str(tmp_path), places=places(source, "to"), wanted=wanted, resume=kept)
        ben.session.fetch("get", source, rest)  # no peer: it must know
        ben.expect(Complete)


def test_without_that_the_files_themselves_are_read(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(1) as (anna,):
        anna.session.fetch("get", source, Task(folder=str(tmp_path), places=places(source, "from")))
        anna.expect(Complete)
        anna.remove("get")
        damaged = bytearray((tmp_path / "from" / "a").read_bytes())
        damaged[5] ^= 1
        (tmp_path / "from" / "a").write_bytes(damaged)
        anna.session.fetch("get", source, Task(folder=str(tmp_path), places=places(source, "from")))
        assert anna.watch(lambda moved: moved.done == sum(SIZES.values()) - PIECE)


def test_damaged_resume_data_means_reading_the_files(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(1) as (anna,):
        task = Task(folder=str(tmp_path), places=places(source, "from"), resume=b"junk")
        anna.session.fetch("get", source, task)
        anna.expect(Complete)


def test_a_changed_file_is_never_served(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    changed = bytearray((tmp_path / "from" / "a").read_bytes())
    changed[0] ^= 1
    (tmp_path / "from" / "a").write_bytes(changed)
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        wanted = [file.index for file in source.files if file.path in (("c",), ("sub", "b"))]
        task = Task(folder=str(tmp_path), places=places(source, "to"), wanted=wanted, peers=[anna.address])
        ben.session.fetch("get", source, task)
        ben.expect(Complete)
        ben.remove("get")
        task = Task(folder=str(tmp_path), places=places(source, "to"), peers=[anna.address])
        ben.session.fetch("get", source, task)
        assert not ben.watch(lambda moved: moved.done > sum(SIZES.values()) - PIECE, limit_s=1.5)


def test_the_same_torrent_twice_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    with clients(1) as (anna,):
        seed(anna, source, tmp_path / "from")
        task = Task(folder=str(tmp_path), places=places(source, "to"))
        with pytest.raises(UsageError, match="cannot be added"):
            anna.session.fetch("other", source, task)
        with pytest.raises(UsageError, match="running already"):
            anna.session.fetch("seed", source, task)


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    (tmp_path / "to").write_text("in the way")
    with clients(2) as (anna, ben):
        seed(anna, source, tmp_path / "from")
        task = Task(folder=str(tmp_path), places=places(source, "to"), peers=[anna.address])
        ben.session.fetch("get", source, task)
        while not isinstance(event := ben.events.get(timeout=WAIT_S), Failed):
            assert not isinstance(event, Complete)
        assert "to" in event.what


def test_a_session_that_is_not_open_drops_trackers_and_far_peers(tmp_path: Path) -> None:
    source = make(tmp_path / "from", SIZES)
    link = magnet_link(source.v1, source.v2, "x", trackers=["http://127.0.0.1:1/announce"])
    with clients(1) as (anna,):
        anna.session.describe("get", link, str(tmp_path))
        anna.session.connect("get", "198.51.100.7:80")
        assert anna.watch(lambda moved: moved.phase == "downloading metadata")
        assert not anna.watch(lambda moved: moved.peers > 0, limit_s=1.0)
        with pytest.raises(UsageError, match="cannot be read"):
            anna.session.describe("other", "magnet:?xt=urn:btih:short", str(tmp_path))


def test_a_port_can_be_had_again() -> None:
    with clients(1) as (anna,):
        ip, port = anna.ip, anna.port
    again = Client(ip, port=port)
    again.session.close()
    assert again.port == port


# ---- reading torrent files


def hostile(files: list[dict[str, object]], **info: object) -> bytes:
    whole = {"name": "top", "piece length": PIECE, "pieces": bytes(20), "files": files, **info}
    return bencode({"info": whole})


def paths(metainfo: bytes) -> list[tuple[str, ...]]:
    return [file.path for file in read_torrent(metainfo).files]


def test_names_that_lead_out_are_defused() -> None:
    listed = [
        {"length": 1, "path": ["..", "..", "x"]},
        {"length": 1, "path": ["/etc", "passwd"]},
        {"length": 1, "path": ["n" * 5_000]},
    ]
    for path in paths(hostile(listed)):
        assert ".." not in path
        assert not any("/" in part or len(part.encode()) > 255 for part in path)


def test_links_and_padding_are_told_apart() -> None:
    listed = [
        {"length": 1, "path": ["a"]},
        {"length": 0, "path": ["l"], "attr": "l", "symlink path": ["..", "etc"]},
        {"length": 9, "path": [".pad", "9"], "attr": "p"},
        {"length": 1, "path": ["x"], "attr": "x"},
    ]
    found = read_torrent(hostile(listed)).files
    assert [(f.is_link, f.hidden, f.executable) for f in found] == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


@pytest.mark.parametrize(
    "metainfo",
    [
        b"",
        b"hello",
        b"d4:infode",
        hostile([], name="../../.."),
        hostile([{"length": -1, "path": ["a"]}]),
        hostile([{"length": 1 << 62, "path": ["a"]}, {"length": 1 << 62, "path": ["b"]}]),
        hostile([{"length": 1, "path": ["a"]}], **{"piece length": 0}),
        b"l" * 100_000 + b"e" * 100_000,
    ],
)
def test_what_is_no_torrent_is_refused(metainfo: bytes) -> None:
    with pytest.raises(PeerError, match="not a torrent"):
        read_torrent(metainfo)


def test_a_torrent_beyond_all_measure_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        read_torrent(bytes(METAINFO_BYTES_MAX + 1))


def test_bytes_at_random_are_a_torrent_or_refused(tmp_path: Path) -> None:
    good = make(tmp_path / "from", {"a": 40_000, "b": 5}).metainfo
    noise = random.Random(3)
    for _ in range(500):
        bad = bytearray(good)
        for _ in range(noise.randint(1, 8)):
            bad[noise.randrange(len(bad))] = noise.randrange(256)
        try:
            read = read_torrent(bytes(bad))
        except (PeerError, LimitExceeded):
            continue
        assert all(".." not in file.path for file in read.files)


def test_links_in_a_torrent_are_not_made(tmp_path: Path) -> None:
    listed = [
        {"length": 0, "path": ["l"], "attr": "l", "symlink path": ["a"]},
        {"length": 5, "path": ["a"]},
    ]
    source = read_torrent(hostile(listed))
    with clients(1) as (anna,):
        task = Task(folder=str(tmp_path), places={1: "to/a"}, wanted=[1], peers=["127.0.0.1:1"])
        anna.session.fetch("get", source, task)
        assert anna.watch(lambda moved: moved.phase == "downloading")
        links = [p for p in tmp_path.rglob("*") if stat.S_ISLNK(p.lstat().st_mode)]
        assert links == []


def test_the_library_is_the_one_this_was_written_for() -> None:
    assert lt.__version__.startswith("2.1.")


def test_a_seeded_file_that_was_edited_is_never_written_over(tmp_path: Path) -> None:
    """Who asks for it finds that a piece is wrong; then the seeder must not fetch the right one from others."""
    good, mine = tmp_path / "good", tmp_path / "mine"
    source = make(good / "share", {"a": 100_000, "b": 50_000})
    shutil.copytree(good, mine)
    (mine / "share" / "a").write_bytes(b"edited" + bytes(99_994))
    with clients(3) as (seeder, editor, asker):
        seed(editor, source, mine / "share")
        to = Task(folder=str(tmp_path / "to"), places=places(source, "got"), peers=[editor.address])
        asker.session.fetch("get", source, to)
        assert editor.watch(lambda moved: moved.phase == "downloading") is not None
        seed(seeder, source, good / "share")
        editor.session.connect("seed", seeder.address)
        asker.session.connect("get", seeder.address)
        asker.expect(Complete)
        editor.watch(lambda moved: moved.done == moved.size, 2.0)
        assert (mine / "share" / "a").read_bytes().startswith(b"edited")
