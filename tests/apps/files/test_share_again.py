"""A share stays one share for its life: shared again it takes in changes, and its tickets, place and grants hold."""

import asyncio
import dataclasses
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coterie.apps.files.records import ShareRecord
from coterie.apps.files.shares import EARLIER_MAX, SECRETS_MAX
from coterie.apps.grants.service import Wanted
from coterie.content.writer import partials
from coterie.errors import NotFound
from coterie.node import Node
from coterie.transfer import messages as f
from coterie.transfer.states import TransferState
from coterie.transfer.transfer import Transfer
from coterie.wire import Ticket
from tests.apps.files.nodes import friends, opening, pair, tree_of
from tests.support import run

LARGE = random.Random(2).randbytes(6_000_000)
LIMITED: dict[str, Any] = {"up": None, "down": 2_000_000.0, "up_hours": None, "down_hours": None}
FREE = LIMITED | {"down": 0.0}
OLD = dataclasses.replace(f.PROTOCOL, versions=(1, f.JOINED_SINCE))


def photos(folder: Path) -> Path:
    top = folder / "photos"
    (top / "2024").mkdir(parents=True)
    for name in ("a.jpg", "2024/b.jpg"):
        (top / name).write_text(f"first {name}")
    return top


async def answer_to_an_old_peer(anna: Node, ben: Node, ticket: str) -> object:
    """What a peer until version 0.1 hears first when it opens this ticket."""
    parsed = Ticket.parse(ticket)
    connection = await ben.connect(anna.peer_id, parsed.addresses)
    stream = await connection.open_stream(OLD)
    await stream.send(opening(parsed, ben.peer_id))
    answer = await stream.receive(5.0)
    await stream.reset(0)
    return answer


def test_a_share_keeps_its_id_its_tickets_its_place_and_its_grants(tmp_path: Path) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with friends(tmp_path) as (anna, ben):
            ben.contacts.rename(str(anna.peer_id), "anna")
            first = await anna.files.share(top, name="pictures")
            anna.grants.give(str(ben.peer_id), "list,read", "files/pictures", Wanted(604_800))
            (top / "a.jpg").write_text("second")
            (top / "c.jpg").write_text("new")
            again = await anna.files.share(top)
            assert (again.id, again.name, again.files) == (first.id, "pictures", 3)
            (line,) = await anna.files.shares()
            assert (line.id, line.files, line.state) == (first.id, 3, "ready")
            for number, ticket in enumerate((first.ticket, again.ticket)):
                await ben.files.get(ticket, tmp_path / f"got{number}")
                assert tree_of(tmp_path / f"got{number}") == tree_of(top)
            await ben.files.get("anna/pictures", tmp_path / "by-place")
            assert tree_of(tmp_path / "by-place") == tree_of(top)
            (grant,) = anna.grants.lines()
            assert "pictures" in grant.resource
            await anna.files.unshare(first.id)
            with pytest.raises(NotFound):
                await ben.files.get(first.ticket, tmp_path / "none")
            assert anna.store.roots() == []

    run(main())


def test_what_was_got_by_a_ticket_is_brought_to_the_present_version(tmp_path: Path) -> None:
    async def main() -> None:
        top, copy = photos(tmp_path), tmp_path / "copy"
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(top)).ticket
            await ben.files.get(ticket, copy)
            for text in ("second", "third"):
                (top / "a.jpg").write_text(text)
                await anna.files.share(top)
                if text == "second":
                    again = await ben.files.get(ticket, copy)
                    assert (again.is_update, again.replaced, again.fetched) == (True, 1, len(text))
                else:
                    (refreshed,) = await ben.files.refresh()
                    assert refreshed.received is not None
                    assert refreshed.received.replaced == 1
                assert (copy / "a.jpg").read_text() == text
            single = tmp_path / "note"
            single.write_text("one")
            ticket = (await anna.files.share(single)).ticket
            single.write_text("two")
            await anna.files.share(single)
            await ben.files.get(ticket, tmp_path / "note-of-anna")
            assert (tmp_path / "note-of-anna").read_text() == "two"

    run(main())


