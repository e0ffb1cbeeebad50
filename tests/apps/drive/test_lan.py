"""Shares for devices of the local network that have no coterie: with a password, to be read, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import NotFound, UsageError
from coterie.node import Node
from tests.apps.drive.web import Drive, program, wanted
from tests.apps.files.nodes import friends
from tests.apps.files.test_places import BIG, photos
from tests.support import run


def at(node: Node, line: Any) -> tuple[Drive, Any]:
    """The port for others, and what was said of the first share."""
    number = next(one.address for one in node.ports.lines() if one.name == "drive/lan").rpartition(":")[2]
    return Drive(node, f"http://127.0.0.1:{number}/", ""), line.lan[0]


def test_others_read_with_the_password_and_change_nothing(tmp_path: Path) -> None:
    wanted("curl")

    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            top = photos(tmp_path)
            (tmp_path / "private").mkdir()
            (tmp_path / "private/x").write_bytes(b"x")
            await anna.files.share(top)
            await anna.files.share(tmp_path / "private")
            assert anna.drive.line().lan == []
            port, share = at(anna, await anna.drive.open_lan("photos"))
            assert re.fullmatch(r"[a-z2-9]{14}", share.password)
            assert anna.drive.line().lan[0].password == ""
            login = ("--digest", "-u", f"{share.user}:{share.password}")
            await program("curl", "-fsS", *login, "-o", tmp_path / "got", f"{port.url}photos/2024/big.mov")
            assert (tmp_path / "got").read_bytes() == BIG
            listed = await program(
                "curl", "-fsS", *login, "-X", "PROPFIND", "-H", "Depth: 1", f"{port.url}photos/2024/"
            )
            assert "/photos/2024/a.jpg" in listed
            for order in (["-T", str(tmp_path / "got")], ["-X", "DELETE"], ["-X", "MKCOL"]):
                said = await program(
                    "curl",
                    "-sS",
                    *login,
                    *order,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    f"{port.url}photos/new",
                )
                assert said.endswith("403"), (order, said)
            for path in ("private/x", f"{anna.peer_id}/private/x", "photos/../private/x"):
                said = await program(
                    "curl",
                    "-sS",
                    "--path-as-is",
                    *login,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    f"{port.url}{path}",
                )
                assert said[-3:] in ("401", "403", "404"), (path, said)

    run(scene(), 60)


def test_without_the_password_there_is_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            await anna.files.share(photos(tmp_path))
            port, _ = at(anna, await anna.drive.open_lan("photos"))
            host = f"127.0.0.1:{port.port}"
            wrong = 'Digest username="coterie", realm="x", nonce="x"'
            for header in ("", "Basic Y290ZXJpZTp4", "Digest x", wrong, "Bearer x"):
                for method in ("GET", "PROPFIND", "PUT", "OPTIONS"):
                    headers = {"Host": host, "Depth": "1"} | ({"Authorization": header} if header else {})
                    answer = await port.ask(method, "photos/2024/a.jpg", **headers)
                    assert answer.status in (400, 401), (header, method, answer.status)
                    assert b"small" not in answer.body
            for path in ("", "nothing"):
                assert (await port.ask("PROPFIND", path, Host=host, Depth="1")).status in (401, 404)
            foreign = await port.ask("GET", "photos/2024/a.jpg", Host=f"evil.example:{port.port}")
            assert foreign.status == 403

    run(scene())


def test_it_ends_with_the_share_or_when_it_is_said(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            await anna.files.share(photos(tmp_path))
            (tmp_path / "one").write_bytes(b"one")
            await anna.files.share(tmp_path / "one")
            with pytest.raises(UsageError, match="a folder can be"):
                await anna.drive.open_lan("one")
            with pytest.raises(NotFound):
                await anna.drive.open_lan("none")
            first = (await anna.drive.open_lan("photos")).lan[0].password
            assert (await anna.drive.open_lan("photos")).lan[0].password == first
            assert (await anna.drive.close_lan()).lan == []
            assert (await anna.drive.open_lan("photos")).lan[0].password != first
            await anna.files.unshare("photos")
            assert anna.drive.line().lan == []

    run(scene())
