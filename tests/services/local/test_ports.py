"""The table of ports: switches, numbers that stay, and who is let in. The callers are real programs of real users."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.services.local import Local, Ports, listeners
from coterie.services.local import ports as room
from coterie.services.local.callers import caller_of, owner_in_table
from coterie.tasks import Tasks
from tests.support import run

NOBODY = 65_534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")
CALL = "exec 3<>/dev/tcp/127.0.0.1/{port}; printf hello >&3; {then}"
LISTEN = "timeout 5 head -c 7 <&3"


async def _greet(program: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(program, b"welcome")


async def call(port: int, *, user: int, then: str = LISTEN) -> str:
    """What a program of `user` gets to read."""
    command = ["bash", "-c", CALL.format(port=port, then=then)]
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, user=user, capture_output=True, text=True, timeout=20, check=False)
    )
    return done.stdout + done.stderr


def table(folder: Path) -> tuple[Ports, Local]:
    ports = Ports(folder / "ports.json", Tasks())
    return ports, Local(ports, "test", folder)


@as_root
def test_programs_of_other_users_are_closed_before_the_app_hears_of_them(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        served = []

        async def serve(program: socket.socket) -> None:
            served.append(await asyncio.get_running_loop().sock_recv(program, 5))
            await _greet(program)

        port = local.tcp("echo", serve)
        assert "welcome" in await call(port.number, user=os.getuid())
        assert "welcome" not in await call(port.number, user=NOBODY)
        # Its socket has no owner any more when it is looked up, and Linux then says "user 0".
        await call(port.number, user=NOBODY, then="exec 3>&-")
        await asyncio.sleep(0.05)
        assert served == [b"hello"]
        assert ports.lines()[0].refused == 2
        await port.close()

    run(play())


@as_root
def test_with_lan_everybody_is_let_in(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        port = local.tcp("echo", _greet, lan=True)
        assert "welcome" in await call(port.number, user=NOBODY)
        assert ports.lines()[0].address.startswith("0.0.0.0:")
        await port.close()

    run(play())


def test_a_closed_socket_has_no_owner_whatever_its_line_says() -> None:
    head = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    )
    line = "   0: 0100007F:9C40 0100007F:1F90 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1"
    ends = ("0100007F:9C40", "0100007F:1F90")
    assert owner_in_table(head + line.format(state="01", uid=1000, inode=77), *ends) == 1000
    assert owner_in_table(head + line.format(state="05", uid=0, inode=0), *ends) is None
    assert owner_in_table(head, *ends) is None


def test_a_unix_socket_names_its_caller() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert caller_of(ours) == os.getuid()


def test_a_switch_closes_a_port_and_is_kept(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        number = local.tcp("echo", _greet).number
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        assert await reader.read(7) == b"welcome"
        assert (await ports.switch("test/echo", is_on=False)).state == "off"
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", number)
        writer.close()
        await local.close()
        ports, local = table(tmp_path)  # as after a restart
        assert not local.tcp("echo", _greet).number
        assert (await ports.switch("test/echo", is_on=True)).address == f"127.0.0.1:{number}"
        with pytest.raises(NotFound):
            await ports.switch("test/other", is_on=True)
        await local.close()

    run(play())


def test_one_port_and_one_connection_beyond_the_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PORTS_MAX", 2)
    monkeypatch.setattr(listeners, "CONNECTIONS_MAX", 1)

    async def play() -> None:
        _, local = table(tmp_path)
        release = asyncio.Event()

        async def serve(program: socket.socket) -> None:
            await _greet(program)
            await release.wait()

        first = local.tcp("one", serve)
        with pytest.raises(UsageError):
            local.tcp("one", serve)
        with pytest.raises(UsageError):
            local.tcp("taken", serve, number=first.number)
        local.tcp("two", serve)
        with pytest.raises(LimitExceeded):
            local.tcp("three", serve)
        one, kept = await asyncio.open_connection("127.0.0.1", first.number)
        assert await one.read(7) == b"welcome"
        waiting, writer = await asyncio.open_connection("127.0.0.1", first.number)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await waiting.read(7)
        release.set()
        assert await waiting.read(7) == b"welcome"
        kept.close()
        writer.close()
        await local.close()

    run(play())


@as_root
def test_a_unix_socket_is_for_its_user_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def play() -> None:
        ports, local = table(tmp_path)
        port = local.unix("sql", _greet)
        path = Path(port.address)
        assert path == tmp_path / "sql.sock"
        assert path.stat().st_mode & 0o777 == 0o600

        async def said(user: int) -> str:
            words = ["socat", "-u", f"UNIX-CONNECT:{path}", "-"]
            done = await asyncio.to_thread(
                lambda: subprocess.run(words, user=user, capture_output=True, timeout=20, check=False)
            )
            return done.stdout.decode()

        assert await said(os.getuid()) == "welcome"
        assert await said(NOBODY) == ""  # the rights of the file
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
                folder.chmod(0o755)
        path.chmod(0o666)
        assert await said(NOBODY) == ""  # whoever it is, the kernel says so
        assert ports.lines()[0].refused == 1
        assert (ports.lines()[0].kind, ports.lines()[0].users) == ("unix", "you")
        assert (await ports.switch("test/sql", is_on=False)).state == "off"
        assert not path.exists()
        await local.close()

    run(play())


def test_what_a_dead_node_left_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    async def play() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            left.bind(str(tmp_path / "sql.sock"))
        _, local = table(tmp_path)
        local.unix("sql", _greet)
        _, other = table(tmp_path)
        with pytest.raises(UsageError, match="another program listens"):
            other.unix("sql", _greet)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(UsageError, match="no socket"):
            local.unix("file", _greet, path=tmp_path / "file")
        with pytest.raises(UsageError, match="too long"):
            local.unix("long", _greet, path=tmp_path / ("x" * listeners.UNIX_PATH_BYTES_MAX))
        assert (tmp_path / "file").read_text() == "mine"
        await local.close()

    run(play())
