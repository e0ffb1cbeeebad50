"""Share and get between two nodes: everything a tree has arrives, and nothing that should not."""

import asyncio
import os
import random
import secrets
import shutil
from pathlib import Path

import pytest

from coterie.content.writer import TargetExists
from coterie.errors import NotFound, StorageError, TransportError, UsageError
from coterie.net import MemoryNetwork
from coterie.transfer import downloads
from coterie.wire import Ticket
from tests.apps.files.nodes import memory_node, pair, tree_of
from tests.support import run


def make_tree(folder: Path, seed: int = 1) -> Path:
    """Empty and full files and folders of many sizes, links, times, executable bits, odd names."""
    rng = random.Random(seed)
    (folder / "empty" / "deeper").mkdir(parents=True)
    (folder / "many").mkdir()
    for i in range(300):
        (folder / "many" / f"{i}.txt").write_bytes(rng.randbytes(rng.choice([0, 1, 10, 1000])))
    (folder / "many" / "7.txt").write_bytes(b"seven")
    for name, size in (("a", 40_000), ("b", 700_000), ("c.bin", 5_000_000)):
        (folder / name).write_bytes(rng.randbytes(size))
        os.utime(folder / name, ns=(1, 1_600_000_000_123_456_789 + size))
    for name in ("ünïcode", "white space", "-dash", "#%?&", "x" * 255, "line\nbreak"):
        (folder / name).write_text(name)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("many/7.txt")
    (folder / "empty" / "up").symlink_to("../a")
    os.utime(folder / "empty" / "deeper", ns=(1, 1_500_000_000_000_000_000))
    os.utime(folder / "empty", ns=(1, -1_000_000_000))
    return folder


def test_a_tree_arrives_with_all_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            received = await ben.files.get(shared.ticket, tmp_path / "copy")
            assert received.path == str(tmp_path / "copy")
            assert (received.files, received.size) == (shared.files, shared.size)
            assert received.failed == []
        assert tree_of(tmp_path / "copy") == tree_of(source)
        assert (tmp_path / "copy").stat().st_mtime_ns == source.stat().st_mtime_ns
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".coterie")]

    run(main())


@pytest.mark.parametrize("size", [0, 1, 32_768, 1_000_000, 12_000_000])
def test_a_single_file_arrives(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        source = tmp_path / "one.bin"
        source.write_bytes(secrets.token_bytes(size))
        source.chmod(0o755)
        os.utime(source, ns=(1, 1_234_567_890_987_654_321))
        (tmp_path / "inbox").mkdir()
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, name="uno.bin")
            received = await ben.files.get(shared.ticket, tmp_path / "inbox")
        copy = tmp_path / "inbox" / "uno.bin"
        assert received.path == str(copy)
        assert copy.read_bytes() == source.read_bytes()
        assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert copy.stat().st_mode & 0o100

    run(main())


