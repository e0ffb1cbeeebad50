"""HTTP for programs of this machine: who shows the secret is served, other users and web pages are not."""

import asyncio
import base64
import http.client
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from coterie.services.local import Local, Port, Ports, listeners
from coterie.services.local.web_pages import is_own_host
from coterie.tasks import Tasks
from tests.support import run

NOBODY = 65_534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")
ASK = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
made = socket.socket()
made.settimeout(5)
made.connect(("127.0.0.1", int(sys.argv[2])))
head = f"GET /page HTTP/1.1\\r\\nHost: 127.0.0.1:{sys.argv[2]}\\r\\nAuthorization: Bearer {sys.argv[3]}\\r\\n\\r\\n"
try:
    made.sendall(head.encode())
    print(made.recv(100).decode()[9:12] or "closed")
except ConnectionError:
    print("closed")
"""


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.url.path} {len(await request.body())}")


class Served:
    """One HTTP port and its table."""

    def __init__(self, folder: Path, *, lan: bool = False) -> None:
        self.ports = Ports(folder / "ports.json", Tasks())
        self.local = Local(self.ports, "test", folder)
        self.port: Port = self.local.http("pages", page, lan=lan)

    async def ask(
        self, headers: dict[str, str], path: str = "/page", method: str = "GET", body: bytes | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of the answer. `{port}` in a header is the number of the port."""
        number = self.port.number
        told = {name: value.format(port=number) for name, value in headers.items()}

        def call() -> tuple[int, str, dict[str, str]]:
            connection = http.client.HTTPConnection("127.0.0.1", number, timeout=10)
            connection.request(method, path, body, told)
            answer = connection.getresponse()
            found = answer.status, answer.read().decode(), dict(answer.getheaders())
            connection.close()
            return found

        return await asyncio.to_thread(call)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.port.secret}"}


def test_programs_show_the_secret_as_token_or_password(tmp_path: Path) -> None:
    async def play() -> None:
        served = Served(tmp_path)
        basic = base64.b64encode(f"anybody:{served.port.secret}".encode()).decode()
        for headers in (served.bearer, {"Authorization": f"Basic {basic}"}):
            assert (await served.ask(headers))[:2] == (200, "GET /page 0")
        assert (await served.ask(served.bearer, method="POST", body=b"hello"))[1] == "POST /page 5"
        line = served.ports.lines()[0]
        assert (line.kind, line.users, line.refused) == ("http", "you, with its secret", 0)
        await served.local.close()

    run(play())


def test_a_browser_is_let_in_once_by_its_url_and_then_by_a_cookie(tmp_path: Path) -> None:
    async def play() -> None:
        served = Served(tmp_path)
        assert served.port.url == f"http://127.0.0.1:{served.port.number}/?secret={served.port.secret}"
        status, _, headers = await served.ask({}, f"//evil.example/a?x=1&secret={quote(served.port.secret)}")
        assert (status, headers["location"]) == (303, "/evil.example/a?x=1")
        _, _, turned = await served.ask({}, f"/\\evil.example/a?secret={quote(served.port.secret)}")
        assert turned["location"] == "/evil.example/a", "to browsers both slashes are the same"
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert served.port.secret not in cookie
        kept = cookie.partition(";")[0]
        assert (await served.ask({"Cookie": f"other=1; {kept}"}))[0] == 200
        assert (await served.ask({"Cookie": kept + "x"}))[0] == 401
        await served.local.close()

    run(play())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"no colon").decode()}, 401),
        ({"Authorization": "Bearer \xe9"}, 401),
        ({"Host": "evil.example", "Authorization": "{bearer}"}, 403),
        ({"Host": "evil.example:{port}", "Authorization": "{bearer}"}, 403),
        ({"Host": "127.0.0.1:1", "Authorization": "{bearer}"}, 403),
        ({"Host": "192.0.2.1:{port}", "Authorization": "{bearer}"}, 403),
        ({"Origin": "http://evil.example", "Authorization": "{bearer}"}, 403),
        ({"Origin": "http://127.0.0.1:1", "Authorization": "{bearer}"}, 403),
        ({"Origin": "null", "Authorization": "{bearer}"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Cookie": "{cookie}"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image", "Cookie": "{cookie}"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}", "Cookie": "{cookie}"}, 200),
    ],
)
def test_requests_without_the_secret_and_of_other_pages_are_refused(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async def play() -> None:
        served = Served(tmp_path)
        _, _, given = await served.ask({}, f"/?secret={quote(served.port.secret)}")
        told = {
            name: value.replace("{bearer}", served.bearer["Authorization"]).replace(
                "{cookie}", given["set-cookie"].partition(";")[0]
            )
            for name, value in headers.items()
        }
        found, text, _ = await served.ask(told)
        assert found == status
        assert ("GET /page" in text) == (status == 200)
        assert served.ports.lines()[0].refused == (status != 200)
        await served.local.close()

    run(play())


@as_root
def test_another_user_is_refused_even_with_the_secret(tmp_path: Path) -> None:
    async def play() -> None:
        served = Served(tmp_path)

        async def ask(user: int) -> str:
            words = [sys.executable, "-I", "-c", ASK, str(user), str(served.port.number), served.port.secret]
            done = await asyncio.to_thread(
                lambda: subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
            )
            return done.stdout.strip()

        assert await ask(os.getuid()) == "200"
        assert await ask(NOBODY) == "closed"
        assert served.ports.lines()[0].refused == 1
        await served.local.close()

    run(play())


def test_on_the_local_network_addresses_are_served_and_names_are_not(tmp_path: Path) -> None:
    async def play() -> None:
        served = Served(tmp_path, lan=True)
        assert (await served.ask({**served.bearer, "Host": "192.0.2.1:{port}"}))[0] == 200
        assert (await served.ask({**served.bearer, "Host": "evil.example:{port}"}))[0] == 403
        assert (await served.ask({}))[0] == 401
        assert served.ports.lines()[0].address.startswith(listeners.EVERYWHERE)
        await served.local.close()

    run(play())
    assert is_own_host("[2001:db8::1]:80", 80, is_lan=True)
    assert not is_own_host("", 80, is_lan=True)


def test_number_and_secret_are_the_same_after_a_restart_and_others_after_the_end(tmp_path: Path) -> None:
    async def play() -> None:
        served = Served(tmp_path)
        before = served.port.url
        await served.local.close()
        assert (tmp_path / "ports.json").stat().st_mode & 0o777 == 0o600
        served = Served(tmp_path)
        assert served.port.url == before
        assert (await served.ports.switch("test/pages", is_on=False)).state == "off"
        assert served.port.url == ""
        assert (await served.ports.switch("test/pages", is_on=True)).state == "on"
        assert (await served.ask(served.bearer))[0] == 200
        await served.port.close()
        served = Served(tmp_path)
        assert served.port.url != before
        await served.local.close()

    run(play())
