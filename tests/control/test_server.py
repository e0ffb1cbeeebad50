"""Calls over HTTP: parameters in, results, lines and errors out; clients that leave; the way down."""

import asyncio
import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from coterie.access.people import Source
from coterie.control import answers
from coterie.errors import TransportError
from coterie.identity import PeerId
from coterie.local_http import LocalServer, listen
from tests.control.conftest import Served, served_node
from tests.fakes.faces import wait_until


def stream(served: Served, path: str, body: bytes = b"{}") -> tuple[HTTPConnection, Any]:
    connection = HTTPConnection(
        urlsplit(served.api.url).hostname or "", urlsplit(served.api.url).port, timeout=10
    )
    headers = {"Authorization": f"Bearer {served.api.token}", "Content-Type": "application/json"}
    connection.request("POST", f"/api/v1/{path}", body, headers)
    return connection, connection.getresponse()


def lines(served: Served, path: str, body: bytes = b"{}") -> list[Any]:
    connection, response = stream(served, path, body)
    assert response.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in response if line.strip()]
    connection.close()
    return said


def test_a_command_answers_with_its_result(served: Served) -> None:
    body = {
        "path": "/a/b",
        "name": "n",
        "count": 2,
        "colour": "green",
        "loud": True,
        "tags": ["x"],
        "limit": None,
    }
    status, answer = served.post("fake/echo", json.dumps(body).encode())
    assert status == 200
    del body["limit"]
    assert answer == body


def test_defaults_and_no_body(served: Served) -> None:
    assert served.post("fake/rows", b"")[1][0] == {"id": 1, "name": "one", "size": 1_500_000, "done": True}
    assert served.post("fake/echo", b'{"path": "/x"}')[1]["colour"] == "red"


def test_a_command_of_several_words(served: Served) -> None:
    assert served.post("fake/rows-pause", b'{"id": 3}') == (200, None)
    assert served.node.fake.paused == [3]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"to": 1}', "to"),
        (b"{}", "to"),
        (b'{"to": "x", "too": 1}', "'too'"),
        (b"[]", "object"),
        (b"{", "JSON"),
        (b'{"to": "\xff"}', "JSON"),
    ],
)
def test_wrong_parameters_are_named(served: Served, body: bytes, named: str) -> None:
    status, answer = served.post("fake/greet", body)
    assert (status, answer["error"]["code"]) == (400, "usage")
    assert named in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"path": "relative"}, "absolute"),
        ({"path": "/x", "count": "2"}, "count"),
        ({"path": "/x", "colour": "blue"}, "colour"),
        ({"path": "/x", "loud": 1}, "loud"),
        ({"path": "/x", "tags": "no list"}, "tags"),
        ({"path": "/x", "tags": [1]}, "tags"),
        ({"path": None}, "path"),
    ],
)
def test_types_are_strict(served: Served, body: dict[str, Any], named: str) -> None:
    status, answer = served.post("fake/echo", json.dumps(body).encode())
    assert status == 400
    assert named in answer["error"]["message"]


def test_only_json_is_read(served: Served) -> None:
    status, answer = served.post("fake/greet", b'{"to": "x"}', Content_Type="text/plain")
    assert (status, answer["error"]["code"]) == (400, "usage")


@pytest.mark.parametrize("path", ["fake/nothing", "nothing", "fake", "fake/greet/more", "../key"])
def test_an_unknown_route_says_so(served: Served, path: str) -> None:
    status, answer = served.post(path)
    assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_wrong_method_says_so(served: Served) -> None:
    status, answer = served.get("fake/greet")
    assert (status, answer["error"]["code"]) == (405, "usage")


def test_a_streaming_command_answers_in_lines(served: Served) -> None:
    said = lines(served, "fake/count", b'{"to": 1}')
    assert [line.get("event") for line in said] == ["Note", "Progress", "Progress", "Note", None]
    assert said[1] == {
        "event": "Progress",
        "phase": "counting",
        "done": 0,
        "total": 1,
        "unit": "files",
        "rate": 2.0,
        "eta_s": 1.0,
        "note": "",
    }
    assert said[-1] == {"result": {"to": "all"}, "text": "Hello, all!"}


def test_any_command_answers_in_lines_when_asked(served: Served) -> None:
    status, content = served.post("fake/greet", b'{"to": "x"}', Accept="application/x-ndjson")
    assert status == 200
    assert json.loads(content) == {"result": {"to": "x"}, "text": "Hello, x!"}


def test_an_error_comes_after_what_was_said_before(served: Served) -> None:
    said = lines(served, "fake/fail", b'{"how": "late"}')
    assert said == [
        {"event": "Note", "about": "first"},
        {"error": {"code": "not_found", "message": "no such thing: x; try y"}},
    ]


