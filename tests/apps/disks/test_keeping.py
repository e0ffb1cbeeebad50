"""What disks promise: one writer, flushes that are true, lines that break, rights that end, images that many read."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.disks import attached, serving
from coterie.apps.disks.blocks import Blocks
from coterie.apps.disks.image import Image
from coterie.apps.disks.nbd import Command, Errno
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.disks.client import Refusal, client
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.support import run

MIB = 1 << 20


def image(folder: Path, size: int = MIB) -> Path:
    path = folder / "stick"
    path.write_bytes(os.urandom(size))
    return path


@contextlib.asynccontextmanager
async def crowd(folder: Path, others: int) -> AsyncIterator[tuple[Node, list[Node]]]:
    """An owner, and others that know it alone."""
    network = MemoryNetwork()
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(memory_node(network, folder / "owner"))
        found = [
            await stack.enter_async_context(memory_node(network, folder / f"n{at}")) for at in range(others)
        ]
        for one in found:  # by hand: a door lets in only some at once
            owner.contacts.learn(one.peer_id, one.name, one.addresses)
            one.contacts.learn(owner.peer_id, owner.name, owner.addresses)
        yield owner, found


def test_a_writer_is_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with crowd(tmp_path, 2) as (anna, (ben, carl)):
            await anna.disks.share(image(tmp_path), ["contacts"], write=True)
            place = f"{anna.peer_id}/stick"
            writing = await ben.disks.attach(place, write=True)
            async with client(writing.socket, writing.place) as program:
                await program.write(0, b"mine")
                for write in (True, False):
                    with pytest.raises(Exception, match="another computer writes"):
                        await carl.disks.attach(place, write=write)
                assert anna.disks.users(next(iter(anna.disks._shared)))[0].endswith("(writes)")
            await ben.disks.detach(place)
            reading = await carl.disks.attach(place)
            async with client(reading.socket, reading.place) as program:
                assert await program.read(0, 4) == b"mine"
                with pytest.raises(Exception, match="a writer is alone"):
                    await ben.disks.attach(place, write=True)

    run(play())


def test_a_right_taken_back_ends_reading_and_writing(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(image(tmp_path, 8 * MIB), ["contacts"], write=True)
            line = await ben.disks.attach(f"{anna.peer_id}/stick", write=True)
            async with client(line.socket, line.place) as program:
                await program.write(0, b"mine")
                await anna.disks.unshare("stick")
                async with asyncio.timeout(5):
                    with pytest.raises(Refusal) as refused:
                        while True:
                            await program.write(0, b"more")
                            await asyncio.sleep(0.05)
                assert refused.value.code == Errno.ESHUTDOWN
                with pytest.raises(Refusal):
                    await program.read(4 * MIB, 512)
            with pytest.raises(Refusal):
                async with client(line.socket, line.place):
                    pass

    run(play())


def test_a_flush_is_answered_when_the_far_disk_has_done_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(self: Image) -> None:
        begun.set()
        assert may_end.wait(20)

    monkeypatch.setattr(Image, "flush", slow)

    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(image(tmp_path), ["contacts"], write=True)
            line = await ben.disks.attach(f"{anna.peer_id}/stick", write=True)
            async with client(line.socket, line.place) as program, client(line.socket, line.place) as other:
                await program.write(0, b"mine")
                for flushing in (program.flush(), program.ask(Command.WRITE, 8, data=b"fua", flags=1)):
                    begun.clear()
                    may_end.clear()
                    waiting = asyncio.ensure_future(flushing)
                    assert await asyncio.to_thread(begun.wait, 10)
                    assert await other.read(0, 4) == b"mine"  # other answers go on meanwhile
                    assert not waiting.done()
                    may_end.set()
                    await waiting

    run(play())


async def cut(anna: Node, ben: Node) -> None:
    """Break the connection between the two."""
    (await ben.connect(anna.peer_id)).close()
    await asyncio.sleep(0)


def test_a_line_that_breaks_is_made_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            path = image(tmp_path, 4 * MIB)
            await anna.disks.share(path, ["contacts"], write=True)
            line = await ben.disks.attach(f"{anna.peer_id}/stick", write=True)
            expected = bytearray(path.read_bytes())
            async with client(line.socket, line.place) as program:
                for round_ in range(12):
                    data = os.urandom(50_000)
                    at = round_ * 300_000
                    expected[at : at + len(data)] = data
                    program.send(Command.WRITE, at, len(data), data)
                    if round_ % 3 == 0:
                        await cut(anna, ben)
                    await program.answer()
                    assert await program.read(at, len(data)) == data
                await program.flush()
            assert path.read_bytes() == bytes(expected)

    run(play())


def test_what_was_not_flushed_when_the_system_of_the_owner_was_started_anew_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(image(tmp_path), ["contacts"], write=True)
            line = await ben.disks.attach(f"{anna.peer_id}/stick", write=True)
            async with client(line.socket, line.place) as program:
                await program.write(0, b"flushed")
                await program.flush()
                monkeypatch.setattr(serving, "boot_of", lambda: b"second start")
                await cut(anna, ben)
                await program.write(0, b"goes on")  # nothing was at risk
                monkeypatch.setattr(serving, "boot_of", lambda: b"third start")
                await cut(anna, ben)
                for _ in range(2):
                    with pytest.raises(Refusal) as refused:
                        await program.flush()
                    assert refused.value.code == Errno.EIO
            await asyncio.sleep(0.05)
            async with client(line.socket, line.place) as program:  # begun anew
                await program.write(0, b"again")
                await program.flush()

    run(play())


def test_without_its_owner_a_disk_fails_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "RESUME_S", 0.5)

    async def play() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "ben") as ben:
            async with memory_node(network, tmp_path / "anna") as anna:
                await befriend(anna, ben)
                await anna.disks.share(image(tmp_path), ["contacts"], write=True)
                line = await ben.disks.attach(f"{anna.peer_id}/stick", write=True)
                program = await (stack := contextlib.AsyncExitStack()).enter_async_context(
                    client(line.socket, line.place)
                )
                await program.write(0, b"mine")
            began = time.monotonic()
            with pytest.raises(Refusal) as refused:
                await program.write(0, b"more")
            assert refused.value.code == Errno.EIO
            assert time.monotonic() - began < 15
            async with memory_node(network, tmp_path / "anna"):
                await program.write(0, b"back")  # whoever comes back is found again
                assert await program.read(0, 4) == b"back"
                await stack.aclose()

    run(play())


def test_attached_disks_come_back_after_a_restart(tmp_path: Path) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            path = image(tmp_path, 3 * MIB)
            async with memory_node(network, tmp_path / "ben") as ben:
                await befriend(anna, ben)
                await anna.disks.share(path, ["contacts"])
                line = await ben.disks.attach(f"{anna.peer_id}/stick")
                async with client(line.socket, line.place) as program:
                    assert await program.read(0, 3 * MIB) == path.read_bytes()
                before = anna.disks.given_bytes("stick")
            async with (
                memory_node(network, tmp_path / "ben") as ben,
                client(line.socket, line.place) as program,
            ):
                assert [disk.use for disk in await ben.disks.all()] == ["attached"]
                assert await program.read(0, 3 * MIB) == path.read_bytes()
                assert anna.disks.given_bytes("stick") == before, (
                    "what was read is kept, and known by its tree"
                )

    run(play())


async def read_all(node: Node, place: str, size: int) -> bytes:
    line = await node.disks.attach(place)
    async with client(line.socket, line.place) as program:
        return b"".join([await program.read(at, min(MIB, size - at)) for at in range(0, size, MIB)])


def test_readers_give_an_image_to_each_other(tmp_path: Path) -> None:
    async def play() -> None:
        size = 6 * MIB + 5_000
        async with crowd(tmp_path, 12) as (anna, readers):
            path = image(tmp_path, size)
            await anna.disks.share(path, ["contacts"])
            place = f"{anna.peer_id}/stick"
            for one in readers:
                await one.disks.attach(place)
            found = await asyncio.gather(*(read_all(one, place, size) for one in readers))
            assert all(data == path.read_bytes() for data in found)
            assert anna.disks.given_bytes("stick") <= 1.3 * size
            swarm = [one for reader in readers for one in reader.disks._attached.values() if one.others]
            assert sum(one.others.given_bytes for one in swarm if one.others) >= 10.7 * size

    run(play())


def test_a_reader_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        size = 4 * MIB
        async with crowd(tmp_path, 2) as (anna, (liar, ben)):
            path = image(tmp_path, size)
            await anna.disks.share(path, ["contacts"])
            place = f"{anna.peer_id}/stick"
            assert await read_all(liar, place, size) == path.read_bytes()
            wrong = next(iter(liar.disks._attached.values())).blocks
            told: list[int] = []

            def lie(self: Blocks, block: int, got: Any) -> None:
                told.append(block)
                got(bytes(256 << 10))

            monkeypatch.setattr(wrong, "local_soon", lie.__get__(wrong))
            assert await read_all(ben, place, size) == path.read_bytes()
            assert told

    run(play())


def test_an_image_that_changes_while_it_is_read_is_an_error_and_then_the_new_one(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            path = image(tmp_path, 8 * MIB)
            await anna.disks.share(path, ["contacts"])
            line = await ben.disks.attach(f"{anna.peer_id}/stick")
            async with client(line.socket, line.place) as program:
                await program.read(0, 512)
                path.write_bytes(os.urandom(8 * MIB))
                with pytest.raises(Refusal) as refused:
                    await program.read(6 * MIB, 300_000)
                assert refused.value.code == Errno.ESHUTDOWN

    run(play())


def test_who_comes_back_after_another_wrote_has_to_begin_anew(tmp_path: Path) -> None:
    async def play() -> None:
        async with crowd(tmp_path, 2) as (anna, (ben, carl)):
            await anna.disks.share(image(tmp_path), ["contacts"], write=True)
            place = f"{anna.peer_id}/stick"
            line = await ben.disks.attach(place, write=True)
            async with client(line.socket, line.place) as program:
                await program.write(0, b"bens")
                record = next(iter(anna.disks._shared))
                record.last_writer = str(carl.peer_id)  # as if the place of ben had been given away
                await cut(anna, ben)
                with pytest.raises(Refusal) as refused:
                    await program.read(0, 4)
                assert refused.value.code == Errno.ESHUTDOWN
            await asyncio.sleep(0.05)
            async with client(line.socket, line.place) as program:
                assert await program.read(0, 4) == b"bens"

    run(play())
