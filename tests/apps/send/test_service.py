"""Files sent between nodes that know each other, over the memory network."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.send import core as c
from coterie.apps.send.commands import addressee
from coterie.apps.send.messages import PROTOCOL, Gone, pack
from coterie.apps.send.records import Part
from coterie.errors import NotFound, UsageError
from coterie.identity import load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.wire import Ticket
from coterie.wire.ticket import TicketKind
from tests.apps.circles.nodes import circles, let_in, let_in_device
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.support import run


async def until(done: Callable[[], Any]) -> Any:
    """What `done` gives, once that is true."""
    async with asyncio.timeout(20):
        while not (found := done()):
            await asyncio.sleep(0.005)
    return found


def word_of(node: Node) -> str:
    """What the node shows of the one offer that it made or got."""
    lines = [*node.service("send").sent(), *node.service("send").inbox()]
    assert len(lines) == 1, lines
    return str(lines[0].state)


async def offer(anna: Node, ben: Node, *paths: Path, lasts_s: float = 3_600.0, **options: Any) -> Any:
    """Offer from anna to ben."""
    record = await anna.service("send").read(paths, lasts_s=lasts_s, note="")
    return anna.service("send").offer_to(record, str(ben.peer_id), **options)


def test_what_is_accepted_arrives_and_both_sides_say_so(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 100_000)
        async with friends(tmp_path) as (anna, ben):
            line = await offer(anna, ben, photo)
            assert line.state == "offered"
            await until(lambda: word_of(anna) == "delivered")
            (offered,) = ben.service("send").inbox()
            assert (offered.state, offered.names, offered.size) == ("delivered", ["photo.jpg"], 600_000)
            assert ben.service("send").accept(offered.id, tmp_path / "got").state == "accepted"
            await until(lambda: word_of(ben) == "received")
            await until(lambda: word_of(anna) == "received")
            assert (tmp_path / "got" / "photo.jpg").read_bytes() == photo.read_bytes()

    run(play())


def offers(node: Node) -> Any:
    """Its send service."""
    return node.service("send")


async def offered(anna: Node, ben: Node, *paths: Path, **options: Any) -> str:
    """Offer from anna to ben, until ben has it; its id there."""
    before = {line.id for line in offers(ben).inbox()}
    await offer(anna, ben, *paths, **options)
    line = await until(lambda: [line for line in offers(ben).inbox() if line.id not in before])
    return str(line[0].id)


def states(node: Node) -> list[str]:
    return [line.state for line in [*offers(node).sent(), *offers(node).inbox()]]


async def both(anna: Node, ben: Node, *words: str) -> None:
    """Until both sides say these words of their offers."""
    await until(lambda: states(anna) == states(ben) == [*words])


def test_declined_cancelled_and_names_beside_what_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        note = tmp_path / ".profile"
        note.write_text("rm -rf")
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a").write_text("a")
        got = tmp_path / "got"
        got.mkdir()
        (got / "profile").write_text("mine")
        async with friends(tmp_path) as (anna, ben):
            first = await offered(anna, ben, note)
            assert [n.said for n in ben.notices.all()][-1].startswith(
                f"{offers(ben).inbox()[0].sender} offers .profile"
            )
            offers(ben).decline(first)
            await both(anna, ben, "declined")
            await offered(anna, ben, folder)
            (mine,) = [line for line in offers(anna).sent() if line.state != "declined"]
            offers(anna).cancel(mine.id)
            await both(anna, ben, "declined", "cancelled")
            third = await offered(anna, ben, note, folder)
            offers(ben).accept(third, got)
            await both(anna, ben, "declined", "cancelled", "received")
            assert sorted(path.name for path in got.iterdir()) == ["photos", "profile", "profile (2)"]
            assert (got / "profile").read_text() == "mine"
            await until(lambda: not anna.files.gifts.roots())

    run(play())


def test_an_offer_waits_for_who_is_away_and_outlives_restarts_of_both(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 100_000)
        network = MemoryNetwork()
        home_a, home_b = tmp_path / "home-anna", tmp_path / "home-ben"
        async with memory_node(network, home_a) as anna:
            async with memory_node(network, home_b) as ben:
                await befriend(anna, ben)
            await offer(anna, ben, photo)
            assert states(anna) == ["offered"]
        async with memory_node(network, home_b) as ben:
            async with memory_node(network, home_a) as anna:
                await both(anna, ben, "delivered")
            offers(ben).accept("photo.jpg", tmp_path / "got")
            assert states(ben) == ["accepted"]
        async with memory_node(network, home_a) as anna, memory_node(network, home_b) as ben:
            await both(anna, ben, "received")
        assert (tmp_path / "got" / "photo.jpg").read_bytes() == photo.read_bytes()

    run(play())


def test_to_a_person_with_two_computers_one_of_them_off(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "home-anna") as anna,
            memory_node(network, tmp_path / "home-ben") as ben,
        ):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            async with memory_node(network, tmp_path / "home-phone") as phone:
                await let_in_device(ben, phone)
                await until(lambda: len(anna.people.computers_of(ben.peer_id)) == 2)
            await offer(anna, ben, photo)
            await both(anna, ben, "delivered")
            offers(ben).accept("photo.jpg", tmp_path / "got")
            await both(anna, ben, "received")
            async with memory_node(network, tmp_path / "home-phone") as phone:
                await phone.connect(anna.peer_id, anna.addresses)  # else anna looks for it now and again
                await until(lambda: states(phone) == ["taken elsewhere"])
                assert phone.notices.all() == []
                await offer(anna, ben, photo, each=True)
                for one in (phone, ben):
                    await until(lambda one=one: states(one)[-1] == "delivered")
                    offers(one).accept("photo.jpg", tmp_path / str(one.peer_id))
                await until(lambda: states(anna) == ["received"] * 3)
                assert [path.name for path in (tmp_path / str(phone.peer_id)).iterdir()] == ["photo.jpg"]

    run(play())


def test_an_offer_that_nobody_answers_expires_on_both_sides(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with friends(tmp_path) as (anna, ben):
            await offered(anna, ben, photo, lasts_s=1.0)
            await both(anna, ben, "expired")
            with pytest.raises(NotFound):
                offers(ben).accept("photo.jpg")
            for wrong_s in (0.0, 31 * 86_400.0):
                with pytest.raises(UsageError, match="up to 30 days"):
                    await offer(anna, ben, photo, lasts_s=wrong_s)

    run(play())


def test_what_some_people_send_is_taken_without_a_question_until_they_are_asked_again(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with friends(tmp_path) as (anna, ben):
            offers(ben).always(str(anna.peer_id), tmp_path / "from-anna")
            await offer(anna, ben, photo)
            await both(anna, ben, "received")
            assert (tmp_path / "from-anna" / "photo.jpg").read_bytes() == b"sunset"
            assert len(offers(ben).always_lines()) == 1
            offers(ben).ask(str(anna.peer_id))
            await offer(anna, ben, photo)
            await both(anna, ben, "received", "delivered")
            with pytest.raises(NotFound):
                offers(ben).ask(str(anna.peer_id))

    run(play())


def test_only_the_computer_that_accepted_gets_it_and_no_longer_than_it_needs_it(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 100_000)
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "home-anna") as anna,
            memory_node(network, tmp_path / "home-ben") as ben,
            memory_node(network, tmp_path / "home-eve") as eve,
        ):
            for other in (ben, eve):
                await befriend(anna, other)
            await offered(anna, ben, photo)
            item = offers(anna)._core.sent[offers(anna).sent()[0].id].items[0]  # what eve could steal at most
            stolen = Ticket(
                TicketKind(item.kind), anna.peer_id, item.root, item.secret, tuple(anna.addresses)
            )
            for thief in (eve, ben):  # ben has not accepted
                with pytest.raises(NotFound):
                    await thief.files.get(str(stolen), tmp_path / "stolen")
            offers(ben).accept("photo.jpg", tmp_path / "got")
            await both(anna, ben, "received")
            for thief in (eve, ben):
                with pytest.raises(NotFound):
                    await thief.files.get(str(stolen), tmp_path / "stolen")

    run(play())


def test_more_or_other_than_was_offered_is_not_taken(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset" * 100_000)
        async with friends(tmp_path) as (anna, ben):
            record = await offers(anna).read([photo], lasts_s=60.0, note="")
            record.items[0].size = 6
            offers(anna).offer_to(record, str(ben.peer_id))
            await both(anna, ben, "delivered")
            assert offers(ben).inbox()[0].size == 6
            offers(ben).accept("photo.jpg", tmp_path / "got")
            await both(anna, ben, "failed")
            assert offers(anna).sent()[0].note == "what came is not what was offered"
            assert list((tmp_path / "got").glob("[!.]*")) == []

    run(play())


FULL = """
import asyncio, sys
from pathlib import Path
from tests.apps.send.test_service import both, friends, offered, offers

