"""UDP ports for programs of this machine: a flow for each address, and none for other users. The callers are real."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.services.local import Flow, Local, Ports, flows
from coterie.services.local.callers import sender_of, socket_of
from coterie.tasks import Tasks
from tests.support import run

NOBODY = 65_534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")
SEND = """
import os, socket, sys
os.setuid(int(sys.argv[4]))
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("127.0.0.1", int(sys.argv[2])))
made.settimeout(float(sys.argv[3]))
made.sendto(b"hello", ("127.0.0.1", int(sys.argv[1])))
try:
    print(made.recv(100).decode())
except TimeoutError:
    print("nothing")
"""


async def send(port: int, *, user: int, own: int = 0, wait_s: float = 5.0) -> str:
    """What a program of `user` gets as answer, at its port `own`."""
    command = [sys.executable, "-I", "-c", SEND, str(port), str(own), str(wait_s), str(user)]
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    )
    return done.stdout.strip()


class Program:
    """A program of our own with one socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        self.number = self._socket.getsockname()[1]

    async def ask(self, data: bytes) -> bytes:
        """Send, and the answer."""
        self._socket.send(data)
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self._socket, 70_000)

    def close(self) -> None:
        self._socket.close()


async def shout(flow: Flow) -> None:
    while True:
        flow.send((await flow.receive()).upper())


def table(folder: Path) -> tuple[Ports, Local]:
    ports = Ports(folder / "ports.json", Tasks())
    return ports, Local(ports, "test", folder)


@as_root
def test_datagrams_of_other_users_reach_no_app(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        port = local.udp("echo", shout)
        assert await send(port.number, user=os.getuid()) == "HELLO"
        assert await send(port.number, user=NOBODY, wait_s=0.2) == "nothing"
        assert ports.lines()[0].refused == 1
        await local.close()

    run(play())


@as_root
@pytest.mark.parametrize("asks_netlink", [True, False])
def test_another_user_does_not_take_over_a_flow_with_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks_netlink: bool
) -> None:
    if not asks_netlink:
        monkeypatch.setattr(flows, "socket_of", lambda theirs, ours: None)

    async def play() -> None:
        ports, local = table(tmp_path)
        kept: list[Flow] = []

        async def serve(flow: Flow) -> None:
            kept.append(flow)
            await shout(flow)

        port = local.udp("echo", serve)
        program = Program(port.number)
        assert await program.ask(b"one") == b"ONE"
        program.close()
        late = asyncio.ensure_future(send(port.number, user=NOBODY, own=program.number, wait_s=0.5))
        while not ports.lines()[0].refused:
            await asyncio.sleep(0.01)
        kept[0].send(b"a late answer to the first program")
        assert await late == "nothing"
        assert len(kept) == 1
        await local.close()

    run(play())


@as_root
def test_with_lan_everybody_is_let_in(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        port = local.udp("echo", shout, lan=True)
        assert await send(port.number, user=NOBODY) == "HELLO"
        assert ports.lines()[0].address.startswith("0.0.0.0:")
        await local.close()

    run(play())


def test_of_one_flow_too_many_the_one_quiet_longest_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "FLOWS_MAX", 2)

    async def play() -> None:
        _, local = table(tmp_path)
        begun = 0

        async def serve(flow: Flow) -> None:
            nonlocal begun
            begun += 1
            await shout(flow)

        port = local.udp("echo", serve)
        one, two, three = (Program(port.number) for _ in range(3))
        for program in (one, two, one, three, one):
            assert await program.ask(b"x") == b"X"
        assert (begun, port.connections) == (3, 2)
        assert await two.ask(b"x") == b"X"
        assert begun == 4
        for program in (one, two, three):
            program.close()
        await local.close()

    run(play())


def test_of_one_datagram_too_many_the_oldest_is_lost() -> None:
    async def play() -> None:
        inbox = flows.Inbox()
        for number in range(flows.WAITING_MAX + 1):
            inbox.arrive(number.to_bytes(2, "big"))
        assert [await inbox.receive() for _ in range(flows.WAITING_MAX)] == [
            number.to_bytes(2, "big") for number in range(1, flows.WAITING_MAX + 1)
        ]
        for size in (1, flows.WAITING_BYTES_MAX - 1, 1):
            inbox.arrive(bytes(size))
        assert [len(await inbox.receive()) for _ in range(2)] == [flows.WAITING_BYTES_MAX - 1, 1]

    run(play())


def test_a_switch_ends_the_flows_and_the_port_has_its_number_again(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        port = local.udp("echo", shout)
        number = port.number
        program = Program(number)
        assert await program.ask(b"x") == b"X"
        assert (await ports.switch("test/echo", is_on=False)).connections == 0
        assert (await ports.switch("test/echo", is_on=True)).address == f"127.0.0.1:{number}"
        assert await program.ask(b"y") == b"Y"
        program.close()
        await local.close()

    run(play())


def test_a_socket_is_told_from_the_next_one_at_its_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        seen = []
        number = 0
        for _ in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
                theirs.bind(("127.0.0.1", number))
                number = theirs.getsockname()[1]
                assert sender_of(theirs.getsockname()) == os.getuid()
                seen.append(socket_of(theirs.getsockname(), ours.getsockname()))
            assert sender_of(("127.0.0.1", number)) is None
        assert None in seen or seen[0] != seen[1]
