"""A home that was put back from a copy, and members who claim writes of others: folders go on, and nothing is lost."""

import shutil
from pathlib import Path

import pytest

from coterie.apps.folders.app import APP
from coterie.apps.folders.messages import PROTOCOL, Changes, Hello
from coterie.apps.folders.register import COUNTER_MAX, Kind, Register, Value, merge, pack, renumbered
from coterie.apps.folders.renewing import AGAIN_S, Renewing
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import engine_of, files_in, pair, until

OWN, OTHER, NEW = (bytes([n]) * 16 for n in (1, 2, 3))


def level(*nodes: Node) -> bool:
    """Nobody has something that nobody else has."""
    return all(
        line.unsent == 0 and line.state == "in sync" for node in nodes for line in node.folders.lines()
    )


def test_a_home_put_back_from_a_copy_goes_on_and_loses_no_edit(tmp_path: Path) -> None:
    """It gives numbers again that it has given before: others would take the new edits for known ones."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("first")
        await until(lambda: files_in(there) == {"a.txt": b"first"} and level(anna, ben), "the file")
        await cast.stop("anna")
        shutil.copytree(tmp_path / "homes" / "anna", tmp_path / "copy")
        anna = await cast.node("anna")
        for number in range(5):
            (here / f"{number}.txt").write_text("before it was put back")
            (here / "a.txt").write_text(f"edit {number}")
            await until(lambda: files_in(there) == files_in(here) and level(anna, ben), "edits")
        replica = engine_of(anna).replica
        await cast.stop("anna")
        shutil.rmtree(tmp_path / "homes" / "anna")
        shutil.copytree(tmp_path / "copy", tmp_path / "homes" / "anna")
        cast.network.partition(["anna"], ["ben"])
        anna = await cast.node("anna")
        (here / "a.txt").write_text("after it was put back")
        (here / "new.txt").write_text("new")
        await until(lambda: anna.folders.lines()[0].unsent >= 7, "they are recorded")
        cast.network.heal()
        await until(lambda: files_in(there).get("new.txt") == b"new", "what is new arrives", 40.0)
        await until(lambda: files_in(there) == files_in(here) and level(anna, ben), "the same on both", 40.0)
        assert b"after it was put back" in files_in(there).values()
        assert {f"{number}.txt" for number in range(5)} <= set(files_in(there))
        assert engine_of(anna).replica != replica

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


@pytest.mark.parametrize("how", ["a number of all", "a write"])
def test_who_claims_writes_of_another_stops_nobody(tmp_path: Path, how: str) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("first")
        await until(lambda: files_in(there) == {"a.txt": b"first"} and level(anna, ben), "the file")
        annas, bens = engine_of(anna).replica, engine_of(ben).replica
        (line,) = anna.folders.lines()
        folder = bytes.fromhex(line.id)
        stream = await (await ben.connect(anna.peer_id)).open_stream(PROTOCOL)
        if how == "a write":
            lie = Register((), ((annas, COUNTER_MAX),))
            entries = [("a.txt", pack(merge(lie, Register((), ((bens, 1),)))))]
            await stream.send(Changes(folder, bens, 0, 0, entries))
        else:
            await stream.send(Hello(folder, bens, 0, annas, COUNTER_MAX))
        await until(
            lambda: any(engine.replica != annas for engine in anna.folders.engines), "she goes on as another"
        )
        for number in range(3):
            (here / "a.txt").write_text(f"edit {number}")
            await until(lambda: files_in(there) == files_in(here) and level(anna, ben), "edits")
            assert files_in(there) == {"a.txt": f"edit {number}".encode()}
        (there / "a.txt").write_text("by ben")
        await until(lambda: files_in(here) == {"a.txt": b"by ben"}, "and back")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_new_ids_are_given_seldom() -> None:
    now = [0.0]
    renewing = Renewing(None, lambda: now[0])  # type: ignore[arg-type]
    assert renewing.may(b"f" * 16)
    assert renewing.may(b"g" * 16)
    now[0] = AGAIN_S - 1
    assert not renewing.may(b"f" * 16)
    now[0] = AGAIN_S
    assert renewing.may(b"f" * 16)


def test_numbers_that_may_have_been_given_twice_are_of_the_new_id() -> None:
    old, mine = Value(Kind.FILE, b"o" * 32), Value(Kind.FILE, b"m" * 32)
    register = Register((((OWN, 12), mine), ((OTHER, 1), old)), ((OWN, 12), (OTHER, 1)))
    new = renumbered(register, OWN, 10, {(OWN, 12): (NEW, 1)})
    assert new == Register((((OTHER, 1), old), ((NEW, 1), mine)), ((OWN, 10), (OTHER, 1), (NEW, 1)))
    other_life = Register((((OWN, 12), old),), ((OWN, 12),))
    assert {dot for dot, _ in merge(new, other_life).siblings} >= {(OWN, 12), (NEW, 1)}
