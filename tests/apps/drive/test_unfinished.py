"""Files that do not come whole: nothing is in place, and nothing of them is left."""

import http.client
import os
import socket
from pathlib import Path

import pytest

from coterie.apps.drive import unfinished
from coterie.apps.drive.unfinished import Unfinished
from coterie.content.names import PARTIAL_PREFIX
from tests.apps.drive.web import drive
from tests.apps.files.nodes import RunningNode
from tests.apps.files.test_places import photos
from tests.support import run

MIB = 1 << 20


def half(port: int, path: str, head: str, body: bytes, *, wait: bool = True) -> bytes:
    """Begin a PUT, send this, and go away; what was answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        start = f"PUT /{path} HTTP/1.1\r\nHost: drive.localhost:{port}\r\n{head}\r\n\r\n"
        connection.sendall(start.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while wait and (more := connection.recv(65_536)):
            said += more
        return said


def test_what_a_program_does_not_send_whole_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
            (tmp_path / "mine").mkdir()
            (tmp_path / "mine/readme").write_bytes(b"mine")
            await at.node.files.share(tmp_path / "mine")
            assert at.port is not None
            for place, folder in ((f"{at.name}/photos", top), (f"{at.node.peer_id}/mine", tmp_path / "mine")):
                before = {name.name: name.stat().st_size for name in folder.iterdir()}
                for head, body in (
                    ("Content-Length: 3000000", bytes(2 * MIB)), ("Content-Length: 5", b"1234"),
                    ("Transfer-Encoding: chunked", b"5\r\n12345\r\n"), ("Transfer-Encoding: chunked", b"5\r\n123"),
                    ("Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: 9", b"5\r\n12345\r\n0\r\n\r\n"),
                ):  # fmt: skip
                    for name in ("new", "readme"):
                        said = await at.in_thread(half, at.port, f"{place}/{name}", head, body)
                        assert not said.startswith(b"HTTP/1.1 2"), (head, name, said)
                        now = {one.name: one.stat().st_size for one in folder.iterdir()}
                        assert now == before, (head, name)
                whole = "Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: 5"
                said = await at.in_thread(half, at.port, f"{place}/new", whole, b"5\r\n12345\r\n0\r\n\r\n")
                assert said.startswith(b"HTTP/1.1 201"), said
                assert (folder / "new").read_bytes() == b"12345"

    run(scene(), 60)


def test_what_a_killed_node_was_writing_is_removed_by_its_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "readme").write_bytes(b"mine")
    node = RunningNode(tmp_path / "home")
    try:
        node.call("share", str(folder))
        port = int(node.call("drive", "on")["url"].rstrip("/").rpartition(":")[2])
        path = f"/{node.call('id')['id']}/mine/readme"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = f"PUT {path} HTTP/1.1\r\nHost: drive.localhost:{port}\r\nContent-Length: {9 * MIB}\r\n\r\n"
            connection.sendall(head.encode() + bytes(4 * MIB))
            while not [name for name in os.listdir(folder) if name.startswith(PARTIAL_PREFIX)]:
                connection.sendall(bytes(1000))
            node.kill()
        assert len(os.listdir(folder)) == 2
        node.up()
        assert os.listdir(folder) == ["readme"]
        assert (folder / "readme").read_bytes() == b"mine"
        connection2 = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection2.request("GET", path)
        assert connection2.getresponse().read() == b"mine"
        connection2.close()
    finally:
        node.stop()


def test_notes_remove_our_own_files_alone_and_wait_for_disks_that_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Unfinished(tmp_path / "notes")
    ours, other = tmp_path / f"{PARTIAL_PREFIX}1", tmp_path / "other"
    ours.touch()
    other.touch()
    (tmp_path / "door").symlink_to(tmp_path)
    with notes.noted(ours):
        assert len(os.listdir(tmp_path / "notes")) == 1
    assert os.listdir(tmp_path / "notes") == []
    away = tmp_path / "away" / ours.name
    for number, path in enumerate((ours, other, tmp_path / "door" / ours.name, Path(ours.name), away)):
        (tmp_path / "notes" / f"{number}").write_bytes(os.fsencode(path))
    assert notes.sweep() == 1
    assert not ours.exists()
    assert other.exists()
    assert len(os.listdir(tmp_path / "notes")) == 2  # of the door and of what is away
    away.parent.mkdir()
    away.touch()
    assert Unfinished(tmp_path / "notes").sweep() == 1
    monkeypatch.setattr(unfinished, "NOTES_MAX", 2)
    for number in range(4):
        (tmp_path / "notes" / f"{number}").write_bytes(os.fsencode(tmp_path / "none" / ours.name))
    notes.sweep()
    assert len(os.listdir(tmp_path / "notes")) <= 2
