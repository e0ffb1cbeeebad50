"""Shares for devices of the local network that have no coterie: with a password, to be read, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.drive.digest import Login, expected
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


def login(
    share: Any, challenge: str, path: str, *, count: int = 1, method: str = "GET", uri: str = ""
) -> str:
    """The `Authorization` of who knows the password."""
    nonce, realm = (re.search(rf'{name}="([^"]*)"', challenge) for name in ("nonce", "realm"))
    assert nonce is not None
    assert realm is not None
    made = Login(share.user, realm[1], nonce[1], uri or f"/{path}", "", "c0ffee", count)
    response = expected(made, share.password, method)
    return (
        f'Digest username="{made.username}", realm="{made.realm}", nonce="{made.nonce}", uri="{made.uri}", '
        f'qop=auth, nc={count:08x}, cnonce="c0ffee", response="{response}"'
    )


def test_a_login_that_was_heard_opens_nothing_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            await anna.files.share(photos(tmp_path))
            (tmp_path / "other").mkdir()
            (tmp_path / "other/x").write_bytes(b"x")
            await anna.files.share(tmp_path / "other")
            port, share = at(anna, await anna.drive.open_lan("photos"))
            _, other = at(anna, await anna.drive.open_lan("other"))
            if share.share != "photos":
                share, other = other, share
            host, path = f"127.0.0.1:{port.port}", "photos/2024/a.jpg"
            challenge = (await port.ask("GET", path, Host=host)).headers["www-authenticate"]
            assert "stale" not in challenge
            heard = login(share, challenge, path)
            assert (await port.ask("GET", path, Host=host, Authorization=heard)).body == b"small"
            again = await port.ask("GET", path, Host=host, Authorization=heard)
            assert (again.status, again.body.count(b"small")) == (401, 0)
            assert "stale=true" in again.headers["www-authenticate"]
            second = login(share, challenge, path, count=2)
            assert (await port.ask("GET", path, Host=host, Authorization=second)).status == 200
            for count, change in enumerate((
                {"method": "HEAD"}, {"uri": "/photos/readme"}, {"path": "photos/readme"}, {"challenge": "other"},
            ), 3):  # fmt: skip
                said = challenge.replace("/photos", "/other") if "challenge" in change else challenge
                wrong = login(share, said, change.get("path", path), count=count, method=change.get("method", "GET"),
                              uri=change.get("uri", ""))  # fmt: skip
                answer = await port.ask("GET", path, Host=host, Authorization=wrong)
                assert answer.status == 401, change
                assert "stale" not in answer.headers["www-authenticate"], change
            made_up = challenge.replace('nonce="0', 'nonce="1')
            answer = await port.ask("GET", path, Host=host, Authorization=login(share, made_up, path))
            assert answer.status == 401
            for to in ("other/x", "photos/../other/x", "photos/%2e%2e/other/x", "photos//../other/x"):
                asked = await port.ask(
                    "GET", to, Host=host, Authorization=login(share, challenge, to, count=9)
                )
                assert asked.status in (401, 404), to
                assert asked.body != b"x"

    run(scene())


def test_nothing_is_changed_over_the_local_network_whatever_is_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            top = photos(tmp_path)
            await anna.files.share(top)
            port, share = at(anna, await anna.drive.open_lan("photos"))
            host, path = f"127.0.0.1:{port.port}", "photos/readme"
            challenge = (await port.ask("GET", path, Host=host)).headers["www-authenticate"]
            count = 0
            for method in (
                "PUT", "POST", "PATCH", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK", "UNLOCK", "TRACE",
                "ACL", "REPORT", "SEARCH", "MKCALENDAR", "put", "CONNECT",
            ):  # fmt: skip
                for name in (path, "photos/new", "photos/2024"):
                    count += 1
                    body = b"x" if method in ("PUT", "POST", "PATCH") else None
                    said = login(share, challenge, name, count=count, method=method)
                    answer = await port.ask(
                        method, name, body, Host=host, Depth="0", Destination=f"http://{host}/photos/moved",
                        Overwrite="T", X_HTTP_Method_Override="GET", Authorization=said,
                    )  # fmt: skip
                    assert answer.status in (400, 403, 404, 405, 501), (method, name, answer)
                    assert b"Digest" not in answer.body  # TRACE would give it back
            assert sorted(one.name for one in top.iterdir()) == ["2023", "2024", "readme"]
            assert (top / "readme").read_bytes() == b""

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