def test_an_unexpected_failure_is_logged_and_not_shown(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    said = lines(served, "fake/fail", b'{"how": "bug"}')
    assert said[-1]["error"]["code"] == "internal"
    assert "secret detail" not in json.dumps(said)
    assert "secret detail" in caplog.text


def test_errors_have_the_status_of_the_culprit(served: Served) -> None:
    status, answer = served.post("fake/put", b'{"name": "x"}')
    assert (status, answer["error"]["code"]) == (500, "exists")
    status, answer = served.post("node/config-get", b'{"key": "nope"}')
    assert (status, answer["error"]["code"]) == (400, "usage")


def test_a_silent_command_sends_heartbeats(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    connection, response = stream(served, "fake/count", b'{"to": 1, "pause_s": 0.2}')
    assert b"\n" in response.read().replace(b"}\n", b"")
    connection.close()


def test_a_client_that_leaves_cancels_a_streaming_command(served: Served) -> None:
    connection, response = stream(served, "fake/count", b'{"to": 1000000, "pause_s": 1000}')
    assert response.readline()
    assert response.readline()
    response.close()
    connection.close()
    wait_until(lambda: served.node.fake.cancelled == ["count"], "the command to be cancelled")


def test_a_client_that_leaves_cancels_a_plain_command(served: Served) -> None:
    address = urlsplit(served.api.url)
    with socket.create_connection((address.hostname, address.port), 10) as link:
        link.sendall(
            f"POST /api/v1/fake/hang HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {served.api.token}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        wait_until(lambda: served.node.fake.started == ["hang"], "the command to start")
    wait_until(lambda: served.node.fake.cancelled == ["hang"], "the command to be cancelled")


def test_shutdown_asks_the_node_to_stop(served: Served) -> None:
    assert served.post("shutdown", b"")[0] == 200
    assert served.stop.is_set()


def test_calls_under_way_end_with_an_error_when_the_node_stops(tmp_path: Path) -> None:
    with served_node(tmp_path / "home") as served:
        connection, response = stream(served, "fake/count", b'{"to": 1000000, "pause_s": 1000}')
        assert response.readline()
    rest = [json.loads(line) for line in response if line.strip()]
    connection.close()
    assert rest[-1]["error"] == {"code": "transport", "message": "the node is stopping"}
    assert served.node.fake.cancelled == ["count"]
    assert not (tmp_path / "home" / "run" / "api.json").exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (home / "config.toml").write_text(f"api_port = {port}\n")
        with pytest.raises(TransportError, match=f"port {port}.*api_port"), served_node(home):
            pass
    assert not (home / "run" / "api.json").exists()


def test_the_commands_of_the_node(served: Served) -> None:
    status, identity = served.post("node/id")
    assert status == 200
    assert identity["id"] == str(served.node.peer_id)
    assert len(identity["words"].split()) == 24
    assert served.post("node/usage") == (200, {"store_bytes": 1_500_000})
    assert served.post("node/gc") == (200, {"store_bytes": 0})
    assert served.post("node/status")[1] == served.get("status")[1]
    waiting = {"key": "name", "value": "attic", "until_restart": served.node.config.name}
    assert served.post("node/config-set", b'{"key": "name", "value": "attic"}') == (200, waiting)
    assert waiting in served.post("node/config")[1]
    assert served.post("node/config-get", b'{"key": "name"}')[1] == waiting
    back = b'{"key": "name", "value": %s}' % msgspec.json.encode(served.node.config.name)
    assert served.post("node/config-set", back)[1] == {"key": "name", "value": served.node.config.name}


def test_an_error_names_who_is_known(served: Served) -> None:
    known = PeerId(bytes(32))
    served.node.people.register(Source(of="contact", names=lambda: {known: "anna"}, is_chosen=True))
    body = json.dumps({"name": known.short}).encode()
    status, answer = served.post("fake/put", body)
    assert "anna exists already" in json.dumps(answer), (status, answer)


def test_answers_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body of an answer are written apart; the body does not wait until the head is acknowledged."""
    seen: list[int] = []

    def look(connection: Any) -> bool:
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return False

    async def ask() -> None:
        listener = listen(0, "")
        server = LocalServer(lambda scope, receive, send: None, look)
        serving = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        await reader.read()
        writer.close()
        server.stop()
        await serving

    asyncio.run(ask())
    assert [bool(one) for one in seen] == [True]


def test_the_page_is_made_while_the_browser_that_was_sent_to_it_is_on_its_way(tmp_path: Path) -> None:
    made: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asks")

    def make(surroundings: Any) -> Any:
        made.append(surroundings)
        return page

    with served_node(tmp_path, make_page=make) as served:
        assert not made, "who never opens it pays nothing for it"
        status, answer = served.post("page", b"")
        assert status == 200
        assert "/open/" in answer["url"]
        wait_until(lambda: len(made) == 1, "the page is made")