def test_sharing_again_is_the_same_share_with_new_content_too(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            first = await anna.files.share(source)
            again = await anna.files.share(source)
            assert (again.ticket, again.id) == (first.ticket, first.id)
            (source / "new").write_text("new")
            third = await anna.files.share(source)
            assert third.id == first.id
            assert len(await anna.files.shares()) == 1
            await ben.files.get(first.ticket, tmp_path / "copy")
        assert (tmp_path / "copy" / "new").read_text() == "new"

    run(main())


def test_shares_survive_a_restart_and_tickets_stay_good(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "a") as anna:
            ticket = (await anna.files.share(source)).ticket
        async with memory_node(network, tmp_path / "a"), memory_node(network, tmp_path / "b") as ben:
            await ben.files.get(ticket, tmp_path / "copy")
        assert tree_of(tmp_path / "copy") == tree_of(source)

    run(main())


def test_unshared_wrong_secret_and_never_shared_look_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            good = Ticket.parse(shared.ticket)
            await ben.files.get(good, tmp_path / "copy")
            wrong = Ticket(good.kind, good.peer, good.content_id, bytes(16), good.addresses)
            unknown = Ticket(good.kind, good.peer, bytes(32), good.secret, good.addresses)
            await anna.files.unshare(shared.id)
            said = []
            for ticket in (wrong, unknown, good):
                with pytest.raises(NotFound) as caught:
                    await ben.files.get(ticket, tmp_path / "other")
                said.append(str(caught.value))
            assert len(set(said)) == 1
            assert await ben.files.transfers() != []
            assert not (tmp_path / "other").exists()
            with pytest.raises(NotFound, match="nothing is shared as"):
                await anna.files.unshare(shared.id)

    run(main())


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_file_is_never_delivered_and_the_rest_arrives(tmp_path: Path, keep_time: bool) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            before = tree_of(source)
            for name in ("c.bin", "many/7.txt", "a"):
                status = (source / name).stat()
                body = bytearray((source / name).read_bytes())
                body[-1] ^= 1
                (source / name).write_bytes(body)
                if keep_time:
                    os.utime(source / name, ns=(status.st_atime_ns, status.st_mtime_ns))
            (source / "b").unlink()
            received = await ben.files.get(shared.ticket, tmp_path / "copy")
            lost = {problem.path: problem.reason for problem in received.failed}
            assert set(lost) == {"a", "b", "c.bin", "many/7.txt"}
            assert "changed" in lost["a"]
            assert "gone" in lost["b"]
            line = (await anna.files.shares())[0]
            assert "changed" in line.state
            assert (received.is_incomplete(), received.missing) == (True, 4)
            (listed,) = await ben.files.transfers()
            assert (listed.state, listed.note) == ("incomplete", "4 not received")
            shown = (await ben.files.transfer_detail(listed.id)).text()
            assert all(f"NOT received {name}: " in shown for name in lost)
        got = tree_of(tmp_path / "copy")
        assert {name for name in before if name not in got} == set(lost)
        assert all(got[name] == before[name] for name in got if name != "many")
        assert "NOT received" in received.text()

    run(main())


def test_a_share_of_which_all_is_gone_is_an_error_and_leaves_no_empty_folder(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "photos"
        source.mkdir()
        for name in ("a", "b"):
            (source / name).write_text(name)
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            shutil.rmtree(source)
            with pytest.raises(NotFound, match=r"copy cannot be had \(none of 2 files; a\): it is gone"):
                await ben.files.get(shared.ticket, tmp_path / "copy")
            assert (await ben.files.transfers())[0].state == "failed"
        assert not (tmp_path / "copy").exists()
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".coterie")]

    run(main())


def test_what_could_not_be_read_makes_a_share_incomplete_and_a_socket_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "photos"
        source.mkdir()
        (source / "a").write_text("a")
        os.mkfifo(source / "pipe")
        async with pair(tmp_path) as (anna, _):
            assert not (await anna.files.share(source)).is_incomplete()
            os.symlink("a", source / b"\xff".decode(errors="surrogateescape"))
            shared = await anna.files.share(source)
            assert shared.is_incomplete()
            assert {problem.is_lost for problem in shared.skipped} == {True, False}

    run(main())


def test_a_single_file_that_changed_is_not_delivered_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "one.bin"
        source.write_bytes(secrets.token_bytes(3_000_000))
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            with source.open("r+b") as file:
                file.seek(2_500_000)
                file.write(b"changed")
            with pytest.raises(NotFound, match="copy cannot be had: it changed"):
                await ben.files.get(shared.ticket, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".coterie")]

    run(main())


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        (tmp_path / "copy").write_text("mine")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            with pytest.raises(TargetExists, match="--overwrite"):
                await ben.files.get(ticket, tmp_path / "copy")
            assert (tmp_path / "copy").read_text() == "mine"
            both = await ben.files.get(ticket, tmp_path / "copy", on_existing="keep-both")
            assert both.path == str(tmp_path / "copy (2)")
            assert (tmp_path / "copy").read_text() == "mine"
            (tmp_path / "dangling").symlink_to("nowhere")
            with pytest.raises(TargetExists):
                await ben.files.get(ticket, tmp_path / "dangling")
            assert os.readlink(tmp_path / "dangling") == "nowhere"
        assert tree_of(tmp_path / "copy (2)") == tree_of(source)

    run(main())