async def play(folder, small):
    photo = folder / "photo.jpg"
    photo.write_bytes(bytes(range(256)) * 80_000)
    async with friends(folder) as (anna, ben):
        await offered(anna, ben, photo)
        (small / "filler").write_bytes(bytes(20_000_000))
        offers(ben).accept("photo.jpg", small)
        await both(anna, ben, "failed")
        notes = [offers(anna).sent()[0].note, offers(ben).inbox()[0].note]
        (small / "filler").unlink()
        offers(ben).accept("photo.jpg")
        await both(anna, ben, "received")
        print(notes, (small / "photo.jpg").stat().st_size)

asyncio.run(play(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_both_sides_say_that_the_disk_is_full_and_it_goes_on_after_space_is_freed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=48m none '{disk}'"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    command = f"{mount} && exec '{sys.executable}' -c \"$0\" '{tmp_path}' '{disk}'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, FULL], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{['the disk of the receiver is full'] * 2} 20480000\n", done.stderr


def test_who_cannot_be_sent_to_is_said_with_what_to_do(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        network = MemoryNetwork()
        home = tmp_path / "home-old"
        home.mkdir(mode=0o700)
        key = load_or_create_key(home / "key")
        old = Node.open(
            home, transport=network.bind(key.peer_id), apps=["contacts", "files"]
        )  # as version 0.1
        async with memory_node(network, tmp_path / "home-anna") as anna, old as ben:
            await befriend(anna, ben)
            await offer(anna, ben, photo)
            await until(lambda: "is to be upgraded" in offers(anna).sent()[0].note)
            assert states(anna) == ["offered"]
        async with memory_node(network, home) as ben, memory_node(network, tmp_path / "home-anna") as anna:
            await both(anna, ben, "delivered")
            assert offers(anna).sent()[0].note == ""

    run(play())


@pytest.mark.parametrize(
    ("words", "person", "files"),
    [
        (["a.txt", "ben"], "ben", ["a.txt"]),
        (["a.txt", "b.txt", "ben"], "ben", ["a.txt", "b.txt"]),
        (["a.txt"], "", ["a.txt"]),
        (["a.txt", "b.txt"], "", ["a.txt", "b.txt"]),
        (["./anna"], "", ["anna"]),
    ],
)
def test_who_is_meant_and_what(tmp_path: Path, words: list[str], person: str, files: list[str]) -> None:
    for name in ("a.txt", "b.txt", "anna"):
        (tmp_path / name).write_text(name)
    meant, paths = addressee(words, tmp_path, {"ben", "anna"}.__contains__)
    assert (meant, paths) == (person, [tmp_path / name for name in files])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], UsageError),
        (["ben"], UsageError),
        (["a.txt", "anna"], UsageError),
        (["a.txt", "nobody"], NotFound),
    ],
)
def test_who_or_what_is_not_clear(tmp_path: Path, words: list[str], error: type[Exception]) -> None:
    for name in ("a.txt", "anna"):
        (tmp_path / name).write_text(name)
    with pytest.raises(error):
        addressee(words, tmp_path, {"ben", "anna"}.__contains__)
    assert addressee(["a.txt", "nobody"], tmp_path, {"ben"}.__contains__, near=True)[0] == "nobody"


