"""Changes over a drive: who may, what becomes of what was there, and that nothing leaves the folder of the share."""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from coterie.access.resource import Verb
from coterie.apps.drive import receiving
from coterie.apps.drive.messages import (
    DATA_BYTES_MAX,
    PATH_BYTES_MAX,
    PROTOCOL,
    Ask,
    Copy,
    Delete,
    Done,
    Failed,
    MakeFolder,
    Move,
    Put,
    Room,
)
from coterie.errors import AccessDenied, NotFound, PeerError, UsageError
from coterie.node import Node
from coterie.wire.frames import Message
from tests.apps.drive.web import Drive, drive, program, wanted
from tests.apps.files.nodes import friends
from tests.apps.files.test_places import BIG, photos
from tests.support import run

MIB = 1 << 20


async def opened(anna: Node, at: Drive, folder: Path, **options: Any) -> Path:
    """A folder of anna's that the drive may change."""
    top = photos(folder)
    await anna.files.share(top, to=[str(at.node.peer_id)], write=True, **options)
    return top


async def order(node: Node, other: Node, message: Message) -> Message:
    """What `other` answers when `node` orders this, past everything that a drive checks itself."""
    connection = await node.endpoint.connect(other.peer_id, other.addresses)
    async with await connection.open_stream(PROTOCOL) as stream:
        await stream.send(message)
        answer = await stream.receive(10)
        assert isinstance(answer, Message)
        return answer


def test_litmus_passes_at_the_folder_of_another_computer(tmp_path: Path) -> None:
    wanted("litmus")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await opened(anna, at, tmp_path)
            url = f"http://127.0.0.1:{at.port}/{at.name}/photos/"
            (tmp_path / "cwd").mkdir()
            said = await program("/bin/sh", "-c", f"cd {tmp_path}/cwd && litmus -k {url}", timeout_s=100)
            assert "FAIL" not in said, said
            summaries = [line for line in said.splitlines() if line.startswith("<- summary")]
            assert len(summaries) == 5, said
            assert sum(int(line.split(": of ")[1].split()[0]) for line in summaries) == 104, said
            assert all("100.0%" in line for line in summaries), said

    run(scene(), 110)


def test_files_and_folders_are_made_changed_moved_and_removed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            here = f"{at.name}/photos"
            large = random.Random(1).randbytes(3 * MIB + 1)
            for name, data in (("new.txt", b"new"), ("empty", b""), ("large", large), ("readme", b"other")):
                answer = await at.ask("PUT", f"{here}/{name}", data, X_OC_Mtime="1700000000")
                assert answer.status == (204 if name == "readme" else 201), answer
                assert (top / name).read_bytes() == data
                assert (top / name).stat().st_mtime == 1_700_000_000
                assert (await at.ask("GET", f"{here}/{name}")).body == data
            assert (await at.ask("PUT", f"{here}/2023/old.jpg", b"new")).status == 204
            assert (await at.ask("MKCOL", f"{here}/folder")).status == 201
            to = f"http://drive.localhost:{at.port}/{here}"
            assert (await at.ask("MOVE", f"{here}/2024", Destination=f"{to}/folder/year")).status == 201
            assert (top / "folder/year/big.mov").read_bytes() == BIG
            assert (await at.ask("COPY", f"{here}/folder", Destination=f"{to}/twice")).status == 201
            assert (top / "twice/year/summer/b.jpg").read_bytes() == b"nested"
            assert (await at.ask("DELETE", f"{here}/folder")).status == 204
            assert not (top / "folder").exists()
            trash = await anna.files.trash.lines()
            assert {Path(line.path).name for line in trash} == {"old.jpg", "folder"}  # not the empty one
            assert all(line.source == anna.people.name_of(at.node.peer_id) for line in trash)
            await anna.files.trash.restore(next(line.id for line in trash if line.path.endswith("folder")))
            assert (top / "folder/year/big.mov").read_bytes() == BIG
            assert [path.name for path in top.iterdir() if path.name.startswith(".")] == []

    run(scene())


def test_own_shares_are_changed_where_they_lie(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (_, at):
            top = photos(tmp_path)
            await at.node.files.share(top)
            own = f"{at.node.peer_id}/photos"
            assert (await at.ask("PUT", f"{own}/new", b"data")).status == 201
            assert (top / "new").read_bytes() == b"data"
            assert (await at.ask("DELETE", f"{own}/2023")).status == 204
            assert not (top / "2023").exists()
            assert (await at.ask("DELETE", own)).status in (403, 409)
            assert top.is_dir()

    run(scene())


def test_who_may_only_read_is_refused_whatever_is_ordered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(ben.peer_id)])
            assert await order(ben, anna, Ask("photos")) == Room(False, 0)
            for message in (
                Put("photos/x", 1, 0, data=b"x"), Put("photos/readme", 1, 0, content=b"c" * 32),
                MakeFolder("photos/x"), Delete("photos/2024"), Move("photos/2024", "photos/x"),
                Copy("photos/readme", "photos/x"), Delete("photos"), Put("photos", 1, 0, data=b"x"),
            ):  # fmt: skip
                answer = await order(ben, anna, message)
                assert isinstance(answer, Failed), message
                assert answer.code == "not-found", message
            assert sorted(path.name for path in top.iterdir()) == ["2023", "2024", "readme"]
            noted = [line for line in anna.access.audit.lines() if line.verb == "write"]
            assert noted

    run(scene())