def test_overwrite_replaces_the_whole_target(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "one.txt"
        source.write_text("new")
        (tmp_path / "target.txt").write_text("old")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            await ben.files.get(ticket, tmp_path / "target.txt", on_existing="overwrite")
        assert (tmp_path / "target.txt").read_text() == "new"

    run(main())


def test_bad_wishes_are_said(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            for call, kind, says in (
                (anna.files.get(ticket, tmp_path / "x"), UsageError, "this very computer"),
                (ben.files.get(ticket, tmp_path / "no" / "such"), UsageError, "there is no folder"),
                (ben.files.get("coterie", tmp_path / "x"), UsageError, "truncated"),
                (ben.files.get("coterieaeahg", tmp_path / "x"), UsageError, "truncated"),
                (anna.files.share(tmp_path / "nothing"), NotFound, "there is no"),
                (anna.files.share("/dev/null"), UsageError, "neither a file nor a folder"),
                (anna.files.share(anna.home), UsageError, "coterie's own"),
                (ben.files.pause("nope"), NotFound, "nope"),
                (ben.files.resume("nope"), NotFound, "nope"),
                (ben.files.cancel("../../etc"), NotFound, "etc"),
            ):
                with pytest.raises(kind, match=says):
                    await call
            assert list((anna.home / "apps/files/transfers").iterdir()) == []

    run(main())


def test_an_offline_peer_is_told_within_ten_seconds_with_what_was_tried(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "a") as anna:
            ticket = (await anna.files.share(make_tree(tmp_path / "photos"))).ticket
        async with memory_node(network, tmp_path / "b") as ben:
            began = asyncio.get_running_loop().time()
            with pytest.raises(TransportError) as caught:
                await ben.files.get(ticket, tmp_path / "copy")
            assert asyncio.get_running_loop().time() - began < 10
            assert Ticket.parse(ticket).peer.short in str(caught.value)

    run(main())


def test_pause_resume_and_cancel(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(30_000_000))
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            line = await ben.files.get_detached(ticket, tmp_path / "copy")
            other = (await anna.files.share(tmp_path / "home-ben" / "key")).ticket
            with pytest.raises(UsageError, match="something else"):
                await ben.files.get(other, tmp_path / "copy")
            assert (await ben.files.get_detached(ticket, tmp_path / "copy")).id == line.id
            for _ in range(10_000):
                if (await ben.files.transfers())[0].state == "running" and anna.files.server.sent_bytes:
                    break
                await asyncio.sleep(0)
            assert "transfers resume" in (await ben.files.pause(line.id)).text()
            assert (await ben.files.transfers())[0].state == "paused"
            (partial,) = ben.files.partials()
            assert partial.path.parent == tmp_path
            usage = await ben.usage()
            assert usage.unfinished == {str(partial.path): partial.bytes}
            assert str(partial.path) in usage.text()
            sent = anna.files.server.sent_bytes
            assert sent < 30_000_000
            assert not (tmp_path / "copy").exists()
            received = await ben.files.get(ticket, tmp_path / "copy")
            assert received.id == line.id
            assert received.fetched <= 30_000_000
            assert (tmp_path / "copy").read_bytes() == source.read_bytes()
            assert (await ben.files.transfers())[0].state == "done"
            for change in (ben.files.resume, ben.files.pause):
                with pytest.raises(UsageError, match="done"):
                    await change(line.id)
            assert ben.files.partials() == []

            second = await ben.files.get_detached(ticket, tmp_path / "second")
            await ben.files.cancel(second.id)
            assert not (tmp_path / "second").exists()
            assert not [p for p in tmp_path.iterdir() if p.name.startswith(".coterie")]
            assert [t.id for t in await ben.files.transfers()] == [line.id]
            await ben.files.cancel(line.id)
            assert (tmp_path / "copy").exists()

    run(main())


def test_a_cancelled_get_keeps_what_arrived_and_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(30_000_000))
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            getting = asyncio.ensure_future(ben.files.get(ticket, tmp_path / "copy"))
            while anna.files.server.sent_bytes < 6_000_000:
                await asyncio.sleep(0.001)
            getting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await getting
            assert (await ben.files.transfers())[0].state == "paused"
        async with pair(tmp_path) as (anna, ben):  # both were restarted meanwhile
            assert (await ben.files.transfers())[0].state == "paused"
            received = await ben.files.get(ticket, tmp_path / "copy")
            assert received.fetched < 30_000_000 - 3_000_000
        assert (tmp_path / "copy").read_bytes() == source.read_bytes()

    run(main())


def test_a_running_transfer_goes_on_by_itself_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(30_000_000))
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            await ben.files.get_detached(ticket, tmp_path / "copy")
        async with pair(tmp_path) as (anna, ben):
            while (await ben.files.transfers())[0].state != "done":
                await asyncio.sleep(0.01)
        assert (tmp_path / "copy").read_bytes() == source.read_bytes()

    run(main())


