"""Homes written by version 0.1 open with everything in them, and a node of that version still takes part.

`make_homes.py` made the homes; they name what they share by absolute paths, so they are unpacked where they were.
"""

import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.files.nodes import coterie, running_node, tree_of

HOMES = Path(__file__).parent / "homes-v0.1.tar.xz"
FOLDER = Path("/tmp/coterie-homes-of-v0.1")
ROOT = Path(__file__).parent.parent.parent
FILM_LINES = 700_000
WHEN_S = 1_700_000_000
OLD_COMMIT = "88874f2"  # version 0.1
OLD_APPS = ("circles", "contacts", "files", "grants", "overlay")
WAIT_S = 60.0


@pytest.fixture
def facts() -> Iterator[dict[str, Any]]:
    """The homes of anna and ben, unpacked; what is known of them."""
    with Path(f"{FOLDER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes want the same place
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(mode=0o700)
        try:
            yield unpack()
        finally:
            shutil.rmtree(FOLDER)


def unpack() -> dict[str, Any]:
    """Put the homes and what anna shares into FOLDER; give what `make_homes.py` noted."""
    with tarfile.open(HOMES) as packed:
        packed.extractall(FOLDER, filter="tar")
    film = FOLDER / "film.mkv"
    film.write_text("".join(f"line {number:>14}\n" for number in range(FILM_LINES)))
    os.utime(film, (WHEN_S, WHEN_S))
    facts: dict[str, Any] = json.loads((FOLDER / "facts.json").read_text())
    return facts


def old_version(folder: Path) -> Path:
    """The sources of version 0.1 below `folder`, to stand first in PYTHONPATH."""
    packed = subprocess.run(["git", "archive", OLD_COMMIT, "src"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip("the history of this checkout does not reach back to version 0.1")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as sources:
        sources.extractall(folder, filter="data")
    known = folder / "src" / "coterie-0.1.0.dist-info"  # found before the installed one
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: coterie\nVersion: 0.1.0\n")
    apps = "\n".join(f"{name} = coterie.apps.{name}.app:APP" for name in OLD_APPS)
    (known / "entry_points.txt").write_text(f"[coterie.apps]\n{apps}\n")
    return folder / "src"


@contextlib.contextmanager
def in_path(sources: Path | None) -> Iterator[None]:
    """Commands started in this block run the code in `sources`; None: that of now."""
    with pytest.MonkeyPatch.context() as patch:
        if sources is not None:
            patch.setenv("PYTHONPATH", str(sources))
        yield


class Home:
    """A running node, and commands of the same version to it."""

    def __init__(self, home: Path, sources: Path | None, stack: contextlib.ExitStack) -> None:
        self._sources = sources
        with in_path(sources):
            self._node = stack.enter_context(running_node(home))

    def call(self, *words: str) -> Any:
        with in_path(self._sources):
            return self._node.call(*words)


def until(holds: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def everything_is_there(anna: Home, ben: Home, facts: dict[str, Any]) -> None:
    """Identity, contacts, circle, shares, grants, the transfer that was cut off, the tickets."""
    assert anna.call("id")["id"] == facts["ids"]["anna"]
    assert ben.call("id")["id"] == facts["ids"]["ben"]
    assert [line["name"] for line in anna.call("contacts")] == ["ben"]
    assert [line["name"] for line in ben.call("contacts")] == ["anna"]
    for node in (anna, ben):
        assert [(line["name"], line["role"]) for line in node.call("circle")] == [("home", "owner")]
    assert sorted(line["name"] for line in anna.call("shares")) == [
        "diary", "film.mkv", "letters", "music", "photos",
    ]  # fmt: skip
    assert len(anna.call("grants")) == 1
    until((FOLDER / "film-of-anna.mkv").exists)
    assert (FOLDER / "film-of-anna.mkv").read_bytes() == (FOLDER / "film.mkv").read_bytes()
    ben.call("get", facts["tickets"]["diary"], str(FOLDER / "by-ticket"))
    assert (FOLDER / "by-ticket" / "monday.txt").read_text() == "Rain."
    until(lambda: {line["name"] for line in ben.call("ls", "anna")} >= {"letters", "music", "diary"})
    (FOLDER / "by-place").mkdir()
    for place in ("letters", "music", "diary"):
        ben.call("get", f"anna/{place}", str(FOLDER / "by-place" / place))
        assert set(tree_of(FOLDER / "by-place" / place)) == set(tree_of(FOLDER / place))


@pytest.mark.slow
def test_homes_of_version_0_1_open_with_everything_in_them(facts: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        anna, ben = (Home(FOLDER / name, None, stack) for name in ("anna", "ben"))
        everything_is_there(anna, ben, facts)
        assert anna.call("recovery") != []


@pytest.mark.slow
@pytest.mark.parametrize("old", ["anna", "ben"])
def test_a_node_of_version_0_1_shares_gets_and_meets_in_a_circle_with_one_of_now(
    old: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    sources = old_version(tmp_path)
    with contextlib.ExitStack() as stack:
        nodes = {
            name: Home(FOLDER / name, sources if name == old else None, stack) for name in ("anna", "ben")
        }
        everything_is_there(nodes["anna"], nodes["ben"], facts)
        for giver, taker in (("anna", "ben"), ("ben", "anna")):
            new = FOLDER / f"new-of-{giver}"
            new.write_text(giver)
            shared = nodes[giver].call("share", str(new))
            nodes[taker].call("get", shared["ticket"], str(FOLDER / f"got-of-{giver}"))
            assert (FOLDER / f"got-of-{giver}").read_text() == giver
        nodes["anna"].call("circle", "rename", "home", "castle")
        until(lambda: [line["name"] for line in nodes["ben"].call("circle")] == ["castle"])


@pytest.mark.slow
def test_torrents_of_version_0_1_go_on(tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(300_000))
    sources = old_version(tmp_path)
    with contextlib.ExitStack() as stack:
        shared = Home(tmp_path / "anna", sources, stack).call("share", str(source), "--bittorrent")
        torrent = tmp_path / "large.torrent"
        torrent.write_bytes(Path(shared["torrent"]).read_bytes())
    with contextlib.ExitStack() as stack:
        ben = Home(tmp_path / "ben", sources, stack)
        begun = ben.call("get", str(torrent), str(tmp_path / "got"), "--detach")  # it names no peer
        until(lambda: list(tmp_path.glob(".coterie-partial*")))
    with contextlib.ExitStack() as stack:
        anna, ben = (Home(tmp_path / name, None, stack) for name in ("anna", "ben"))
        assert [line["state"] for line in anna.call("shares")] == ["ready, BitTorrent"]
        again = anna.call("magnet", "large.bin")
        assert again["magnet"].split("&")[:2] == shared["magnet"].split("&")[:2]
        assert [line["id"] for line in ben.call("transfers")] == [begun["id"]]
        until(lambda: ben.call("transfers")[0]["state"] == "done")  # each hears of the other on the network
        assert (tmp_path / "got").read_bytes() == source.read_bytes()
        assert ben.call("transfers", "cancel", begun["id"])["did"] == "forgotten"
        assert anna.call("transfers", "cancel", shared["id"])["did"] == "ended"


def test_the_old_version_is_really_that(tmp_path: Path) -> None:
    with in_path(old_version(tmp_path)):
        done = subprocess.run(
            [sys.executable, "-c", "import coterie; print(coterie.__file__)"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith(str(tmp_path))


@pytest.mark.slow
def test_commands_of_now_say_that_a_node_of_version_0_1_is_to_be_ended_first(tmp_path: Path) -> None:
    sources = old_version(tmp_path)
    with contextlib.ExitStack() as stack:
        Home(tmp_path / "home", sources, stack)
        refused = coterie(tmp_path / "home", "status")
    assert refused.returncode == 1
    assert "of an older version" in refused.stderr
    assert "end that process first" in refused.stderr