def test_no_order_leaves_the_folder_or_follows_a_link(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            outside = tmp_path / "outside"
            outside.mkdir()
            (outside / "secret").write_bytes(b"secret")
            (top / "door").symlink_to(outside)
            (top / "window").symlink_to(outside / "secret")
            os.mkfifo(top / "pipe")
            names = [
                "../x",
                "..",
                ".",
                "",
                "door/x",
                "window",
                "door",
                "a/../../outside/x",
                ".coterie-partial-x",
                "pipe",
            ]
            for name in names:
                path = f"photos/{name}"
                for message in (
                    Put(path, 1, 0, data=b"x"), MakeFolder(path), Delete(path), Copy("photos/readme", path),
                    Move("photos/2023", path), Move(path, "photos/moved"), Copy(path, "photos/copied"),
                    Put(f"{path}/below", 1, 0, data=b"x"), Delete(f"{path}/secret"), Copy(f"{path}/secret", "photos/y"),
                ):  # fmt: skip
                    answer = await order(at.node, anna, message)
                    assert isinstance(answer, Failed), (message, answer)
            assert [path.name for path in outside.iterdir()] == ["secret"]
            assert (outside / "secret").read_bytes() == b"secret"
            assert sorted(p.name for p in top.iterdir()) == [
                "2023",
                "2024",
                "door",
                "pipe",
                "readme",
                "window",
            ]
            for name in ("share", "photos"):  # the share itself stays
                assert isinstance(await order(at.node, anna, Delete(name)), Failed)

    run(scene())


def test_orders_that_cannot_be_close_the_stream(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await opened(anna, at, tmp_path)
            for message in (
                Put("photos/x", 2, 0, data=b"x"), Put("photos/x", -1, 0), Put("photos/x", 1, -1, data=b"x"),
                Put("photos/x", 1, 0, content=b"short"), Done(),
                Put("photos/x", DATA_BYTES_MAX + 1, 0, data=bytes(DATA_BYTES_MAX + 1)),
            ):  # fmt: skip
                with pytest.raises(PeerError):
                    await order(at.node, anna, message)
            whole = Put("photos/x", DATA_BYTES_MAX, 0, data=bytes(DATA_BYTES_MAX))
            assert await order(at.node, anna, whole) == Done()
            too_long = Put("photos/" + "x" * PATH_BYTES_MAX, 1, 0, data=b"x")
            assert isinstance(await order(at.node, anna, too_long), Failed)

    run(scene())


def test_content_that_the_asker_does_not_give_is_not_waited_for(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            answer = await order(at.node, anna, Put("photos/x", 5, 0, content=b"c" * 32))
            assert isinstance(answer, Failed)
            assert not (top / "x").exists()

    run(scene())


def test_the_right_to_write_is_taken_back_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a file."""
    started, may_go_on = asyncio.Event(), asyncio.Event()
    telling = receiving._telling

    async def slow(work: Any, tell: Any) -> Any:
        started.set()
        try:
            await may_go_on.wait()
        except asyncio.CancelledError:
            work.close()
            raise
        return await telling(work, tell)

    monkeypatch.setattr(receiving, "_telling", slow)

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            here = f"{at.name}/photos"
            putting = asyncio.ensure_future(at.ask("PUT", f"{here}/film", random.randbytes(MIB)))
            await asyncio.wait_for(started.wait(), 20)
            await anna.files.share(top, to=[str(at.node.peer_id)])  # without --write: to be read
            may_go_on.set()
            assert (await putting).status in (403, 404, 502)
            began = time.monotonic()
            while (status := (await at.ask("PUT", f"{here}/new", b"x")).status) == 201:
                assert time.monotonic() < began + 5
                await at.ask("DELETE", f"{here}/new")
            assert status in (403, 404)
            assert (await at.ask("GET", f"{here}/2024/a.jpg")).status == 200
            assert not (top / "film").exists()

    run(scene())


def test_write_is_for_somebody(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = photos(tmp_path)
            for to in ([], ["anyone"], ["ticket"], [str(ben.peer_id), "anyone"]):
                with pytest.raises(UsageError, match="--write is for somebody"):
                    await anna.files.share(top, to=to, write=True)
            await anna.files.share(top, to=[str(ben.peer_id)], write=True)
            share = anna.files.find_share("photos")
            explained = anna.access.explain(ben.peer_id, Verb.WRITE, f"files/{share.id}")
            assert explained.allowed
            await anna.files.share(top)  # again, nobody named: as it was
            assert anna.access.explain(ben.peer_id, Verb.WRITE, f"files/{share.id}").allowed
            await anna.files.share(top, to=[str(ben.peer_id)])
            assert not anna.access.explain(ben.peer_id, Verb.WRITE, f"files/{share.id}").allowed

    run(scene())


def test_a_file_goes_on_being_read_while_others_in_its_share_change(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = await opened(anna, at, tmp_path)
            async with await at.node.files.reading.open(f"{at.name}/photos/2024/big.mov") as film:
                for number in range(8):
                    assert (await at.ask("PUT", f"{at.name}/photos/readme", b"%d" % number)).status == 204
                    await anna.files.settle(anna.files.find_share("photos").id)
                    at_byte = number * MIB
                    assert await film.read(at_byte, 1000) == BIG[at_byte : at_byte + 1000]
                (top / "2024/big.mov").write_bytes(b"other")
                await anna.files.share(top)
                for _ in range(100):
                    try:
                        await film.read(len(BIG) - 10, 10)
                    except (NotFound, AccessDenied):
                        break
                    await asyncio.sleep(0.05)
                else:
                    raise AssertionError("it is read still")

    run(scene())
