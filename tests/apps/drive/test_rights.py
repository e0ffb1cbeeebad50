"""Who may only read changes nothing, by whatever request; what was taken back is an error soon, mounted or not."""

import asyncio
import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.drive import mounts
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.transfer import supply
from tests.apps.drive.test_unfinished import half
from tests.apps.drive.test_webdav import LOCK
from tests.apps.drive.web import Drive, drive, program, wanted
from tests.apps.files.nodes import befriend, memory_node
from tests.apps.files.test_places import BIG, photos
from tests.support import run

TAKEN_BACK_S = 5.0
METHODS = (
    "PUT", "DELETE", "MKCOL", "PROPPATCH", "LOCK", "UNLOCK", "POST", "PATCH", "TRACE", "REPORT", "ACL", "SEARCH",
    "BIND", "REBIND", "UNBIND", "ORDERPATCH", "VERSION-CONTROL", "MKREDIRECTREF", "put", "Delete",
)  # fmt: skip
PATCH = b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x xmlns="urn:x">1</x></D:prop></D:set></D:propertyupdate>'


def raw(port: int, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of one request; `target` as it is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=25)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {
            "Host": f"drive.localhost:{port}",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


async def hers(anna: Node, at: Drive, folder: Path) -> Path:
    """A folder of anna's that may be read at the drive."""
    top = photos(folder)
    await anna.files.share(top, to=[str(at.node.peer_id)])
    return top


async def mine(at: Drive, folder: Path) -> None:
    """A folder of the drive's own computer, with one file."""
    (folder / "mine").mkdir()
    (folder / "mine/own").write_bytes(b"own")
    await at.node.files.share(folder / "mine")


def look(top: Path) -> dict[str, Any]:
    """Everything in a folder, with when it was changed."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else None
        found[path.relative_to(top).as_posix()] = (status.st_mtime_ns, status.st_mode, data)
    return found


def test_no_request_changes_what_is_only_to_be_read(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await hers(anna, at, tmp_path)
            await mine(at, tmp_path)
            before = look(top)
            here, own = f"/{at.name}/photos", f"/{at.node.peer_id}/mine"
            targets = [
                f"{here}/new", f"{here}/readme", f"{here}/2024", f"{here}/2024/", f"{here}/2024/a.jpg", here,
                f"{here}/", f"/{at.name}", f"/{at.name}/new", "/", "/new",
                f"{here}/2024/../new", f"{here}/2024/%2e%2e/readme",
                f"{here}/%2E%2e/photos/readme", f"/{here}/readme", f"{here}//readme", f"{here}/README",
                f"{here}/readme/", f"{here}/readme?x", f"{here}/readme%00", f"{here}/readme%2f",
                f"{here.replace('/', '%2f')[3:]}/readme", f"{here}/./readme", f"{here}/.coterie-partial-x",
                f"{own}/../../{at.name}/photos/readme", f"{own}/%2e%2e/%2e%2e{here}/readme",
                f"{here}/read%6De", f"{here.upper()}/readme", f"{here}/readme#x",
            ]  # fmt: skip
            bodies = {"LOCK": LOCK, "PROPPATCH": PATCH, "PUT": b"changed", "put": b"changed"}
            assert at.port is not None
            for target in targets:
                for method in METHODS:
                    status = await at.in_thread(
                        raw, at.port, method, target, bodies.get(method, b""), {"Depth": "0"}
                    )
                    assert not 200 <= status < 300, (method, target, status)
            root = f"http://drive.localhost:{at.port}"
            for method in ("MOVE", "COPY"):
                for source, to in (
                    (f"{own}/own", f"{here}/new"), (f"{own}/own", f"{here}/readme"), (f"{own}/own", f"{here}/2024"),
                    (own, f"{here}/new"), (f"{here}/readme", f"{here}/new"), (f"{here}/2024", f"{here}/new"),
                    (f"{own}/own", f"{own}/../../{at.name}/photos/readme"),
                    (f"{own}/own", f"{here}/%2e%2e/photos/readme"),
                    (f"{own}/own", f"/{here}/readme"), (f"{own}/own", f"{here}/readme%3fx"),
                    (f"{own}/own", f"{here}/new%3bx"),
                ):  # fmt: skip
                    for overwrite in ("T", "F"):
                        headers = {"Destination": root + to, "Overwrite": overwrite}
                        status = await at.in_thread(raw, at.port, method, source, b"", headers)
                        assert not 200 <= status < 300, (method, source, to, status)
                        assert (tmp_path / "mine/own").read_bytes() == b"own"
            for name in ("readme", "2024"):  # to have it is to remove it there
                status = await at.in_thread(
                    raw, at.port, "MOVE", f"{here}/{name}", b"", {"Destination": f"{root}{own}/x"}
                )
                assert not 200 <= status < 300
            assert look(top) == before
            copied = {"Destination": f"{root}{own}/copied"}
            assert await at.in_thread(raw, at.port, "COPY", f"{here}/2024/a.jpg", b"", copied) == 201

    run(scene(), 100)


def test_how_much_room_there_is_is_told_where_one_may_write(tmp_path: Path) -> None:
    body = b'<D:propfind xmlns:D="DAV:"><D:prop><D:quota-available-bytes/><D:quota-used-bytes/></D:prop></D:propfind>'

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            for name in ("read", "write"):
                (tmp_path / name).mkdir()
                (tmp_path / name / "x").write_bytes(b"12345")
                await anna.files.share(tmp_path / name, to=[str(at.node.peer_id)], write=name == "write")
            free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
            told = {}
            for name in ("read", "write"):
                answer = (await at.ask("PROPFIND", f"{at.name}/{name}", body, Depth="0")).body.decode()
                told[name] = answer.partition("<D:quota-available-bytes>")[2].partition("<")[0]
                assert "<D:quota-used-bytes>5<" in answer
            assert told["read"] == ""
            assert abs(int(told["write"]) - free) < 10**9
            too_much = f"Content-Length: {free + 10**12}"
            assert at.port is not None
            said = await at.in_thread(half, at.port, f"{at.name}/write/huge", too_much, bytes(9 << 20))
            assert said.startswith(b"HTTP/1.1 507"), said
            assert b"no room" in said

    run(scene())


def append(path: Path) -> None:
    """Write to a file that is there."""
    with path.open("ab") as file:
        file.write(b"x")


async def refused(work: Callable[[], Any], why: str) -> None:
    """It fails within the time, and goes on to."""
    until = time.monotonic() + TAKEN_BACK_S
    while True:
        try:
            await asyncio.wait_for(asyncio.to_thread(work), 20)
        except OSError:
            return
        assert time.monotonic() < until, why
        await asyncio.sleep(0.1)


async def taken_back(anna: Node, at: Drive, here: Path, top: Path) -> None:
    """Everything at a mounted share ends after it was taken back: what is open, known, and was read before."""
    assert await asyncio.to_thread((here / "2024/a.jpg").read_bytes) == b"small"
    film = await asyncio.to_thread(open, here / "2024/big.mov", "rb", 0)
    try:
        assert await asyncio.to_thread(film.read, 1000) == BIG[:1000]
        await anna.files.unshare("photos")

        def rest() -> None:
            film.seek(6 << 20)
            if not film.read(1000):
                raise OSError("nothing more")

        await refused((here / "2024/a.jpg").read_bytes, "what was read before is read again")
        await refused(lambda: os.listdir(here / "2024"), "it is listed")
        await refused(lambda: (here / "2024/big.mov").open("rb").close(), "it is opened")
        await refused(rest, "what is open goes on")
    finally:
        await asyncio.to_thread(film.close)


def test_what_is_taken_back_ends_in_a_folder_by_fuse(tmp_path: Path) -> None:
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await hers(anna, at, tmp_path)
            await at.node.drive.mount(tmp_path / "mounted")
            try:
                await taken_back(anna, at, tmp_path / "mounted" / at.name / "photos", top)
            finally:
                await at.node.drive.unmount(tmp_path / "mounted")

    run(scene(), 60)


def test_what_is_taken_back_ends_in_a_folder_by_davfs2(tmp_path: Path) -> None:
    wanted("mount.davfs", "umount")
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await hers(anna, at, tmp_path)
            folder = tmp_path / "mounted"
            folder.mkdir()
            conf = tmp_path / "davfs2.conf"
            conf.write_text(mounts.DAVFS)
            url = f"http://127.0.0.1:{at.port}/"
            await program("mount.davfs", "-o", f"conf={conf},uid=0,gid=0", url, folder, feed="\n\n")
            try:
                here = folder / at.name / "photos"
                assert await asyncio.to_thread((here / "2024/a.jpg").read_bytes) == b"small"
                await anna.files.unshare("photos")
                await refused((here / "2024/a.jpg").read_bytes, "what was read before is read again")
                await refused(lambda: (here / "2024/big.mov").open("rb").close(), "it is opened")
            finally:  # names that it knows davfs2 goes on showing
                await program("umount", folder)

    run(scene(), 60)


def test_no_change_gets_through_a_folder_that_is_only_to_be_read(tmp_path: Path) -> None:
    """By the calls that programs make, through FUSE."""
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await hers(anna, at, tmp_path)
            await mine(at, tmp_path)
            before = look(top)
            await at.node.drive.mount(tmp_path / "mounted")
            here = tmp_path / "mounted" / at.name / "photos"
            own = tmp_path / "mounted" / str(at.node.peer_id) / "mine/own"
            changes: list[Callable[[], Any]] = [
                lambda: (here / "new").write_bytes(b"x"), lambda: (here / "readme").write_bytes(b"x"),
                lambda: append(here / "readme"), lambda: os.truncate(here / "2024/a.jpg", 1),
                lambda: os.unlink(here / "readme"), lambda: os.rmdir(here / "2023"), lambda: os.mkdir(here / "new"),
                lambda: os.rename(here / "readme", here / "new"), lambda: os.rename(own, here / "readme"),
                lambda: os.rename(here / "readme", own), lambda: os.symlink("/etc", here / "link"),
                lambda: os.link(here / "readme", here / "hard"), lambda: os.mkfifo(here / "pipe"),
                lambda: os.mknod(here / "node"), lambda: os.setxattr(here / "readme", "user.x", b"x"),
            ]  # fmt: skip
            try:
                for number, change in enumerate(changes):
                    with pytest.raises(
                        OSError, match=r"denied|not permitted|supported|implemented|Invalid|cross|empty"
                    ):
                        await asyncio.to_thread(change)
                    assert look(top) == before, number
                assert (tmp_path / "mine/own").read_bytes() == b"own"
                kept = await asyncio.to_thread(os.statvfs, here)
                assert kept.f_bavail == 0
                kept = await asyncio.to_thread(os.statvfs, own.parent)
                assert kept.f_bavail * kept.f_frsize > 10**6
            finally:
                await at.node.drive.unmount(tmp_path / "mounted")

    run(scene(), 60)


def test_a_file_that_could_not_be_read_is_not_asked_for_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel does: each time the drive would wait for a computer that is away, and a program for all of them."""
    if not Path("/dev/fuse").exists():
        pytest.skip("without FUSE its library is missing")
    from coterie.apps.drive import fuse

    class Away:
        asked = 0

        def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
            self.asked += 1
            return (504, b"does not answer") if self.asked < 3 else (206, b"back")

    dav = Away()
    opened = fuse.Read(dav, "/anna/film")  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(OSError, match=r"timed out"):
            opened.read(100, 0)
    assert dav.asked == 1
    monkeypatch.setattr(fuse, "FAILED_S", 0.0)
    opened = fuse.Read(dav, "/anna/film")  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"timed out"):
        opened.read(100, 0)
    assert opened.read(4, 0) == b"back", "then it is asked for again"


