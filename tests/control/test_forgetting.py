"""`coterie peers forget`: who was seen leaves the list by hand, or by itself; never the wrong one."""

import time
from pathlib import Path

import pytest

from coterie.control.forgetting import forget
from coterie.errors import NotFound, UsageError
from coterie.identity import SecretKey
from coterie.net import MemoryNetwork
from coterie.net.find.address_book import BookLimits
from coterie.node import Node
from coterie.wire.record import PeerRecord
from tests.apps.files.nodes import befriend, memory_node
from tests.support import run

SEEN = [SecretKey(bytes([n]) * 32) for n in range(1, 5)]
NAMES = ["old laptop", "printer", "printer", "ben"]


def record(key: SecretKey, name: str, now: float) -> bytes:
    made = PeerRecord(
        peer=key.peer_id,
        sequence=1,
        issued=int(now),
        expires=int(now) + 3600,
        addresses=("192.0.2.7:1",),
        name=name,
    )
    return made.sign(key)


def listed(node: Node) -> list[str]:
    return [line.peer for line in node.peers()]


def test_who_was_seen_is_forgotten_by_name_or_id_and_nobody_by_mistake(tmp_path: Path) -> None:
    laptop, printer, other_printer, namesake = (key.peer_id for key in SEEN)

    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "a") as anna,
            memory_node(network, tmp_path / "ben") as ben,
        ):
            assert anna.reach is not None
            await befriend(anna, ben)
            for key, name in zip(SEEN, NAMES, strict=True):
                assert anna.reach.learn(record(key, name, time.time()), "local network") == key.peer_id
            for unclear in ("printer", ""):
                with pytest.raises((UsageError, NotFound)):
                    forget(anna, unclear)
            with pytest.raises(NotFound, match="nobody known"):
                forget(anna, "toaster")
            contact = anna.people.name_of(ben.peer_id)
            with pytest.raises(UsageError, match="is a contact: `coterie contacts remove"):
                forget(anna, contact)
            with pytest.raises(NotFound, match="nothing is kept"):
                forget(anna, str(SecretKey(bytes([9]) * 32).peer_id))
            assert {laptop, printer, other_printer, namesake} <= {key.peer_id for key in SEEN}
            assert all(str(key.peer_id) in listed(anna) for key in SEEN), "what was refused changed nothing"

            assert forget(anna, "old laptop").peer == str(laptop)
            assert forget(anna, printer.short).text() == "Forgot printer."
            assert [str(p) in listed(anna) for p in (laptop, printer, other_printer)] == [False, False, True]
            assert forget(anna, "printer").peer == str(other_printer), "now it is clear which"
        async with memory_node(network, tmp_path / "a") as anna:
            assert str(laptop) not in listed(anna), "also after a restart"
            assert str(namesake) in listed(anna)

    run(scene())


def test_who_is_connected_is_not_forgotten(tmp_path: Path) -> None:
    async def scene() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "a") as anna,
            memory_node(network, tmp_path / "ben") as ben,
        ):
            await ben.connect(anna.peer_id, anna.addresses)
            with pytest.raises(UsageError, match="is connected now"):
                forget(anna, str(ben.peer_id))

    run(scene())


def test_who_was_silent_for_long_is_gone_when_a_node_starts(tmp_path: Path) -> None:
    async def scene() -> None:
        network, now = MemoryNetwork(), time.time()
        async with memory_node(network, tmp_path / "a") as anna:
            assert anna.reach is not None
            for key, age_s in ((SEEN[0], 0.0), (SEEN[1], BookLimits().silent_s + 1)):
                entry = anna.reach.book.learn(record(key, "", now), now, "local network")
                assert entry is not None
                known = anna.reach.book.entry(key.peer_id)
                assert known is not None
                known.heard_at -= age_s
        async with memory_node(network, tmp_path / "a") as anna:
            assert [str(key.peer_id) in listed(anna) for key in SEEN[:2]] == [True, False]

    run(scene())
