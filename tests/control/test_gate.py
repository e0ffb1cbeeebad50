"""Who is let in: only programs that can read the owner's api.json, and only with bounded requests."""

import contextlib
import json
import os
import socket
import stat
import threading
from collections import deque
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from coterie import local_http
from coterie.control import request_body
from coterie.control.client import CHALLENGE_CHARS_MAX, CHALLENGE_HEADER, PROOF_PATH, Client, proof
from coterie.control.request_body import BODY_BYTES_MAX, DRAIN_BYTES_MAX
from coterie.local_http import CONNECTIONS_MAX, HEADER_BYTES_MAX, STRANGERS_MAX
from tests.control.conftest import Served
from tests.fakes.faces import ask


def raw(served: Served, request: bytes) -> bytes:
    """Whatever comes back for bytes sent as they are, until the server closes."""
    with socket.create_connection(
        (urlsplit(served.api.url).hostname, urlsplit(served.api.url).port), 10
    ) as link:
        answer = b""
        with contextlib.suppress(ConnectionError):  # the server may hang up before it has read everything
            link.sendall(request)
        with contextlib.suppress(ConnectionError):
            while block := link.recv(65536):
                answer += block
        return answer


def status_of(served: Served, **headers: str) -> tuple[int, Any]:
    status, answer, _ = ask(served.api.url, "GET", "/api/v1/status", headers=headers)
    return status, answer


def test_the_token_opens_it(served: Served) -> None:
    status, answer = status_of(served, Authorization=f"Bearer {served.api.token}")
    assert status == 200
    assert answer["peer_id"] == str(served.node.peer_id)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x"]
)
def test_without_the_token_it_stays_shut(served: Served, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.format(token=served.api.token)}
    status, answer = status_of(served, **headers)
    assert status == 401
    assert answer["error"]["code"] == "access_denied"
    assert served.api.token not in json.dumps(answer)


def test_two_authorizations_are_none(served: Served) -> None:
    port = urlsplit(served.api.url).port
    answer = raw(
        served,
        f"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {served.api.token}\r\n"
        f"Authorization: Bearer {served.api.token}\r\n\r\n".encode(),
    )
    assert b" 401 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}"],
)
def test_a_foreign_host_name_is_refused_even_with_the_token(served: Served, host: str) -> None:
    status, answer = status_of(
        served,
        Authorization=f"Bearer {served.api.token}",
        Host=host.format(port=urlsplit(served.api.url).port),
    )
    assert status == 403
    assert "Host" in answer["error"]["message"]


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_our_own_host_names_are_served(served: Served, host: str) -> None:
    port = urlsplit(served.api.url).port
    assert (
        status_of(served, Authorization=f"Bearer {served.api.token}", Host=host.format(port=port))[0] == 200
    )


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", ""]
)
def test_a_foreign_origin_is_refused_even_with_the_token(served: Served, origin: str) -> None:
    port = urlsplit(served.api.url).port
    status, answer = status_of(
        served, Authorization=f"Bearer {served.api.token}", Origin=origin.format(port=port)
    )
    assert status == 403
    assert "origin" in answer["error"]["message"]


def test_our_own_origin_is_served_and_nothing_allows_others(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.api.token}", "Origin": served.api.url}
    status, _, said = ask(served.api.url, "GET", "/api/v1/status", headers=headers)
    assert status == 200
    assert not [name for name in said if name.lower().startswith("access-control")]
    preflight, _, _ = ask(
        served.api.url, "OPTIONS", "/api/v1/fake/greet", headers={"Origin": "http://evil.example"}
    )
    assert preflight == 403


def test_api_file_is_for_the_owner_only_and_goes_away(served: Served) -> None:
    file = served.home / "run" / "api.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert json.loads(file.read_bytes())["token"] == served.api.token
    assert served.api.token not in repr(served.api)


def test_a_body_at_the_bound_passes_and_one_byte_more_does_not(served: Served) -> None:
    frame = b'{"to": ""}'
    fits = b'{"to": "' + b"x" * (BODY_BYTES_MAX - len(frame)) + b'"}'
    assert len(fits) == BODY_BYTES_MAX
    assert served.post("fake/greet", fits)[0] == 200
    status, answer = served.post("fake/greet", fits[:-2] + b'x"}')
    assert (status, answer["error"]["code"]) == (413, "limit")


