"""Files sent between nodes that know each other, over the memory network."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coterie.node import Node
from tests.apps.files.nodes import friends
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
