"""The command lines of three homes, as processes over QUIC on loopback: a circle, its devices, and twelve words."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.contacts.test_processes import Lines
from tests.apps.files.nodes import RunningNode, coterie, result, running_node, start
from tests.apps.grants.test_processes import FILM_BYTES, ends, running_get

WAIT_S = 60.0


def let_in(inviter: RunningNode, joiner: RunningNode, invite: list[str], join: list[str]) -> Any:
    """`joiner` uses the long form of an invitation of `inviter`."""
    inviting = start(inviter.home, "--json", *invite)
    ticket = json.loads(Lines(inviting.stdout).find(r"(.*\"Invited\".*)"))["ticket"]
    joined = joiner.call(*join, ticket)
    inviting.communicate(timeout=WAIT_S)
    assert inviting.returncode == 0
    return joined


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def roles(node: RunningNode, circle: str) -> dict[str, str]:
    return {line["name"]: line["role"] for line in node.call("circle", "members", circle)}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_family_of_three_homes(tmp_path: Path) -> None:
    with (
        running_node(tmp_path / "anna") as anna,
        running_node(tmp_path / "ben") as ben,
        running_node(tmp_path / "carl") as carl,
    ):
        assert anna.call("circle", "new", "home")["role"] == "owner"
        joined = let_in(
            anna, ben, ["circle", "invite", "home", "--role", "owner"], ["circle", "join", "--name", "ben"]
        )
        assert (joined["circle"], joined["role"]) == ("home", "owner")
        let_in(
            ben, carl, ["circle", "invite", "home", "--role", "guest"], ["circle", "join", "--name", "carl"]
        )
        until(lambda: len(roles(anna, "home")) == 3)
        assert sorted(roles(anna, "home").values()) == ["guest", "owner", "owner"]

        anna.call("circle", "role", "home", "carl", "member")
        until(lambda: roles(carl, "home")["carl"] == "member")
        refused = coterie(carl.home, "circle", "remove", "home", "ben")
        assert refused.returncode == 1
        assert "only owners of home" in refused.stderr
        anna.call("circle", "rename", "home", "castle")
        until(lambda: [line["name"] for line in carl.call("circle")] == ["castle"])

        anna.call("circle", "remove", "castle", "carl")
        until(lambda: carl.call("circle") == [])
        until(lambda: len(roles(ben, "castle")) == 2)
        ben.call("circle", "leave", "castle")
        until(lambda: len(roles(anna, "castle")) == 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_running_transfer_stops_when_its_member_is_removed(tmp_path: Path) -> None:
    with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "ben") as ben:
        anna.call("circle", "new", "home")
        let_in(anna, ben, ["circle", "invite", "home"], ["circle", "join", "--name", "ben"])
        (tmp_path / "film").write_bytes(os.urandom(FILM_BYTES))
        anna.call("share", str(tmp_path / "film"), "--to", "home")
        place = f"{anna.call('id')['id']}/film"
        getting = running_get(ben, place, tmp_path / "got")
        anna.call("circle", "remove", "home", "ben")
        ends(getting, time.monotonic())
        assert not (tmp_path / "got").exists()
        assert coterie(ben.home, "get", place, str(tmp_path / "again")).returncode != 0
        assert not (tmp_path / "again").exists()


def test_words_that_are_not_entered_are_said_to_be_missing(tmp_path: Path) -> None:
    done = coterie(tmp_path / "fresh", "recovery", "restore", input="")
    assert done.returncode == 2
    assert done.stderr.startswith("coterie: nothing was entered for --phrase (see ")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_stolen_laptop_and_the_words_on_paper(tmp_path: Path) -> None:
    """Revoked from another device; later every device is lost, and a fresh home gets everything from ben."""
    with running_node(tmp_path / "ben") as ben:
        with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "laptop") as laptop:
            anna.call("circle", "new", "home")
            let_in(anna, ben, ["circle", "invite", "home", "--role", "owner"], ["circle", "join"])
            let_in(anna, laptop, ["devices", "add"], ["devices", "join"])
            until(lambda: len(laptop.call("circle")) == 1)
            words = " ".join(anna.call("recovery", "new")["words"])
            until(lambda: any((tmp_path / "ben").rglob("deposits/*")))
            (stolen,) = [line["device"] for line in laptop.call("devices") if line["is_this"]]
            (tmp_path / "photos").mkdir()
            (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
            ben.call("share", str(tmp_path / "photos"), "--to", "home")
            bens = f"{ben.call('id')['id']}/photos"
            until(lambda: bool(coterie(laptop.home, "ls", bens).stdout))
            assert [line["name"] for line in laptop.call("ls", bens)] == ["a.jpg"]

            anna.call("devices", "remove", stolen[:8])
            until(
                lambda: all(stolen not in line["devices"] for line in ben.call("circle", "members", "home"))
            )
            refused = [coterie(laptop.home, "ls", bens)]
            refused.append(coterie(laptop.home, "get", f"{bens}/a.jpg", str(tmp_path / "got")))
            inviting = start(ben.home, "--json", "circle", "invite", "home")
            ticket = json.loads(Lines(inviting.stdout).find(r"(.*\"Invited\".*)"))["ticket"]
            refused.append(coterie(laptop.home, "circle", "join", ticket))
            inviting.send_signal(signal.SIGINT)
            inviting.communicate(timeout=WAIT_S)
            for done in refused:
                assert done.returncode != 0, done.args
                assert "a.jpg" not in done.stdout
                assert "Traceback" not in done.stderr
            assert not (tmp_path / "got").exists()
            assert all(stolen not in line["devices"] for line in ben.call("circle", "members", "home"))
            ben.call("circle", "rename", "home", "castle")
            until(lambda: anna.call("circle")[0]["name"] == "castle")
            assert laptop.call("circle")[0]["name"] == "home"  # it is not even told that it is out

        with running_node(tmp_path / "fresh") as fresh:
            inviting = start(ben.home, "--json", "invite")
            ticket = json.loads(Lines(inviting.stdout).find(r"(.*\"Invited\".*)"))["ticket"]
            done = coterie(
                fresh.home,
                "--json",
                "recovery",
                "restore",
                "--invitation",
                ticket,
                "--lost",
                input=f"{words}\n",
            )
            back = result(done)
            inviting.communicate(timeout=WAIT_S)
            assert (back["circles"], back["missing"]) == (["castle"], [])
            assert fresh.call("circle")[0]["role"] == "owner"
            until(lambda: len(ben.call("circle", "members", "castle")[0]["devices"]) == 1)
            assert words not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or words.encode() not in path.read_bytes(), path