def test_an_answer_that_ends_in_the_middle_is_not_asked_for_again() -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("without FUSE its library is missing")
    from coterie.apps.drive import fuse

    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                with contextlib.suppress(OSError):
                    one, _ = listening.accept()
                    asked.append(one.recv(1 << 16))
                    one.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n\r\nbegun")
                    one.close()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        assert fuse.Dav(listening.getsockname()[1]).ask("GET", "/anna/film") == (504, b"")
        assert len(asked) == 1
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(5)


def test_a_computer_that_goes_away_in_the_middle_is_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supply, "SILENT_S", 0.6)

    async def scene() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, contextlib.AsyncExitStack() as here:
            anna = await here.enter_async_context(memory_node(network, tmp_path / "home-anna"))
            await befriend(anna, ben)
            (tmp_path / "film").write_bytes(os.urandom(80 << 20))
            await anna.files.share(tmp_path / "film", to=[str(ben.peer_id)])
            at = Drive(ben, (await ben.drive.switch(is_on=True)).url, ben.people.name_of(anna.peer_id))
            connection = http.client.HTTPConnection("127.0.0.1", at.port or 0, timeout=25)
            connection.request("GET", f"/{at.name}/film", headers={"Host": f"drive.localhost:{at.port}"})
            answer = await asyncio.to_thread(connection.getresponse)
            assert len(await asyncio.to_thread(answer.read, 1000)) == 1000
            await here.aclose()
            began = time.monotonic()
            got = 1000
            with contextlib.suppress(http.client.HTTPException, OSError):
                while more := await asyncio.to_thread(answer.read, 1 << 20):
                    got += len(more)
            assert got < 80 << 20
            connection.close()
            assert time.monotonic() < began + 10
            again = await at.ask("GET", f"{at.name}/film", Range="bytes=80000000-")
            assert again.status == 504
            assert b"does not answer" in again.body or b"not reached" in again.body, again.body
            assert time.monotonic() < began + 20
            await ben.drive.switch(is_on=False)
            assert "Traceback" not in capfd.readouterr().err, "that is no fault of the drive"

    run(scene(), 60)
