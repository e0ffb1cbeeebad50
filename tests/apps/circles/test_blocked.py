"""Blocks between whole nodes: by the word of the person only, listed, explained, undone, and no dial of any kind."""

from pathlib import Path
from typing import Any

import pytest

from coterie.access.circle_ops import Kind, Op, Role, SignedOp, consent, sign_op
from coterie.access.circle_vouched import LostComputer
from coterie.apps.circles.book import UNBLOCKED_MAX, Block
from coterie.control.doctor_peer import find_peer, peer_checks
from coterie.control.permissions import answer
from coterie.errors import AccessDenied, CoterieError, NotFound
from coterie.identity import PeerId
from coterie.node import Node
from tests.apps.circles.nodes import circles, let_in, let_in_device, people, until
from tests.support import run


def publish(
    node: Node, by: Node, person: PeerId, kind: Kind, parents: tuple[bytes, ...], **fields: Any
) -> SignedOp:
    """An operation in `home` as a modified node makes it: signed by `by` in the name of `person`, and spread."""
    book = circles(node)._book
    home = book.find("home")
    op = Op(
        circle=home.id, kind=kind, author=by.peer_id, person=person, parents=tuple(sorted(parents)), **fields
    )
    signed = sign_op(op, by._key.sign)
    home.add(signed)
    book.keep(home)
    circles(node)._writer.spread(home.id, (signed,))
    return signed


def accuse(owner: Node, victim: Node, accomplice: Node) -> None:
    """Add `victim` twice at once, as itself and as `accomplice`, which then removes the victim's computer."""
    heads = circles(owner)._book.find("home").log.heads()
    agreed = consent(victim.peer_id, accomplice.peer_id, accomplice._key.sign)
    fields = {"subject": victim.peer_id, "role": Role.MEMBER, "name": "dora"}
    first = publish(owner, owner, owner.peer_id, Kind.ADD, heads, device=victim.peer_id, **fields)
    other = publish(
        owner, owner, owner.peer_id, Kind.ADD, heads, device=accomplice.peer_id, consent=agreed, **fields
    )
    publish(
        owner,
        accomplice,
        victim.peer_id,
        Kind.REMOVE_DEVICE,
        (first.id, other.id),
        subject=victim.peer_id,
        device=victim.peer_id,
    )


def test_an_owner_of_a_circle_blocks_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "dora", "eve") as (anna, ben, dora, eve):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            async with ben.contacts.invite() as invitation:
                await dora.contacts.join(invitation.invited.ticket)
            accuse(anna, dora, eve)
            log = circles(ben)._book.find("home").log
            await until(lambda: any(signed.op.kind == Kind.REMOVE_DEVICE for signed in log.ops))
            assert circles(ben).blocked(dora.peer_id) == ""
            assert circles(ben).blocked_lines() == []
            assert (await ben.connect(dora.peer_id, dora.addresses)).peer == dora.peer_id
            (tmp_path / "letter").write_bytes(b"for dora")
            await ben.files.share(tmp_path / "letter", to=["dora"])
            assert [line.name for line in await dora.directory.look("ben")] == ["letter"]

    run(main())


