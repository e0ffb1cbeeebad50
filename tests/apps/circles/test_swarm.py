"""What is shared with a circle: its members give it to each other, and to nobody who is not in it any more."""

import asyncio
import secrets
from pathlib import Path

import pytest

from coterie.errors import NotFound
from coterie.wire import Ticket
from tests.apps.circles.nodes import circles, let_in, people, roles, until
from tests.support import run

SIZE = 6_000_000


def test_members_give_each_other_what_is_shared_with_their_circle(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "film"
        source.write_bytes(secrets.token_bytes(SIZE))
        async with people(tmp_path, "anna", "ben", "carl", "dora") as (anna, *others):
            circles(anna).create("home")
            for node in others:
                await let_in(anna, node, "home")
            for node in others:
                await until(lambda node=node: len(roles(node, "home")) == 4)  # type: ignore[misc]
            await anna.files.share(source, to=["home"])
            anna.files.limits.change(up=4_000_000, down=None, up_hours=None, down_hours=None)
            got = await asyncio.gather(
                *(node.files.get_place("anna/film", tmp_path / f"copy{n}") for n, node in enumerate(others))
            )
            sent = anna.files.server.sent_bytes
        for n in range(3):
            assert (tmp_path / f"copy{n}").read_bytes() == source.read_bytes()
        assert sent <= 2 * SIZE, f"the one that shares sent {sent / SIZE:.2f} copies to three"
        assert max(received.sources for received in got) >= 2

    run(main())


def test_a_removed_member_gets_it_from_nobody(tmp_path: Path) -> None:
    """Carl knows the circle's secret for the film; with it ben, who has the film, gives only while carl is in."""

    async def main() -> None:
        source = tmp_path / "film"
        source.write_bytes(secrets.token_bytes(300_000))
        async with people(tmp_path, "anna", "ben", "carl", "eve") as (anna, ben, carl, eve):
            circles(anna).create("home")
            for node in (ben, carl):
                await let_in(anna, node, "home")
            await until(lambda: len(roles(ben, "home")) == 3)
            await anna.files.share(source, to=["home"])
            received = await ben.files.get_place("anna/film", tmp_path / "of-ben")
            at_anna = await carl.files.locate("anna/film")
            from_ben = Ticket(
                at_anna.kind, ben.peer_id, at_anna.content_id, at_anna.secret, tuple(ben.addresses)
            )
            await carl.files.get(from_ben, tmp_path / "of-carl")
            assert (tmp_path / "of-carl").read_bytes() == source.read_bytes()
            with pytest.raises(NotFound):  # who never was in the circle, whoever told it the secret
                await eve.files.get(from_ben, tmp_path / "of-eve")
            circles(anna).remove("home", "carl")
            await until(lambda: "carl" not in roles(ben, "home"))
            for ticket in (from_ben, at_anna):
                with pytest.raises(NotFound):
                    await carl.files.get(ticket, tmp_path / "again")
            await ben.files.cancel(received.id)
            rules = ben.access.policy.rules()
            assert not any("download/" in resource for of in rules.values() for resource in of)

    run(main())


def test_what_is_shared_with_one_person_is_not_given_on(tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "letter"
        source.write_bytes(b"only for you")
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            for node in (ben, carl):
                await let_in(anna, node, "home")
            await until(lambda: len(roles(ben, "home")) == 3)
            await anna.files.share(source, to=["ben"])
            place = await ben.files.locate("anna/letter")
            await ben.files.get(place, tmp_path / "of-ben")
            for peer in (ben.peer_id, anna.peer_id):
                stolen = Ticket(place.kind, peer, place.content_id, place.secret)
                with pytest.raises(NotFound):
                    await carl.files.get(stolen, tmp_path / "of-carl")

    run(main())
