"""Whole nodes that write to each other over the memory network."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.access.people import Source
from coterie.access.policy import Standing
from coterie.apps.app import App
from coterie.errors import AccessDenied, CloseCode, LimitExceeded, PeerError, StorageError, UsageError
from coterie.identity import PeerId, SecretKey, load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.services.mail import box, limits
from coterie.services.mail.messages import PROTOCOL, Letter
from coterie.services.mail.sealing import Seals
from coterie.services.mail.signed import LETTER_CONTEXT, RECEIPT_CONTEXT
from tests.services.mail.letters import Letters, letters
from tests.support import run

APPS = ("contacts", letters())


@contextlib.asynccontextmanager
async def node(network: MemoryNetwork, home: Path, *apps: App) -> AsyncIterator[Node]:
    home.mkdir(mode=0o700, exist_ok=True)
    key = load_or_create_key(home / "key")
    async with Node.open(
        home, transport=network.bind(key.peer_id), apps=["contacts", *(apps or APPS[1:])]
    ) as one:
        yield one


@contextlib.asynccontextmanager
async def friends(folder: Path, *apps: App) -> AsyncIterator[tuple[Node, Node]]:
    """anna and ben, who know each other."""
    network = MemoryNetwork()
    async with node(network, folder / "anna", *apps) as anna, node(network, folder / "ben", *apps) as ben:
        async with anna.contacts.invite() as invitation:
            await ben.contacts.join(invitation.invited.ticket)
        yield anna, ben


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await holds()):
            await asyncio.sleep(0.01)
        return found


async def has(app: Letters, count: int) -> list[str]:
    """What the app got, once it is `count` letters."""

    async def whole() -> list[str]:
        got = await app.got()
        return got if len(got) >= count else []

    return await until(whole)  # type: ignore[no-any-return]


async def ended(app: Letters, count: int) -> None:
    async def all_of_them() -> bool:
        return len(app.ended) >= count

    await until(all_of_them)


def test_letters_arrive_in_order_and_their_sender_hears_of_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with friends(tmp_path) as (anna, ben):
            for number in range(100):
                await anna.letters.send(ben.peer_id, str(number))
            await ben.letters.send(anna.peer_id, "back")
            assert await has(ben.letters, 100) == [str(number) for number in range(100)]
            assert await has(anna.letters, 1) == ["back"]
            await ended(anna.letters, 100)
            assert all(e.is_taken for e in anna.letters.ended)
            assert "0 letters" in anna.status().apps["letters"]["mail"]

    run(check())


def test_letters_outlive_restarts_and_absence(tmp_path: Path) -> None:
    """Written while the other is away, in a node that is offline, before a restart: all arrive, once and in order."""

    async def check() -> None:
        async with friends(tmp_path) as (anna, ben):
            to = ben.peer_id
            await anna.letters.send(to, "1")
            await has(ben.letters, 1)
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna") as anna:
            await anna.letters.send(to, "2")
            assert "1 letters" in anna.status().apps["letters"]["mail"]
        async with Node.open(tmp_path / "anna", offline=True, apps=APPS) as anna:
            await anna.letters.send(to, "3")
        async with node(network, tmp_path / "ben") as ben, node(network, tmp_path / "anna") as anna:
            await ben.connect(anna.peer_id, anna.addresses)
            assert await has(ben.letters, 3) == ["1", "2", "3"]

    run(check())


def test_a_computer_that_comes_back_before_it_was_missed_gets_its_letters_at_once(tmp_path: Path) -> None:
    """It vanished without a word: a new connection takes the place of one that still seems to be there."""

    async def check() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna") as anna:
            async with node(network, tmp_path / "ben") as ben:
                async with anna.contacts.invite() as invitation:
                    await ben.contacts.join(invitation.invited.ticket)
                await anna.letters.send(ben.peer_id, "1")
                await has(ben.letters, 1)
                ben._transport.vanish()  # type: ignore[union-attr]
                await anna.letters.send(ben.peer_id, "2")
                to = ben.peer_id
            async with node(network, tmp_path / "ben") as ben:
                assert to in [c.peer for c in anna.endpoint.connections]  # type: ignore[union-attr]
                await ben.connect(anna.peer_id, anna.addresses)
                assert await has(ben.letters, 2) == ["1", "2"]

    run(check())


def test_an_app_that_does_not_take_letters_gets_them_later(tmp_path: Path) -> None:
    async def check() -> None:
        async with friends(tmp_path, letters(is_taking=False)) as (anna, ben):
            await anna.letters.send(ben.peer_id, "early")
            assert await ben.letters.got() == []
        network = MemoryNetwork()
        async with node(network, tmp_path / "ben") as ben, node(network, tmp_path / "anna") as anna:
            await anna.connect(ben.peer_id, ben.addresses)
            assert await has(ben.letters, 1) == ["early"]

    run(check())


def test_apps_have_letters_of_their_own(tmp_path: Path) -> None:
    async def check() -> None:
        async with friends(tmp_path, letters("one"), letters("other")) as (anna, ben):
            await anna.one.send(ben.peer_id, "for one")
            await anna.other.send(ben.peer_id, "for the other")
            assert await has(ben.one, 1) == ["for one"]
            assert await has(ben.other, 1) == ["for the other"]

    run(check())


def test_who_does_not_use_mail_has_none_of_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with Node.open(tmp_path / "home", apps=["contacts"], transport=_transport(tmp_path)) as one:
            assert one.endpoint is not None
            assert "mail" not in one.endpoint.protocols
            assert "mail" not in one.status().apps["contacts"]
        assert not list((tmp_path / "home").rglob("mail.db"))

    run(check())


def _transport(folder: Path) -> Any:
    (folder / "home").mkdir(mode=0o700)
    return MemoryNetwork().bind(load_or_create_key(folder / "home" / "key").peer_id)


def test_strangers_are_served_no_mail(tmp_path: Path) -> None:
    async def check() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna") as anna, node(network, tmp_path / "eve") as eve:
            link = await eve.connect(anna.peer_id, anna.addresses)
            with pytest.raises(PeerError) as refused:
                await link.open_stream(PROTOCOL)
            assert refused.value.close_code == CloseCode.REFUSED

    run(check())


def test_a_contact_brings_letters_of_known_senders_only(tmp_path: Path) -> None:
    """A carrier: what it brings of ben is taken, what it brings of a stranger is not, nor what is damaged."""

    async def check() -> None:
        async with friends(tmp_path) as (anna, ben):
            assert anna.endpoint is not None
            letter = Letter("letters", "", False, b"e" * 8, 1, 1, 0, 0, b"of a stranger")
            expires = 2_000_000_000
            of_stranger = Seals(SecretKey(b"s" * 32)).seal(letter, anna.peer_id, b"i" * 16, expires)
            (key,) = [load_or_create_key(tmp_path / "ben" / "key")]
            of_ben = Seals(key).seal(
                Letter("letters", "", False, b"e" * 8, 1, 1, 0, 0, b"of ben"),
                anna.peer_id,
                b"j" * 16,
                expires,
            )
            damaged = Seals(key).seal(letter, ben.peer_id, b"k" * 16, expires)
            link = await ben.connect(anna.peer_id, anna.addresses)
            async with await link.open_stream(PROTOCOL) as stream:
                for envelope in (of_stranger, damaged, of_ben, of_ben):
                    await stream.send(envelope)
            assert await has(anna.letters, 1) == ["of ben"]

    run(check())


def test_what_cannot_be_sent_is_said(tmp_path: Path) -> None:
    async def check() -> None:
        async with friends(tmp_path) as (anna, ben):
            mail = anna.letters.context.mail
            with pytest.raises(UsageError, match="send the name of content"):
                await mail.send(ben.peer_id, bytes(limits.BODY_BYTES_MAX + 1))
            with pytest.raises(UsageError, match="30 days"):
                await mail.send(ben.peer_id, b"", lasts_s=limits.LIFETIME_MAX_S + 1)
            with pytest.raises(UsageError, match="characters"):
                await mail.send(ben.peer_id, b"", stream="s" * (limits.NAME_CHARS_MAX + 1))
            with pytest.raises(UsageError, match="this very computer"):
                await mail.send(anna.peer_id, b"")
            await mail.send(ben.peer_id, bytes(limits.BODY_BYTES_MAX), stream="s" * limits.NAME_CHARS_MAX)

    run(check())


def test_a_damaged_file_is_told_to_the_owner_and_the_app_goes_on(tmp_path: Path) -> None:
    async def check() -> None:
        folder = tmp_path / "anna" / "apps" / "letters"
        folder.mkdir(mode=0o700, parents=True)
        (folder / "mail.db").write_bytes(b"no database" * 1_000)
        async with node(MemoryNetwork(), tmp_path / "anna") as anna:
            assert await anna.letters.got() == []
            assert any("was damaged" in notice.said for notice in anna.notices.all())

    run(check())


def test_posts_that_wait_for_the_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "POSTS_MAX", 3)

    async def check() -> None:
        async with friends(tmp_path) as (anna, ben):
            said = await asyncio.gather(
                *(anna.letters.send(ben.peer_id, str(n)) for n in range(4)), return_exceptions=True
            )
            assert [type(s) for s in said] == [bytes, bytes, bytes, LimitExceeded]

    run(check())


def test_a_disk_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        (tmp_path / "anna" / "apps" / "letters").mkdir(mode=0o700, parents=True)
        (tmp_path / "anna" / "apps" / "letters" / "mail.db").mkdir()
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna") as anna:
            with pytest.raises(StorageError, match=r"mail\.db cannot be used"):
                await anna.letters.send(PeerId(bytes(32)), "lost?")
            with pytest.raises(StorageError):
                await anna.letters.send(PeerId(bytes(32)), "at once")
            assert "stopped" in anna.status().apps["letters"]["mail"]
            assert any("letters: mail" in trouble for trouble in anna.troubles())

    run(check())


@pytest.mark.parametrize(("copies", "total"), [("each", 2), ("first", 1), ("this", 1)])
def test_a_person_with_two_computers(tmp_path: Path, copies: Any, total: int) -> None:
    async def check() -> None:
        network = MemoryNetwork()
        async with contextlib.AsyncExitStack() as stack:
            anna, ben, ben2 = [
                await stack.enter_async_context(node(network, tmp_path / name))
                for name in ("anna", "ben", "ben2")
            ]
            both = {ben.peer_id: "ben", ben2.peer_id: "ben"}
            anna.people.register(_person(both, ben.peer_id))
            for other in (ben, ben2):
                other.people.register(_person({anna.peer_id: "anna"}, anna.peer_id))
                await anna.connect(other.peer_id, other.addresses)
            for number in range(5):
                await anna.letters.send(ben2.peer_id, str(number), copies=copies)
            await ended(anna.letters, 5 * total)
            got = [*await ben.letters.got(), *await ben2.letters.got()]
            assert sorted(got) == sorted(str(n) for n in range(5) for _ in range(total))
            assert "0 letters" in anna.status().apps["letters"]["mail"]

    run(check())


def _person(names: dict[PeerId, str], person: PeerId) -> Source:
    return Source(
        of="test",
        names=lambda: names,
        standing=lambda peer: Standing(contact=peer in names, persons=(person,) if peer in names else ()),
    )


@pytest.mark.parametrize("context", [LETTER_CONTEXT, RECEIPT_CONTEXT])
def test_no_app_signs_letters_or_receipts(tmp_path: Path, context: bytes) -> None:
    greedy = App(name="greedy", summary="", create=Letters, commands="", signs=(context,))

    async def check() -> None:
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna", greedy, letters()) as anna:
            (state,) = [state for state in anna.host.states() if state.name == "greedy"]
            assert state.state == "failed"
            assert "what the node signs" in state.reason
            with pytest.raises(AccessDenied):
                anna.letters.context.me.sign(context + b"anything")

    run(check())


def test_letters_of_both_lives_of_a_home_arrive_once(tmp_path: Path) -> None:
    """It was restored from a backup, and then runs again where it ran: numbers of letters are used once."""
    network, backup = MemoryNetwork(), tmp_path / "backup"

    async def live(home: Path, ben: Node, *texts: str) -> None:
        async with node(network, home) as anna:
            app: Letters = anna.service("letters")
            for text in texts:
                await app.send(ben.peer_id, text)
            await ended(app, len(texts))
            assert all(one.is_taken for one in app.ended), app.ended

    async def check() -> None:
        async with node(network, tmp_path / "ben") as ben:
            async with node(network, tmp_path / "anna") as anna, anna.contacts.invite() as invitation:
                await ben.contacts.join(invitation.invited.ticket)
            await live(tmp_path / "anna", ben, "before")
            shutil.copytree(tmp_path / "anna", backup)
            await live(tmp_path / "anna", ben, "a1", "a2", "a3")
            await live(backup, ben, "b1", "b2")
            await live(tmp_path / "anna", ben, "a4")
            await live(backup, ben, "b3", "b4", "b5")
            got = await has(ben.service("letters"), 10)
            assert got == ["before", "a1", "a2", "a3", "b1", "b2", "a4", "b3", "b4", "b5"]

    run(check())


def test_who_appears_on_the_network_is_dialled_at_once_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        ben, eve = (SecretKey(bytes([number]) * 32).peer_id for number in (1, 2))
        async with node(network, tmp_path / "anna") as anna:
            room, present, dialled = anna.mail_room(), set[PeerId](), list[PeerId]()
            monkeypatch.setattr(room, "dial", dialled.append)
            anna.people.watch_presence(lambda: present)
            await anna.service("letters").send(ben, "while you were away")
            dialled.clear()  # at once, because of the letter
            room.look()
            assert dialled == []
            present |= {ben, eve}  # for eve there is no letter
            room.look()
            room.look()
            assert dialled == [ben]
            present.clear()
            room.look()
            present.add(ben)
            room.look()
            assert dialled == [ben, ben]

    run(play())
