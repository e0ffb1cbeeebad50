"""The client against a real server, and against what only looks like one."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coterie.control.client import CHALLENGE_HEADER, Client, NoRunningNode, error_from, proof
from coterie.errors import CoterieError, NotFound, PeerError, TransportError, UsageError
from tests.control.conftest import Served
from tests.fakes.faces import free_port, wait_until


def call(client: Client, *path: str, **parameters: Any) -> list[dict[str, Any]]:
    return [*client.call("fake", path, parameters)]


def found(served: Served) -> Client:
    return Client.find(served.home / "run" / "api.json")


def test_events_then_the_result(served: Served) -> None:
    said = call(found(served), "count", to=0)
    assert [line.get("event", "result") for line in said] == ["Note", "Progress", "Note", "result"]
    assert call(found(served), "rows", "pause", id=1) == [{"result": None}]
    assert found(served).get("/api/v1/status")["peers"] == 0


def test_errors_are_what_they_were_on_the_node(served: Served) -> None:
    with pytest.raises(NotFound, match="no such thing: x; try y"):
        call(found(served), "fail", how="not-found")
    with pytest.raises(UsageError, match="count"):
        call(found(served), "echo", path="/", count="x")
    with pytest.raises(CoterieError) as raised:
        call(found(served), "put", name="x")
    assert raised.value.code == "exists"


def test_stopping_to_listen_cancels_the_command(served: Served) -> None:
    lines = found(served).call("fake", ("count",), {"to": 1_000_000, "pause_s": 1000})
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    wait_until(lambda: served.node.fake.cancelled == ["count"], "the command to be cancelled")


def test_a_wrong_token_is_not_sent(served: Served) -> None:
    with pytest.raises(NoRunningNode, match="does not show that it is the node"):
        Client(served.api.url, "wrong", os.getpid()).get("/api/v1/status")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"url": "http://127.0.0.1:1", "token": "x", "pid": "none"}',
        b'{"url": "http://example.org:80", "token": "x", "pid": 1}',
        b'{"url": "http://127.0.0.1:1", "token": "x", "pid": 99999999}',
    ],
)
def test_without_a_good_note_there_is_no_running_node(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "home" / "run" / "api.json"
    file.parent.mkdir(parents=True)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        NoRunningNode, match=f"no coterie runs in {tmp_path / 'home'}; start one with `coterie up`"
    ):
        Client.find(file)


def test_nobody_at_the_address_is_no_running_node() -> None:
    with pytest.raises(NoRunningNode, match="no coterie answers"):
        Client(f"http://127.0.0.1:{free_port()}", "x", os.getpid()).get("/")


def prove(link: socket.socket, token: str) -> None:
    """Answer the first request on `link` as who knows `token`."""
    asked = link.recv(65536).decode()
    challenge = asked.partition(f"{CHALLENGE_HEADER}: ")[2].partition("\r\n")[0]
    said = proof(token, challenge)
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


LIARS = {
    "a wrong proof": b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + b"0" * 64,
    "none": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "what a node of an older version says": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}",
    "something else": b"hello\r\n\r\n",
    "a redirection": b"HTTP/1.1 307 X\r\nLocation: /api/v1/status\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIARS)
def test_who_cannot_prove_the_token_never_gets_it(lie: str, tmp_path: Path) -> None:
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(3):
                link, _ = listener.accept()
                with link:
                    heard.extend(link.recv(65536))
                    link.sendall(LIARS[lie])
                    while more := link.recv(65536):
                        heard.extend(more)

        thread = threading.Thread(target=serve)
        thread.start()
        file = tmp_path / "home" / "run" / "api.json"
        file.parent.mkdir(parents=True)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        file.write_text(json.dumps({"url": url, "token": "SECRET", "pid": os.getpid()}))
        for ask in (
            lambda c: c.get("/api/v1/status"),
            lambda c: c.shutdown(),
            lambda c: call(c, "greet", to="x"),
        ):
            with pytest.raises((NoRunningNode, TransportError)):
                ask(Client.find(file))
        thread.join()
    assert heard.count(CHALLENGE_HEADER.encode()) == 3
    assert b"SECRET" not in heard


@contextmanager
def answering(content: bytes) -> Iterator[Client]:
    """A server that knows the token, gives everybody the same bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                prove(link, "x")
                link.recv(65536)
                link.sendall(content)
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):  # closing with something unread would reset the connection
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "x", os.getpid())
        thread.join()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ended the call"),
        (b"what?", "ended the call"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno", "HTTP status 500"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b'{"event": "Note"}\n\n', "stopped before the command was done"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b'{"event"', "ended the call"),
    ],
)
def test_a_node_that_dies_within_a_call_is_said(content: bytes, said: str) -> None:
    with answering(content) as client, pytest.raises(TransportError, match=said):
        call(client, "greet", to="x")


def test_a_silent_node_is_not_waited_for(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "x", os.getpid())
        with pytest.raises(TransportError, match="timed out"):
            client.get("/api/v1/status", timeout_s=0.05)


def test_codes_become_classes() -> None:
    assert type(error_from({"code": "usage", "message": "m"})) is UsageError
    peer = error_from({"code": "peer", "message": "m"})
    assert isinstance(peer, PeerError)
    assert str(peer) == "m"
    foreign = error_from({"code": "odd", "message": "m"})
    assert (type(foreign), foreign.code) == (CoterieError, "odd")
    assert json.dumps(str(foreign)) == '"m"'
