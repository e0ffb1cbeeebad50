"""Names for a whole-system exit: the resolver of the exit answers questions to the DNS, or that of this computer."""

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from coterie.apps.internet.exit_rules import Split
from coterie.errors import CoterieError, PeerError, TransportError
from coterie.texts import tr
from coterie.wire.dns import (
    MESSAGE_BYTES_MAX,
    REFUSED,
    SERVER_FAILURE,
    answer,
    is_answer_to,
    is_truncated,
    read_addresses,
    read_question,
)

PORT = 53
SERVERS_MAX = 3  # resolv.conf(5): MAXNS
TRY_S = 2.0  # for each server, then the next; guess: RES_TIMEOUT is 5 s, and people wait
WAIT_S = 5.0  # for all of them
KNOWN_S_MIN = (
    300  # that an address of a host in a rule stays known: programs keep addresses beyond their time
)
KNOWN_S_MAX = 86_400
FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")  # the second: behind systemd's own resolver

log = logging.getLogger(__name__)

Ask = Callable[[bytes], Awaitable[bytes]]
Learn = Callable[[list[tuple[str, int]]], Awaitable[None]]


def servers_in(text: str) -> list[str]:
    """The servers that a resolv.conf names, SERVERS_MAX at most."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
            except ValueError:
                continue
    return found[:SERVERS_MAX]


def _servers(*, is_behind: bool) -> list[str]:
    """Those of this computer. `is_behind`: not at this computer itself, where questions would come back to us."""
    for file in FILES:
        try:
            servers = servers_in(Path(file).read_text(errors="replace"))
        except OSError:
            continue
        if is_behind:
            servers = [server for server in servers if not ipaddress.ip_address(server).is_loopback]
        if servers:
            return servers
    raise TransportError(tr("no server for names is known: /etc/resolv.conf names none"))


async def ask_servers(message: bytes, *, is_behind: bool = False) -> bytes:
    """What this computer's servers answer to a message; over TCP where it is too large for UDP.

    Raises:
        TransportError: none answered, or there is none.
        PeerError: the message asks nothing.
    """
    read_question(message)
    asked = secrets.token_bytes(2) + message[2:]
    try:
        async with asyncio.timeout(WAIT_S):
            for server in _servers(is_behind=is_behind):
                try:
                    async with asyncio.timeout(TRY_S):
                        answered = await _over_udp(server, asked)
                        if is_truncated(answered):
                            answered = await _over_tcp(server, asked)
                    return message[:2] + answered[2:]
                except (OSError, TimeoutError, PeerError) as error:
                    log.debug("the server for names %s: %s", server, error)
    except TimeoutError:
        pass
    raise TransportError(tr("no server for names answers"))


def _socket(server: str, sort: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, sort)
    made.setblocking(False)
    return made


async def _over_udp(server: str, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_DGRAM) as made:
        await loop.sock_connect(made, (server, PORT))
        await loop.sock_sendall(made, asked)
        while True:
            answered = await loop.sock_recv(made, MESSAGE_BYTES_MAX)
            if is_answer_to(asked, answered):
                return answered


async def _over_tcp(server: str, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_STREAM) as made:
        await loop.sock_connect(made, (server, PORT))
        await loop.sock_sendall(made, len(asked).to_bytes(2, "big") + asked)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            more = await loop.sock_recv(made, MESSAGE_BYTES_MAX)
            if not more:
                raise PeerError("a server for names ended in the middle")
            data += more
    answered = data[2:]
    if not is_answer_to(asked, answered):
        raise PeerError("a server for names answered something else")
    return answered


async def resolve_at_exit(message: bytes, is_open: Callable[[str, list[str]], Awaitable[bool]]) -> bytes:
    """What the exit answers: as its own servers do, but no name and no address that is closed to who asks.

    Raises `PeerError`: it is no question.
    """
    asked = read_question(message)
    try:
        if not await is_open(asked.name, []):
            return answer(asked, [], REFUSED)
        answered = await ask_servers(message)
        if not await is_open(asked.name, [address for address, _ in read_addresses(answered)]):
            return answer(asked, [], REFUSED)
        return answered
    except CoterieError as error:
        log.debug("a question at the exit: %s", error)
        return answer(asked, [], SERVER_FAILURE)


class Names:
    """Answers the questions of programs here while a whole-system exit is on."""

    def __init__(self, split: Split, by_exit: Ask, learn: Learn) -> None:
        """`learn` tells the kernel the addresses of hosts that rules name, before a program hears them."""
        self._split = split
        self._by_exit = by_exit
        self._learn = learn

    async def ask(self, message: bytes) -> bytes:
        """The answer; that nobody has one is an answer, too. Raises `PeerError`: it is no question."""
        asked = read_question(message)
        try:
            if self._split.is_by_exit(asked.name):
                answered = await self._by_exit(message)
            else:
                answered = await ask_servers(message, is_behind=True)
            if self._split.names(asked.name):
                known = [
                    (address, min(max(ttl_s, KNOWN_S_MIN), KNOWN_S_MAX))
                    for address, ttl_s in read_addresses(answered)
                ]
                if known:
                    await self._learn(known)
            return answered
        except CoterieError as error:
            log.debug("the name %s: %s", asked.name, error)
            return answer(asked, [], SERVER_FAILURE)