def test_an_old_peer_gets_the_old_version_while_all_of_it_is_there_else_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with pair(tmp_path) as (anna, ben):
            first = await anna.files.share(top)
            assert isinstance(await answer_to_an_old_peer(anna, ben, first.ticket), f.Opened)
            (top / "c.jpg").write_text("new")
            second = await anna.files.share(top)
            opened = await answer_to_an_old_peer(anna, ben, first.ticket)
            assert isinstance(opened, f.Opened)
            assert (opened.files, opened.whole) == (2, True)
            newest = await answer_to_an_old_peer(anna, ben, second.ticket)
            assert isinstance(newest, f.Opened)
            assert newest.files == 3
            (top / "c.jpg").unlink()
            (top / "a.jpg").write_text("changed")
            await anna.files.share(top)
            for ticket in (first.ticket, second.ticket):
                assert isinstance(await answer_to_an_old_peer(anna, ben, ticket), f.Refused)

    run(main())


@pytest.mark.parametrize("count", [EARLIER_MAX, EARLIER_MAX + 1])
def test_only_so_many_earlier_versions_are_kept(tmp_path: Path, count: int) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with pair(tmp_path) as (anna, ben):
            first = await anna.files.share(top)
            for number in range(count):
                (top / f"{number}.txt").write_text(str(number))
                await anna.files.share(top)
            answer = await answer_to_an_old_peer(anna, ben, first.ticket)
            assert isinstance(answer, f.Opened if count == EARLIER_MAX else f.Refused)
            assert len(anna.store.roots()) == EARLIER_MAX + 1
            await ben.files.get(first.ticket, tmp_path / "copy")
            assert tree_of(tmp_path / "copy") == tree_of(top)

    run(main())


async def get_under_way(anna: Node, ben: Node, ticket: str, target: Path) -> Transfer:
    """A download that is held back once a part of the large file is here."""
    ben.files.limits.change(**LIMITED)
    transfer = await ben.files.begin(ticket, target)
    while transfer.record.fetched < 1_000_000:
        assert transfer.record.state == TransferState.RUNNING
        await asyncio.sleep(0.01)
    return transfer


def replaced(top: Path) -> None:
    """Everything that a folder can become between two versions, beside one large file that stays."""
    (top / "a.jpg").write_text("second")
    shutil.rmtree(top / "2024")
    (top / "2024").write_text("a file by now")
    (top / "gone").unlink()
    (top / "note").unlink()
    (top / "note").mkdir()
    (top / "note" / "inner").write_text("inner")
    (top / "link").unlink()
    (top / "link").write_text("no link any more")


def added(top: Path) -> None:
    (top / "zz-new").write_text("new")


@pytest.mark.parametrize("change", [replaced, added])
def test_a_get_under_way_ends_with_one_version_and_never_a_mixture(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    async def main() -> None:
        top, copy = photos(tmp_path), tmp_path / "copy"
        (top / "film").write_bytes(LARGE)
        (top / "gone").write_text("gone soon")
        (top / "note").write_text("a file")
        (top / "link").symlink_to("a.jpg")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(top)).ticket
            before = tree_of(top)
            transfer = await get_under_way(anna, ben, ticket, copy)
            change(top)
            await anna.files.share(top)
            ben.files.limits.change(**FREE)
            received = await asyncio.wait_for(transfer.result, 30)
            assert not received.is_incomplete()
            assert tree_of(copy) == (before if change is added else tree_of(top))
            if change is replaced:  # what had come of the film did not come again
                assert received.fetched < len(LARGE)
            assert partials(tmp_path) == []
            await ben.files.get(ticket, copy)
            assert (copy / "a.jpg").read_text() == (top / "a.jpg").read_text()

    run(main())


def test_an_update_under_way_of_a_file_that_becomes_again_what_is_here_leaves_that(tmp_path: Path) -> None:
    async def main() -> None:
        film, copy = tmp_path / "film", tmp_path / "copy"
        film.write_bytes(LARGE)
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(film)).ticket
            await ben.files.get(ticket, copy)
            film.write_bytes(LARGE[::-1])
            await anna.files.share(film)
            transfer = await get_under_way(anna, ben, ticket, copy)
            film.write_bytes(LARGE)
            await anna.files.share(film)
            ben.files.limits.change(**FREE)
            received = await asyncio.wait_for(transfer.result, 30)
            assert (received.is_update, received.replaced) == (True, 0)
            assert copy.read_bytes() == LARGE

    run(main())


