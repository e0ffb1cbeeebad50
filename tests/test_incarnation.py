"""A home that was copied: noticed on both computers, and no harm to anybody."""

import asyncio
import contextlib
import shutil
from pathlib import Path

from coterie.control.doctor_node import identity
from coterie.errors import CoterieError
from coterie.incarnation import EARLIER_MAX, Incarnation
from coterie.node import Node
from coterie.wire.record import INCARNATION_BYTES
from tests.support import run

LOOPBACK = 'bind = "127.0.0.1"\ndiscovery = false\n'


def home_of(folder: Path, name: str) -> Path:
    home = folder / name
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'name = "{name}"\n{LOOPBACK}')
    return home


def test_each_start_has_a_number_and_knows_those_before(tmp_path: Path) -> None:
    path = tmp_path / "incarnations"
    first = Incarnation.begin(path)
    second = Incarnation.begin(path)
    assert len(second.current) == INCARNATION_BYTES
    assert second.is_ours(first.current)
    assert second.is_ours(second.current)
    assert not first.is_ours(second.current)
    assert not second.is_ours(b"")


def test_the_starts_remembered_are_bounded_and_damage_costs_one(tmp_path: Path) -> None:
    path = tmp_path / "incarnations"
    first = Incarnation.begin(path)
    path.write_bytes(path.read_bytes() + bytes(INCARNATION_BYTES * (EARLIER_MAX - 2)) + b"odd")
    assert Incarnation.begin(path).is_ours(first.current)
    assert not Incarnation.begin(path).is_ours(first.current)
    assert path.stat().st_size == EARLIER_MAX * INCARNATION_BYTES


def test_a_copied_home_is_noticed_on_both_computers_and_by_nobody_else(tmp_path: Path) -> None:
    anna_home, carl_home = home_of(tmp_path, "anna"), home_of(tmp_path, "carl")
    copy_home = tmp_path / "copy"

    async def main() -> None:
        async with Node.open(carl_home) as carl:
            async with Node.open(anna_home) as anna, carl.contacts.invite() as invitation:
                await anna.contacts.join(invitation.invited.ticket)
            shutil.copytree(anna_home, copy_home)
            async with Node.open(anna_home) as anna, Node.open(copy_home) as copy:
                assert anna.peer_id == copy.peer_id
                async with asyncio.timeout(40):
                    while not all("same identity" in node.status().text() for node in (anna, copy)):
                        for node in (anna, copy):
                            with contextlib.suppress(CoterieError):  # the other one has just taken its place
                                await node.connect(carl.peer_id, carl.addresses)
                            await asyncio.sleep(0.05)
                assert not (await identity(anna)).ok
                assert carl.troubles() == []
                assert carl.contacts.is_contact(anna.peer_id)

    run(main())


def test_a_home_that_was_only_restarted_or_moved_is_no_copy(tmp_path: Path) -> None:
    anna_home, carl_home = home_of(tmp_path, "anna"), home_of(tmp_path, "carl")
    moved = tmp_path / "moved"

    async def main() -> None:
        async with Node.open(carl_home) as carl:
            async with Node.open(anna_home) as anna, carl.contacts.invite() as invitation:
                await anna.contacts.join(invitation.invited.ticket)
            anna_home.rename(moved)
            for _ in range(2):
                async with Node.open(moved) as anna:
                    assert anna.reach is not None
                    await anna.reach.keep(await anna.connect(carl.peer_id, carl.addresses))
                    assert anna.troubles() == []
                    assert (await identity(anna)).ok

    run(main())