def test_a_lost_computer_is_listed_explained_never_dialled_and_unblocked(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "laptop") as (anna, ben, laptop):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            async with ben.contacts.invite() as invitation:
                await laptop.contacts.join(invitation.invited.ticket)
            laptop.contacts.remove(str(ben.peer_id))
            await let_in_device(anna, laptop)
            await until(lambda: bool(circles(ben).roles_of(laptop.peer_id)))
            circles(anna).devices.remove(str(laptop.peer_id))
            await until(lambda: bool(circles(ben).blocked(laptop.peer_id)))

            (line,) = circles(ben).blocked_lines()
            assert (line.computer, line.by, line.where) == (str(laptop.peer_id), "anna", "home")
            assert line.name == "laptop"  # a contact of old
            (member,) = [m for m in circles(ben).members("home") if m.name == "anna"]
            assert member.blocked == [str(laptop.peer_id)]
            why = answer(ben, str(laptop.peer_id), "list", "files").text()
            assert "anna took it off the list of computers as lost, in home" in why
            assert f"coterie unblock {laptop.peer_id.short}" in why

            dialled: list[PeerId] = []
            assert ben.endpoint is not None
            assert ben._transport is not None
            connect = ben._transport.connect

            async def record(peer: PeerId, addresses: Any) -> Any:
                dialled.append(peer)
                return await connect(peer, addresses)

            ben._transport.connect = record  # type: ignore[method-assign]
            network = ben.peer_network(lambda *_, **__: None, ben._key.sign)
            assert network is not None
            tries = (
                ben.connect(laptop.peer_id, laptop.addresses),
                ben.endpoint.connect(laptop.peer_id, laptop.addresses),
                network.connect(laptop.peer_id, laptop.addresses),
            )
            for attempt in tries:
                with pytest.raises(AccessDenied, match="blocked"):
                    await attempt
            with pytest.raises(CoterieError):
                await ben.directory.look(str(laptop.peer_id))
            assert ben.contacts.is_contact(laptop.peer_id)
            assert laptop.peer_id not in ben.people.contacts()  # whose relays are used, and who may use ours
            assert laptop.peer_id not in network.known()
            checks = peer_checks(ben, find_peer(ben, str(laptop.peer_id)))
            assert [name for name, _ in checks] == ["blocked"]
            with pytest.raises(CoterieError):
                await laptop.connect(ben.peer_id, ben.addresses)
            assert laptop.peer_id not in dialled

            with pytest.raises(NotFound, match="coterie blocked"):
                circles(ben).unblock("nobody")
            circles(ben).unblock(laptop.peer_id.short)
            assert circles(ben).blocked_lines() == []
            assert (await ben.connect(laptop.peer_id, laptop.addresses)).peer == laptop.peer_id
            assert dialled[-1] == laptop.peer_id
        async with people(tmp_path, "ben") as (ben,):
            assert circles(ben).blocked_lines() == []  # it is kept

    run(main())


def test_a_block_ends_with_leaving_the_circle_that_carried_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "laptop") as (anna, ben, laptop):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in_device(anna, laptop)
            await until(lambda: bool(circles(ben).roles_of(laptop.peer_id)))
            circles(anna).devices.remove(str(laptop.peer_id))
            await until(lambda: bool(circles(ben).blocked(laptop.peer_id)))
            (line,) = circles(ben).blocked_lines()
            assert line.name.partition("~")[2] == str(laptop.peer_id)[:3]  # by its own word, or whose it was
            ben.contacts.remove(str(anna.peer_id))
            assert circles(ben).blocked(laptop.peer_id) != ""
            circles(ben).leave("home")
            assert circles(ben).blocked(laptop.peer_id) == ""

    run(main())


def test_undone_blocks_are_bounded_and_a_later_removal_blocks_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "laptop") as (anna, laptop):
            await let_in_device(anna, laptop)
            circles(anna).devices.remove(str(laptop.peer_id))
            circles(anna).unblock(str(laptop.peer_id))
            assert circles(anna).blocked(laptop.peer_id) == ""
            book, writer = circles(anna)._book, circles(anna)._writer
            agreed = circles(laptop)._book.consent(anna.peer_id)
            writer.write(writer.own_circle("anna"), Kind.ADD_DEVICE, device=laptop.peer_id, consent=agreed)
            circles(anna).devices.remove(str(laptop.peer_id))
            assert "coterie unblock" in circles(anna).blocked(laptop.peer_id)
            for number in range(UNBLOCKED_MAX + 1):
                peer = PeerId(number.to_bytes(32, "big"))
                book.identity.unblocked[bytes(peer)] = [b"1"]
            book.unblock(Block(laptop.peer_id, "anna", "home", LostComputer(anna.peer_id, (b"2",), 0)))
            assert len(book.identity.unblocked) == UNBLOCKED_MAX
            assert bytes(laptop.peer_id) in book.identity.unblocked

    run(main())