def test_an_endless_body_without_a_length_is_cut(served: Served) -> None:
    port = urlsplit(served.api.url).port
    head = (
        f"POST /api/v1/fake/greet HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {served.api.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = raw(served, head + chunk * (DRAIN_BYTES_MAX // 0x10000 + 1))
    assert b" 413 " in answer.splitlines()[0]


def test_endless_headers_are_cut(served: Served) -> None:
    answer = raw(served, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (2 * HEADER_BYTES_MAX))
    assert b" 400 " in answer.splitlines()[0]


def test_silence_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_http, "HEADER_TIMEOUT_S", 0.05)
    assert raw(served, b"") == b""
    assert raw(served, b"GET /api/v1/status HT") == b""


def test_a_body_that_stops_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.05)
    port = urlsplit(served.api.url).port
    answer = raw(
        served,
        f"POST /api/v1/fake/greet HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {served.api.token}\r\n"
        'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"to"'.encode(),
    )
    assert b" 408 " in answer.splitlines()[0]


class Caller:
    """Connections to the local API that stay open until the end of the block."""

    def __init__(self, served: Served) -> None:
        self._address = (urlsplit(served.api.url).hostname, urlsplit(served.api.url).port)
        self._token = f"Authorization: Bearer {served.api.token}"
        self._all = contextlib.ExitStack()

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def connect(self) -> socket.socket:
        return self._all.enter_context(socket.create_connection(self._address, 10))

    def request(self, path: str, extra: str = "") -> bytes:
        """A GET as bytes; with the token unless other headers are given."""
        port = self._address[1]
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra or self._token}\r\n\r\n".encode()

    def ask(self, link: socket.socket, request: bytes) -> int:
        """The status of the answer, read to its end."""
        link.sendall(request)
        answer = HTTPResponse(link)
        answer.begin()
        answer.read()
        return answer.status


def test_more_connections_with_the_token_than_the_bound_are_turned_away(served: Served) -> None:
    with Caller(served) as caller:
        status = caller.request("/api/v1/status")
        for _ in range(CONNECTIONS_MAX):
            assert caller.ask(caller.connect(), status) == 200
        for _ in range(STRANGERS_MAX):
            caller.connect()
        assert caller.ask(caller.connect(), status) == 503


@pytest.mark.parametrize("how", ["half a request", "proofs that are not read"])
def test_connections_of_other_users_do_not_keep_the_owner_out(served: Served, how: str) -> None:
    with Caller(served) as caller:
        proved = caller.request(PROOF_PATH, f"{CHALLENGE_HEADER}: c")

        def stranger(number: int) -> None:
            link = caller.connect()
            if how.startswith("proofs"):
                assert caller.ask(link, proved) == 200
            if how == "half a request":
                link.sendall(proved[:20])
            if how == "proofs that are not read" and number < 4:
                link.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    link.send(proved * 10_000)

        owner, status = caller.connect(), caller.request("/api/v1/status")
        assert caller.ask(owner, status) == 200
        for number in range(STRANGERS_MAX + 1):
            stranger(number)
        assert caller.ask(owner, status) == 200
        assert Client(served.api.url, served.api.token, os.getpid()).get("/api/v1/status")["peers"] == 0


def test_a_storm_of_connections_of_another_user_does_not_keep_the_owner_out(served: Served) -> None:
    is_over = threading.Event()

    def storm() -> None:
        crowd: deque[socket.socket] = deque()
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                crowd.append(socket.create_connection(("127.0.0.1", urlsplit(served.api.url).port), 10))
            if len(crowd) > 2 * STRANGERS_MAX:
                crowd.popleft().close()
        for link in crowd:
            link.close()

    attacker = threading.Thread(target=storm)
    attacker.start()
    try:
        client = Client(served.api.url, served.api.token, os.getpid())
        assert [client.get("/api/v1/status")["peers"] for _ in range(20)] == [0] * 20
    finally:
        is_over.set()
        attacker.join()


def test_without_the_token_there_is_nothing_but_the_proof_of_it(served: Served) -> None:
    port = urlsplit(served.api.url).port

    def asked(challenge: str, path: str = PROOF_PATH) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        return raw(served, f"{head}{CHALLENGE_HEADER}: {challenge}\r\n\r\n".encode())

    said = proof(served.api.token, "c" * CHALLENGE_CHARS_MAX)
    assert asked("c" * CHALLENGE_CHARS_MAX).endswith(b"\r\n\r\n" + said)
    for refused in (asked("c" * (CHALLENGE_CHARS_MAX + 1)), asked(""), asked("c", "/api/v1/status")):
        assert refused.startswith(b"HTTP/1.1 401")
    assert served.api.token.encode() not in said
