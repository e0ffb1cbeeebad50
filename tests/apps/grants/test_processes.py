"""The same between nodes that are processes of their own, over QUIC, by the command line only."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.apps.files.nodes import RunningNode, coterie, running_node, start

STOPS_WITHIN_S = 5.0
FILM_BYTES = 300_000_000


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, RunningNode, Path]]:
    """anna and ben, who know each other under these names; and a folder for files."""
    folder = tmp_path_factory.mktemp("grants")
    with ExitStack() as stack:
        anna, ben = (stack.enter_context(running_node(folder / f"home-{name}")) for name in ("anna", "ben"))
        meet(anna, ben)
        yield anna, ben, folder


def meet(anna: RunningNode, ben: RunningNode) -> None:
    inviting = start(anna.home, "--json", "invite")
    assert inviting.stdout is not None
    invited: Any = json.loads(inviting.stdout.readline())
    met = ben.call("join", invited["ticket"])
    ben.call("contact", "rename", met["peer"], "anna")
    inviting.communicate(timeout=20)
    anna.call("contact", "rename", ben.call("id")["id"], "ben")


def completed(home: Path, *words: str) -> list[str]:
    """What the shell offers for the last of `words`."""
    line = ["coterie", "--home", str(home), *words]
    environment = {
        **os.environ,
        "_COTERIE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "coterie"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return [offer.partition(",")[2] for offer in done.stdout.split()]


def test_ls_get_and_completion(pair: tuple[RunningNode, RunningNode, Path]) -> None:
    anna, ben, folder = pair
    (folder / "photos" / "2024").mkdir(parents=True)
    (folder / "photos" / "2024" / "a.jpg").write_bytes(b"a" * 1_000)
    shared = coterie(anna.home, "share", str(folder / "photos"), "--to", "ben")
    assert "For ben:" in shared.stdout
    assert "coterie get" not in shared.stdout
    assert [line["name"] for line in ben.call("ls")] == ["anna"]
    assert [line["name"] for line in ben.call("ls", "anna")] == ["photos"]
    assert [line["name"] for line in ben.call("ls", "anna/photos/2024")] == ["a.jpg"]
    got = ben.call("get", "anna/photos/2024", str(folder / "got"))
    assert (Path(got["path"]) / "a.jpg").read_bytes() == b"a" * 1_000
    assert completed(ben.home, "get", "an") == ["anna/"]
    assert completed(ben.home, "get", "anna/p") == ["anna/photos/"]
    assert completed(ben.home, "ls", "anna/photos/2024/") == ["anna/photos/2024/a.jpg"]
    assert completed(anna.home, "may", "b") == ["ben"]
    assert completed(anna.home, "share", "x", "--to", "") == ["ben", "anyone", "contacts", "ticket"]
    assert completed(anna.home, "grant", "ben", "list,re") == ["list,read"]
    assert completed(anna.home, "grant", "ben", "read", "files/p") == ["files/photos"]
    assert completed(anna.home, "expose", "80", "--as", "wiki", "--to", "be") == ["ben"]
    assert completed(anna.home, "transfers", "priority", "x", "h") == ["high"]
    assert completed(anna.home, "gr") == ["grant", "grants"]
    assert completed(anna.home, "ls", "nobody/") == []
    assert completed(anna.home, "circle", "re") == ["remove", "rename"]
    assert completed(anna.home, "circle", "") == [
        *("invite", "join", "leave", "members", "new", "remove", "rename", "role")
    ]
    assert completed(anna.home, "grant", "") == ["accept", "pass", "ben"]
    anna.call("circle", "new", "clan")
    assert completed(anna.home, "circle", "role", "clan", "") == [
        anna.call("circle", "members", "clan")[0]["name"]
    ]
    assert completed(anna.home, "circle", "role", "clan", "x", "g") == ["guest"]
    assert coterie(anna.home, "expose", "80", "--as", "wiki", "--to", "ben").returncode == 0
    assert completed(ben.home, "connect", "anna/w") == ["anna/wiki"]
    assert completed(anna.home, "may", "ben", "use", "service/") == ["service/wiki"]
    assert completed(anna.home, "devices", "remove", "") == [anna.call("devices")[0]["name"]]
    assert (
        "ben may read files/photos/2024"
        in coterie(anna.home, "may", "ben", "read", "files/photos/2024").stdout
    )
    assert any(line["resource"] == "files/photos/2024" for line in anna.call("audit", "ben"))


def running_get(ben: RunningNode, place: str, target: Path) -> "subprocess.Popen[str]":
    """A transfer that has begun to bring bytes."""
    getting = start(ben.home, "--json", "get", place, str(target))
    assert getting.stdout is not None
    for line in getting.stdout:
        said = json.loads(line)
        if said.get("event") == "Progress" and said["done"] > 0:
            return getting
    raise AssertionError(getting.communicate())


def ends(getting: "subprocess.Popen[str]", began: float) -> None:
    """It failed within the bound, and says why in one line."""
    _, stderr = getting.communicate(timeout=30)
    assert time.monotonic() - began < STOPS_WITHIN_S
    assert getting.returncode != 0
    assert "Traceback" not in stderr


def test_a_running_transfer_stops_when_its_grant_is_revoked(
    pair: tuple[RunningNode, RunningNode, Path],
) -> None:
    anna, ben, folder = pair
    (folder / "film").write_bytes(os.urandom(20_000_000))
    anna.call("share", str(folder / "film"))
    given = anna.call("grant", "ben", "list,read", "files/film", "--lasting", "1h", "--limit", "1MB/s")
    getting = running_get(ben, "anna/film", folder / "got-film")
    anna.call("revoke", given["id"])
    began = time.monotonic()
    ends(getting, began)
    assert not (folder / "got-film").exists()
    assert coterie(ben.home, "get", "anna/film", str(folder / "again")).returncode != 0


def test_a_running_transfer_stops_when_its_peer_is_no_longer_a_contact(
    pair: tuple[RunningNode, RunningNode, Path],
) -> None:
    anna, ben, folder = pair
    (folder / "large").write_bytes(os.urandom(FILM_BYTES))
    anna.call("share", str(folder / "large"), "--to", "contacts")
    getting = running_get(ben, "anna/large", folder / "got-large")
    anna.call("contact", "remove", "ben")
    began = time.monotonic()
    ends(getting, began)
    assert not (folder / "got-large").exists()
    assert ben.call("ls", "anna") == []
    assert anna.call("audit", "--refused")[-1]["answer"] == "refused"
