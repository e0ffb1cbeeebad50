"""A home that was restored from a backup, or copied: what both of its lives wrote is there, and nobody is blocked."""

import shutil
from pathlib import Path

from coterie.node import Node
from tests.access.circles import picture
from tests.apps.circles.nodes import circles, let_in, people, roles, until
from tests.support import run


def test_what_both_lives_of_a_home_wrote_into_a_circle_is_merged(tmp_path: Path) -> None:
    backup = tmp_path / "backup"

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in(anna, carl, "home")
            await until(lambda: len(roles(ben, "home")) == 3)
        shutil.copytree(tmp_path / "anna", backup)
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):  # her first life
            circles(anna).rename("home", "castle")
            circles(anna).set_role("castle", "carl", "guest")
            circles(anna).revoke(b"r" * 32, [ben.peer_id])
            await until(lambda: roles(ben, "castle").get("carl") == "guest" if joined(ben) else False)
            await until(lambda: bool(circles(ben).revoked()))
        shutil.move(tmp_path / "anna", tmp_path / "first")
        shutil.copytree(backup, tmp_path / "anna")
        async with people(tmp_path, "anna") as (anna,):  # her second one, which has not heard of that
            circles(anna).rename("home", "anna the second", member="anna")
            circles(anna).revoke(b"s" * 32, [circles(anna).states()[0].find("ben").devices[0]])
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            await until(lambda: len(circles(ben).revoked()) == 2)
            await until(lambda: same(anna, ben) and same(ben, carl))
            assert roles(ben, "castle") == {"anna the second": "owner", "ben": "owner", "carl": "guest"}
        shutil.move(tmp_path / "anna", tmp_path / "second")
        shutil.move(tmp_path / "first", tmp_path / "anna")
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):  # and her first one again
            circles(anna).set_role("castle", "carl", "member")
            await until(
                lambda: same(anna, ben) and same(ben, carl) and roles(carl, "castle")["carl"] == "member"
            )
            assert set(circles(carl).revoked()) == {b"r" * 32, b"s" * 32}
            assert [circles(node).blocked_lines() for node in (anna, ben, carl)] == [[], [], []]

    run(main(), timeout_s=100)


def joined(node: Node) -> bool:
    return [state.name for state in circles(node).states()] == ["castle"]


def same(one: Node, other: Node) -> bool:
    (first,), (second,) = circles(one).states(), circles(other).states()
    return picture(first) == picture(second)
