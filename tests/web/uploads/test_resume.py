"""Uploads go on where they stopped: after a killed server, and with tus-js-client as the page has it."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import coterie.web
from coterie.web.uploads import UploadFolder
from tests.support import run
from tests.web.uploads.serve import BATCH, MEDIA, Served, served

LIBRARY = Path(coterie.web.__file__).parent / "static" / "vendor" / "tus.min.js"
CLIENT = Path(__file__).with_name("tus_client.cjs")
FULL = """
import asyncio, sys
from pathlib import Path
from coterie.web.uploads import folder
from tests.web.uploads.serve import served

folder.SPACE_RESERVE_BYTES = 0

async def work(disk):
    async with served(disk / "uploads") as here:
        path = await here.begin(700_000)
        filler = disk / "filler"
        filler.write_bytes(bytes(600_000))
        answer = await here.add(path, 0, b"1" * 700_000)
        print(answer.status, answer.said.decode().strip())
        has = int((await here.ask("HEAD", path)).headers["Upload-Offset"])
        print(0 < has < 700_000)
        filler.unlink()
        print((await here.add(path, has, b"2" * (700_000 - has))).status)
        (upload,) = here.folder.all()
        print(here.folder.part(upload).read_bytes() == b"1" * has + b"2" * (700_000 - has))

asyncio.run(work(Path(sys.argv[1])))
"""


@contextlib.contextmanager
def process(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of its own, and its port."""
    words = [sys.executable, "-m", "tests.web.uploads.serve", str(folder), str(port)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running, int(running.stdout.readline())
    finally:
        running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


def test_what_came_is_there_after_kill_9(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(3_000_000)
    with process(tmp_path) as (running, port):
        here = Served(port)
        path = run(here.begin(len(content)))
        assert run(here.add(path, 0, content[:1_000_000])).status == 204

        async def half() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                f"PATCH {path} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 1000000\r\nContent-Length: 2000000\r\n"
            )
            head += "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n\r\n"
            writer.write(head.encode() + content[1_000_000:2_500_000])
            await writer.drain()
            part = next(tmp_path.glob("*.part"))
            async with asyncio.timeout(10):
                while part.stat().st_size <= 2_000_000:
                    await asyncio.sleep(0.01)
            running.send_signal(signal.SIGKILL)
            writer.close()

        run(half())
    with process(tmp_path) as (_, port):
        here = Served(port)
        has = int(run(here.ask("HEAD", path)).headers["Upload-Offset"])
        assert 2_000_000 < has < 3_000_000
        assert run(here.add(path, has, content[has:])).status == 204
    folder = UploadFolder(tmp_path)
    (upload,) = folder.all()
    assert folder.is_whole(upload)
    assert folder.part(upload).read_bytes() == content


def test_a_part_with_a_checksum_is_not_there_after_a_crash_within_it(tmp_path: Path) -> None:
    from coterie.web.uploads.rules import Checksum, Named

    folder = UploadFolder(tmp_path)
    upload = folder.create("anna", Named(("a",), BATCH), 10)
    first = folder.write(upload)
    first.write(b"1234")
    assert first.close(is_whole=True)
    folder.write(upload, Checksum("sha1", bytes(20))).write(b"567890")  # and the program ends
    assert not folder.is_whole(upload)
    again = UploadFolder(tmp_path)
    assert again.offset(upload) == 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".part"}


def test_what_a_crash_leaves_half_made_is_swept(tmp_path: Path) -> None:
    for name in ("x.part", "y.check", "z.json.0123", "z.json"):
        (tmp_path / name).write_bytes(b"{")
    assert UploadFolder(tmp_path).all() == []
    assert list(tmp_path.iterdir()) == []


def test_tus_js_client_goes_on_after_a_killed_server_and_a_closed_page(tmp_path: Path) -> None:
    node = shutil.which("node") or _needed("nodejs")
    content = tmp_path / "content"
    content.write_bytes(random.Random(8).randbytes(2_000_000))
    folder, store = tmp_path / "uploads", tmp_path / "store"

    def client(port: int) -> subprocess.Popen[str]:
        words = [node, str(CLIENT), str(LIBRARY), f"http://127.0.0.1:{port}/up/files", str(content), BATCH]
        return subprocess.Popen([*words, str(store), "250000"], stdout=subprocess.PIPE, text=True)

    with process(folder) as (_, port), client(port) as page:
        assert page.stdout is not None
        assert page.stdout.readline().startswith("POST 201")
        assert page.stdout.readline().startswith("PATCH 204 0")
        page.kill()  # the page is closed
    with process(folder, port) as (running, _):
        page = client(port)
        assert page.stdout is not None
        assert page.stdout.readline() == "resumes\n"
        assert page.stdout.readline().startswith("HEAD 200")
        running.kill()  # the node is killed under the page, which tries again by itself
    with process(folder, port), page:
        said, _ = page.communicate(timeout=30)
        assert "HEAD 200" in said, said
        assert "done" in said, said
    kept = UploadFolder(folder)
    (upload,) = kept.all()
    assert upload.path == ("film.mp4",)
    assert kept.part(upload).read_bytes() == content.read_bytes()


def test_a_disk_that_fills_up_keeps_what_came(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m none '{disk}'"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    command = f"{mount} && exec '{sys.executable}' -c \"$0\" '{disk}'"
    words = ["unshare", "--mount", "sh", "-c", command, FULL]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == (
        "507 this computer's disk is full: what came is kept; free some space, and the upload goes on from there\n"
        "True\n204\nTrue\n"
    ), done.stderr


def _needed(package: str) -> str:
    """Skip, but not where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(f"this test needs the Debian package {package}")
    pytest.skip(f"needs the Debian package {package}")


def test_a_batch_is_served_while_another_waits(tmp_path: Path) -> None:
    """Two uploads at once do not wait for each other."""

    async def work() -> None:
        async with served(tmp_path) as here:
            slow, fast = await here.begin(10), await here.begin(3, "b.txt")
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            head = f"PATCH {slow} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: 10\r\n"
            head += f"Tus-Resumable: 1.0.0\r\nContent-Type: {MEDIA['Content-Type']}\r\n\r\n"
            writer.write(head.encode() + b"1")
            assert (await here.add(fast, 0, b"abc")).status == 204
            writer.close()

    run(work())