def test_progress_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(secrets.token_bytes(3_000_000))
        reading, receiving = [], []
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source, progress=reading.append)).ticket
            await ben.files.get(ticket, tmp_path / "copy", progress=receiving.append)
        assert reading[-1].phase == "reading"
        assert reading[-1].total == 3_000_000
        assert receiving[-1].phase == "finishing"
        assert all(step.done <= step.total == 3_000_000 for step in receiving)

    run(main())


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    async def main() -> None:
        source = tmp_path / "one.bin"
        source.write_bytes(bytes(1000))
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            full = type("usage", (), {"free": 100})
            monkeypatch.setattr("shutil.disk_usage", lambda _: full)
            with pytest.raises(StorageError, match=r"disk full.*100 B free"):
                await ben.files.get(ticket, tmp_path / "copy")
            assert (await ben.files.transfers())[0].state == "paused"
            assert not (tmp_path / "copy").exists()
            monkeypatch.undo()
            await ben.files.get(ticket, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == bytes(1000)

    run(main())


def test_records_are_the_owners_only_and_a_damaged_one_is_set_aside(tmp_path: Path) -> None:
    async def main() -> None:
        source = make_tree(tmp_path / "photos")
        async with pair(tmp_path) as (anna, _):
            await anna.files.share(source)
            (record,) = (anna.home / "apps/files/shares").iterdir()
            assert record.stat().st_mode & 0o077 == 0
        record.write_text("{")
        async with pair(tmp_path) as (anna, _):
            assert await anna.files.shares() == []
            [notice] = anna.notices.all()
            assert f"{record.stem} was damaged" in notice.said
        assert not record.exists()
        assert [path.read_text() for path in record.parent.glob("damaged/*")] == ["{"]

    run(main())


def test_the_ticket_of_a_share_again(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "note").write_text("hello")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(tmp_path / "note")
            for named in (shared.id, "note", str(tmp_path / "note")):
                again = await anna.files.ticket(named)
                assert (again.ticket, again.text()) == (shared.ticket, shared.ticket)
            await ben.files.get(again.ticket, tmp_path / "copy")
            with pytest.raises(NotFound, match="coterie shares"):
                await anna.files.ticket("other")
            with pytest.raises(UsageError, match="contains '/'"):
                await anna.files.share(tmp_path / "note", name="../up")

    run(main())


def test_the_list_of_finished_transfers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DONE_MAX", 2)

    async def main() -> None:
        (tmp_path / "note").write_text("hello")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "note")).ticket
            ids = [(await ben.files.get(ticket, tmp_path / f"copy{n}")).id for n in range(4)]
            assert [t.id for t in await ben.files.transfers()] == ids[
                1:
            ]  # the newest was no finished one at its start

    run(main())
