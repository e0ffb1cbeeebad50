"""Whole nodes with other people's programs, in the network laboratory: each downloads from us and seeds to us.

Every computer has an address of its own; they find each other through a tracker, as nothing else reaches all of them.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.clients import CLIENTS, Client
from tests.lab.lab import Host, Lab
from tests.lab.nodes import LabNode
from tests.lab.remote import ROOT

FETCH_S = 90.0  # guess: the programs ask a tracker at once, and some of them again only after half a minute
TRACKER_PORT = 6969
AT_ONCE = 4  # stories; guess: two for each core
HYBRID_S = 5.0  # measured: a torrent that a program takes is there after 1 to 3 s
pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]
_ports = count(20_000, 10)
_seeds = count()  # no two tests have the same torrent


class Place:
    """A laboratory with a tracker, our node, and a computer for the other program."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.tracker = self._track(lab.public("tracker"))
        self.host = lab.public("ours")
        home = folder / "ours"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(
            f'reach = "internet"\ndiscovery = false\nbind = "{self.host.ip}"\n'
            'dht_private = true\ndht_bootstrap = "198.51.100.250:1"\n'
        )
        self.ours = LabNode(self.host, folder)
        self.ours.up()
        self.other = lab.public("other")

    def _track(self, host: Host) -> str:
        process = host.popen(
            *(sys.executable, "-m", "tests.foreign.tracker", host.ip, str(TRACKER_PORT)),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return f"http://{host.ip}:{TRACKER_PORT}/announce"

    def start(self, client: Client, source: str, folder: Path) -> "Running":
        """The other program with one torrent."""
        port = next(_ports)
        settings = self.folder / f"settings-{port}"
        settings.mkdir()
        folder.mkdir(exist_ok=True)
        log = (self.folder / f"log-{port}").open("wb")
        with log:
            process = self.other.popen(
                *client.command(source, folder, port, settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": str(settings), "TR_CURL_VERBOSE": ""},
            )
        return Running(process, Path(log.name))


class Running:
    """A program that runs."""

    def __init__(self, process: "subprocess.Popen[Any]", log: Path) -> None:
        self.process = process
        self.log = log

    def wait_for(self, source: Path, copy: Path) -> None:
        """Until every byte of `source` is in `copy`."""
        deadline = time.monotonic() + FETCH_S
        while not same(source, copy):
            said = self.log.read_text(errors="replace")[-2000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, f"{said}\nthere: {sorted(copy.parent.rglob('*'))}"
            time.sleep(0.2)

    def stop(self) -> None:
        """As a person would; what does not listen is killed."""
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def fill(folder: Path, seed: int) -> Path:
    """Several files, some of several pieces, one empty."""
    noise = random.Random(seed)
    for name, size in (("large.bin", 700_001), ("sub/b.txt", 20_000), ("sub/deep/c", 1), ("ünd.txt", 5)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(size))
    (folder / "empty").touch()
    return folder


def same(source: Path, copy: Path) -> bool:
    """Whether `copy` has every file of `source`; padding of other programs beside them does not count."""
    if source.is_file():
        return copy.is_file() and copy.read_bytes() == source.read_bytes()
    files = [path for path in source.rglob("*") if path.is_file()]
    copies = [copy / path.relative_to(source) for path in files]
    # an empty file has nothing to fetch: some programs do not make it
    return all(
        (there.is_file() and there.read_bytes() == path.read_bytes()) or not path.stat().st_size
        for path, there in zip(files, copies, strict=True)
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Lab() as lab:
        made = Place(lab, tmp_path_factory.mktemp("place"))
        yield made
        made.ours.down()


def out_and_back(place: Place, client: Client, version: str, tmp_path: Path) -> None:
    """Our torrent goes out, by file and by link, and comes back from who has it."""
    source = fill(tmp_path / "album", next(_seeds))
    words = ["share", str(source), "--bittorrent", "--tracker", place.tracker]
    shared = place.ours.result(*words, *(["--v1"] if version == "v1" else []))
    by_file = place.start(client, shared["torrent"], tmp_path / "by-file")
    by_file.wait_for(source, tmp_path / "by-file" / "album")
    by_magnet = place.start(client, shared["magnet"], tmp_path / "by-magnet")
    by_magnet.wait_for(source, tmp_path / "by-magnet" / "album")
    by_magnet.stop()
    torrent = tmp_path / "kept.torrent"
    torrent.write_bytes(Path(shared["torrent"]).read_bytes())
    by_file.stop()
    place.ours("unshare", shared["id"])
    # a program that saw us as a seed keeps closing our connections: it is started anew
    again = place.start(client, str(torrent), tmp_path / "by-file")
    place.ours("get", str(torrent), str(tmp_path / "back-by-file"))
    assert same(source, tmp_path / "back-by-file")
    again.stop()
    again = place.start(client, str(torrent), tmp_path / "by-file")
    place.ours("get", shared["magnet"], str(tmp_path / "back-by-magnet"))
    assert same(source, tmp_path / "back-by-magnet")
    again.stop()


def in_and_on(place: Place, client: Client, version: str, tmp_path: Path) -> None:
    """Another's torrent of version 1 comes in, and is passed on by us."""
    source = fill(tmp_path / "theirs" / "album", next(_seeds))
    torrent = tmp_path / "album.torrent"
    made = ("transmission-create", "-t", place.tracker, "-o", str(torrent), str(source))
    subprocess.run(made, check=True, capture_output=True)
    seeding = place.start(client, str(torrent), tmp_path / "theirs")
    place.ours("get", str(torrent), str(tmp_path / "by-file"), "--share")
    assert same(source, tmp_path / "by-file")
    seeding.stop()
    passed_on = place.start(client, magnet_of(torrent), tmp_path / "again")
    passed_on.wait_for(source, tmp_path / "again" / "album")
    passed_on.stop()
    place.ours("unshare", str(tmp_path / "by-file"))
    link = magnet_of(torrent)
    assert "btmh" not in link  # version 1 alone
    seeding = place.start(client, str(torrent), tmp_path / "theirs")
    place.ours("get", link, str(tmp_path / "by-magnet"))
    assert same(source, tmp_path / "by-magnet")
    seeding.stop()


def single_file(place: Place, client: Client, version: str, tmp_path: Path) -> None:
    """A torrent of one file, by link."""
    source = tmp_path / "one.bin"
    source.write_bytes(random.Random(next(_seeds)).randbytes(400_001))
    shared = place.ours.result("share", str(source), "--bittorrent", "--tracker", place.tracker, "--v1")
    by_magnet = place.start(client, shared["magnet"], tmp_path / "by-magnet")
    by_magnet.wait_for(source, tmp_path / "by-magnet" / "one.bin")
    by_magnet.stop()
    place.ours("unshare", shared["id"])


def magnet_of(torrent: Path) -> str:
    """The link that another program makes of a torrent file."""
    shown = subprocess.run(
        ("transmission-show", "--magnet", str(torrent)), check=True, capture_output=True, text=True
    )
    return shown.stdout.strip()


STORIES = {
    f"{story.__name__}-{client.name}-{version}": partial(story, client=client, version=version)
    for client in CLIENTS
    for story, version in (
        (out_and_back, "v1"),
        (out_and_back, "hybrid"),
        (in_and_on, "v1"),
        (single_file, "v1"),
    )
    if version == "v1" or client.takes_hybrid
}


@pytest.fixture(scope="module")
def told(
    request: pytest.FixtureRequest, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """All stories that are wanted, beside each other: most of their time is waiting for a tracker or a program."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params["story"] for call in calls if call is not None and "story" in call.params]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {
            name: threads.submit(STORIES[name], place, tmp_path=tmp_path_factory.mktemp(name))
            for name in chosen
        }


@pytest.mark.parametrize("story", STORIES)
def test_with_programs_of_others(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()


@pytest.mark.parametrize("client", [c for c in CLIENTS if not c.takes_hybrid], ids=lambda client: client.name)
def test_what_debian_has_takes_no_hybrid(place: Place, client: Client, tmp_path: Path) -> None:
    """A limit of theirs, as docs/bittorrent.md says; when this fails, that page and `takes_hybrid` are out of date."""
    source = fill(tmp_path / "album", next(_seeds))
    shared = place.ours.result("share", str(source), "--bittorrent", "--tracker", place.tracker)
    running = place.start(client, shared["torrent"], tmp_path / "there")
    time.sleep(HYBRID_S)
    assert not same(source, tmp_path / "there" / "album")
    running.stop()
    place.ours("unshare", shared["id"])
