"""Looking up names: what the system's own table holds is found, beside everything else; what nobody knows is told."""

import queue
import socket
import threading
from typing import Any

import pytest

from coterie.look_up import Node, joined, look_up

WAIT_S = 60.0
Answer = tuple[list[Node], list[str], str]


def looked_up(*nodes: Node) -> Answer:
    answers: queue.Queue[Answer] = queue.Queue()
    look_up(nodes, lambda found, missing: answers.put((found, missing, threading.current_thread().name)))
    return answers.get(timeout=WAIT_S)


def test_a_name_becomes_addresses_with_its_port() -> None:
    found, missing, thread = looked_up(("localhost", 7))
    assert ("127.0.0.1", 7) in found or ("::1", 7) in found
    assert missing == []
    assert thread != threading.current_thread().name  # the caller does not wait


def test_an_address_twice_is_one() -> None:
    assert looked_up(("127.0.0.1", 7), ("127.0.0.1", 7), ("127.0.0.1", 8))[0] == [
        ("127.0.0.1", 7),
        ("127.0.0.1", 8),
    ]


def test_what_is_not_found_is_told_and_the_others_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = socket.getaddrinfo

    def answer(host: str, *rest: Any, **named: Any) -> Any:
        if host == "nobody.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answer)  # a name server would be asked, for minutes
    found, missing, _ = looked_up(("nobody.invalid", 7), ("127.0.0.1", 7))
    assert missing == ["nobody.invalid"]
    assert found == [("127.0.0.1", 7)]


def test_addresses_as_a_setting() -> None:
    assert joined([("127.0.0.1", 7), ("::1", 8)]) == "127.0.0.1:7,[::1]:8"
    assert joined([]) == ""