def test_a_get_that_was_interrupted_goes_on_with_the_present_version(tmp_path: Path) -> None:
    async def main() -> None:
        top, copy = photos(tmp_path), tmp_path / "copy"
        (top / "film").write_bytes(LARGE)
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(top)).ticket
            transfer = await get_under_way(anna, ben, ticket, copy)
            await ben.files.pause(transfer.record.id)
            (top / "a.jpg").write_text("second")
            shutil.rmtree(top / "2024")
            await anna.files.share(top)
            ben.files.limits.change(**FREE)
            received = await ben.files.get(ticket, copy)
            assert received.id == transfer.record.id
            assert received.fetched < len(LARGE)
            assert tree_of(copy) == tree_of(top)

    run(main())


def test_a_get_by_place_moves_too(tmp_path: Path) -> None:
    async def main() -> None:
        top, copy = photos(tmp_path), tmp_path / "copy"
        (top / "2024" / "film").write_bytes(LARGE)
        async with friends(tmp_path) as (anna, ben):
            ben.contacts.rename(str(anna.peer_id), "anna")
            await anna.files.share(top, to=["contacts"])
            ben.files.limits.change(**LIMITED)
            getting = asyncio.ensure_future(ben.files.get("anna/photos/2024", copy))
            while not any(line.done > 0 for line in await ben.files.transfers()):
                await asyncio.sleep(0.01)
            (top / "2024" / "b.jpg").write_text("second")
            await anna.files.share(top)
            ben.files.limits.change(**FREE)
            await asyncio.wait_for(getting, 30)
            assert tree_of(copy) == tree_of(top / "2024")

    run(main())


def test_doubles_that_version_0_1_made_become_one_share_with_all_their_tickets(tmp_path: Path) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with pair(tmp_path) as (anna, _):
            shared = await anna.files.share(top)
            other = await anna.files.share(tmp_path / "photos" / "a.jpg")
        folder = next((tmp_path / "home-anna").rglob(f"{shared.id}.json")).parent
        newest = msgspec.json.decode((folder / f"{shared.id}.json").read_bytes(), type=ShareRecord)
        tickets = []
        for number in range(SECRETS_MAX + 1):  # as version 0.1 left them, the oldest first
            secret, root = bytes([number] * 16), bytes([number] * 32)
            old = msgspec.structs.replace(newest, id=f"old{number}", secret=secret, root=root, created=number)
            (folder / f"old{number}.json").write_bytes(msgspec.json.encode(old))
            tickets.append(dataclasses.replace(Ticket.parse(shared.ticket), content_id=root, secret=secret))
        async with pair(tmp_path) as (anna, ben):
            assert {line.id for line in await anna.files.shares()} == {shared.id, other.id}
            with pytest.raises(NotFound):  # one past the bound
                await ben.files.get(tickets[0], tmp_path / "none")
            for ticket in (tickets[1], tickets[-1], Ticket.parse(shared.ticket)):
                received = await ben.files.get(ticket, tmp_path / f"by-{ticket.secret.hex()}")
                assert tree_of(Path(received.path)) == tree_of(top)

    run(main())


def test_who_has_no_ticket_does_not_hear_what_a_share_is_now(tmp_path: Path) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with pair(tmp_path) as (anna, ben):
            ticket = Ticket.parse((await anna.files.share(top)).ticket)
            wrong = dataclasses.replace(ticket, secret=bytes(16))
            (top / "a.jpg").write_text("second")
            await anna.files.share(top)
            with pytest.raises(NotFound):
                await ben.files.get(wrong, tmp_path / "none")

    run(main())


def test_what_is_shared_again_without_a_change_stays_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        top = photos(tmp_path)
        async with pair(tmp_path) as (anna, _):
            first = await anna.files.share(top)
            os.utime(top)
            second = await anna.files.share(top)
            assert (first.id, first.ticket) == (second.id, second.ticket)

    run(main())
