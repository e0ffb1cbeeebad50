"""A writer of a share who wants more than the share, and disks that are full."""

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from cheroot.server import KnownLengthRFile

from coterie.apps.drive import connections
from coterie.apps.drive.messages import Copy, Delete, Done, MakeFolder, Move, Put
from tests.apps.drive.test_unfinished import half
from tests.apps.drive.test_writing import opened, order
from tests.apps.drive.web import drive, program
from tests.support import run

MIB = 1 << 20


def test_a_folder_that_becomes_a_link_while_one_writes_leads_nowhere(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            outside = tmp_path / "outside"
            outside.mkdir()
            (outside / "secret").write_bytes(b"secret")
            (top / "door").mkdir()
            (top / "door/secret").write_bytes(b"inside")
            stop = threading.Event()

            def swap() -> None:
                while not stop.is_set():
                    os.rename(top / "door", top / "aside")
                    os.symlink(outside, top / "door")
                    os.unlink(top / "door")
                    os.rename(top / "aside", top / "door")

            swapping = threading.Thread(target=swap)
            swapping.start()
            done = 0
            try:
                for number in range(60):
                    for message in (
                        Put("photos/door/new", 1, 0, data=b"x"), Put("photos/door/secret", 1, 0, data=b"x"),
                        MakeFolder(f"photos/door/{number}"), Copy("photos/door/secret", f"photos/out{number}"),
                        Move("photos/door/secret", f"photos/moved{number}"), Delete("photos/door/secret"),
                    ):  # fmt: skip
                        done += await order(at.node, anna, message) == Done()
            finally:
                stop.set()
                swapping.join()
            assert done
            assert [path.name for path in outside.iterdir()] == ["secret"]
            assert (outside / "secret").read_bytes() == b"secret"
            assert not [path for path in top.iterdir() if path.is_file() and path.read_bytes() == b"secret"]

    run(scene(), 60)


def test_strange_names_stay_inside_and_a_second_name_of_a_file_is_not_written_through(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            before = {path.name for path in tmp_path.iterdir()}
            (tmp_path / "secret").write_bytes(b"secret")
            os.link(tmp_path / "secret", top / "hard")
            assert await order(at.node, anna, Put("photos/hard", 1, 0, data=b"x")) == Done()
            assert ((tmp_path / "secret").read_bytes(), (top / "hard").read_bytes()) == (b"secret", b"x")
            seed = random.randrange(1 << 32)
            rng = random.Random(seed)
            pieces = [
                "..",
                ".",
                "/",
                "\\",
                "x",
                "photos",
                "%2e%2e",
                "\0",
                "~",
                "C:",
                " ",
                "\u202e",
                "．．",
                "\ud800",
                "é",
                "CON",
            ]
            for _ in range(300):
                name = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 6)))
                for message in (
                    Put(f"photos/{name}", 1, 0, data=b"x"),
                    MakeFolder(name),
                    Move("photos/readme", name),
                ):
                    try:
                        await order(at.node, anna, message)
                    except (UnicodeEncodeError, ValueError):
                        continue
                assert {path.name for path in tmp_path.iterdir()} == before | {"secret"}, (seed, name)
            for name in (".COTERIE-partial-x", ".coterie-folder", ".Coterie-Versions-a/b", "x" * 300):
                assert await order(at.node, anna, Put(f"photos/{name}", 1, 0, data=b"x")) != Done(), name
            assert await order(at.node, anna, Move("photos/2024", "photos/2024/in itself")) != Done()
            assert (top / "2024/a.jpg").exists()

    run(scene(), 60)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which needs root")
def test_a_full_disk_of_the_owner_is_said_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = tmp_path / "small"
            top.mkdir()
            await program("mount", "-t", "tmpfs", "-o", "size=12m", "small", top)
            try:
                (top / "film").write_bytes(bytes(3 * MIB))
                await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
                here = f"{at.name}/small"
                assert (await at.ask("PUT", f"{here}/fits", os.urandom(4 * MIB))).status == 201
                large = os.urandom(11 * MIB)
                for path in (f"{here}/more", f"{here}/film"):
                    answer = await at.ask("PUT", path, large)
                    assert answer.status == 507, answer
                    assert b"no room" in answer.body, answer.body
                    pieces = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)  # of a length that nobody says
                    assert at.port is not None
                    said = await at.in_thread(half, at.port, path, "Transfer-Encoding: chunked", pieces)
                    assert said.startswith(b"HTTP/1.1 507"), said[:300]
                shown = {path.name: path.stat().st_size for path in top.iterdir() if path.is_file()}
                assert shown == {"film": 3 * MIB, "fits": 4 * MIB}
                await anna.files.unshare("small")
            finally:
                await program("umount", "-l", top)

    run(scene(), 60)


def test_what_is_refused_is_not_kept_in_memory_nor_taken_for_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_BYTES_MAX", MIB)
    sizes: list[int] = []
    read = KnownLengthRFile.read

    def noting(self: Any, size: int | None = None) -> bytes:
        sizes.append(size if size is not None else self.remaining)
        data: bytes = read(self, size)
        return data

    monkeypatch.setattr(KnownLengthRFile, "read", noting)

    async def scene() -> None:
        async with drive(tmp_path) as (_, at):
            assert at.port is not None
            await at.node.drive.switch(is_on=False)
            await at.node.drive.switch(is_on=True)
            second = f"GET /{at.name} HTTP/1.1\r\nHost: drive.localhost:{at.port}\r\n\r\n".encode()
            long = MIB + 2_000_000
            body = bytes(long - len(second)) + second
            for head, sent in (
                (f"Content-Length: {long}\r\nOrigin: http://evil.example", body),
                (
                    "Transfer-Encoding: chunked\r\nOrigin: http://evil.example",
                    b"5\r\nabcde\r\n0\r\n\r\n" + second,
                ),
                ("Transfer-Encoding: chunked\r\nOrigin: http://evil.example", second),
                (f"Content-Length: {10**15}\r\nOrigin: http://evil.example", bytes(3 * MIB)),
            ):
                try:
                    said = await at.in_thread(half, at.port, "x", head, sent)
                except ConnectionError:
                    continue
                assert said.count(b"HTTP/1.1") <= 1, said
                assert b"200" not in said
            assert max(sizes, default=0) <= MIB
            answer = await at.in_thread(half, at.port, "x", "X: " + "x" * connections.HEADER_BYTES_MAX, b"")
            assert answer.startswith(b"HTTP/1.1 413"), answer

    run(scene())