def test_a_removed_contact_is_not_taken_from_without_a_question_again(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with friends(tmp_path) as (anna, ben):
            offers(ben).always(str(anna.peer_id), tmp_path / "got")
            ben.contacts.remove(str(anna.peer_id))
            assert offers(ben).always_lines() == []
            async with ben.contacts.invite() as invitation:
                await anna.contacts.join(invitation.invited.ticket)
            await offer(anna, ben, photo)
            await both(anna, ben, "delivered")
            assert not (tmp_path / "got").exists()

    run(play())


def test_what_was_accepted_of_a_contact_does_not_begin_after_its_removal(tmp_path: Path) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with friends(tmp_path) as (anna, ben):
            id_ = await offered(anna, ben, photo)
            got = offers(ben).got(id_)
            offers(ben).accept(id_, tmp_path / "got")
            ben.contacts.remove(str(anna.peer_id))
            record = next(
                iter(offers(anna)._core.sent.values())
            )  # anna's client lies: it says so by a stream, too
            part = record.parts[0]
            part.stand, part.serial, part.told = c.Stand.GRANTED, part.serial + 1, 0
            async with await (await anna.connect(ben.peer_id, ben.addresses)).open_stream(PROTOCOL) as stream:
                await stream.send(c.offer_of(record))
                await stream.send(c.stands_of(record, part))
                assert await stream.receive(5.0) == Gone(record.offer)
            await asyncio.sleep(0)
            assert got.answer == c.Answer.ACCEPTED
            assert not (tmp_path / "got").exists()

    run(play())


def test_what_is_taken_without_a_question_leaves_room_for_all_that_is_coming(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"sunset")
        async with friends(tmp_path) as (anna, ben):
            offers(ben).always(str(anna.peer_id), tmp_path / "got")
            half = shutil.disk_usage(tmp_path).free // 2 + (1 << 20)
            for _ in range(3):
                record = await offers(anna).read([photo], lasts_s=3_600.0)
                record.items[0].size = half  # a lie
                record.parts = [Part(str(ben.peer_id), record.created + 3_600)]
                await offers(anna)._context.mail.send(
                    ben.peer_id, pack(c.offer_of(record))
                )  # nobody gives it
            await until(lambda: len(offers(ben).inbox()) == 3)
            assert states(ben) == ["accepted", "delivered", "delivered"]

    run(play())


def test_a_file_called_as_a_person_is_not_accepted_in_its_place(tmp_path: Path) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "home-anna") as anna,
            memory_node(network, tmp_path / "home-ben") as ben,
            memory_node(network, tmp_path / "home-eve") as eve,
        ):
            for other in (anna, eve):
                await befriend(other, ben)
            photo, trap = tmp_path / "photo.jpg", tmp_path / ben.people.name_of(anna.peer_id)
            for path in (photo, trap):
                path.write_bytes(b"sunset")
            await offered(anna, ben, photo)
            await offered(eve, ben, trap)
            with pytest.raises(UsageError, match="may be any of"):
                offers(ben).accept(trap.name, tmp_path / "got")

    run(play())


def test_a_cut_in_the_middle_is_said_on_both_sides(tmp_path: Path) -> None:
    async def play() -> None:
        network, film = MemoryNetwork(), tmp_path / "film"
        film.write_bytes(os.urandom(3_000_000))
        async with (
            memory_node(network, tmp_path / "home-anna") as anna,
            memory_node(network, tmp_path / "home-ben") as ben,
        ):
            await befriend(anna, ben)
            ben.files.limits.change(up=None, down=500_000, up_hours=None, down_hours=None)
            offers(ben).accept(await offered(anna, ben, film), tmp_path / "got")
            await until(lambda: all(word.startswith("fetching") for word in states(anna) + states(ben)))
            network.block(anna.peer_id, ben.peer_id)
            names = ben.people.name_of(anna.peer_id), anna.people.name_of(ben.peer_id)
            await until(lambda: states(ben) == [f"waiting for {names[0]}"])
            await until(lambda: states(anna) == [f"waiting for {names[1]}"])
            ben.files.limits.change(up=None, down=0, up_hours=None, down_hours=None)
            network.unblock(anna.peer_id, ben.peer_id)
            await both(anna, ben, "received")

    run(play())
