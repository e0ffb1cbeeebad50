"""Readable places: each peer sees what is shared with it, gets any part of that, and nothing else."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from coterie.access.grant import issue
from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.access.terms import Terms
from coterie.apps.files.places_messages import (
    ENTRIES_MAX,
    PATH_BYTES_MAX,
    PLACES,
    List,
    Listed,
    Locate,
    NotThere,
)
from coterie.apps.grants.service import Wanted
from coterie.errors import CoterieError, NotFound, PeerError, UsageError
from coterie.identity import load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.services.directory.results import PlaceLine
from coterie.wire import Ticket
from tests.apps.files.nodes import memory_node, opening, tree_of
from tests.support import run

BIG = random.Random(1).randbytes(8_000_000)  # 50 chunks: a manifest of its own


@contextlib.asynccontextmanager
async def three(folder: Path) -> AsyncIterator[tuple[Node, Node, Node]]:
    """anna, who shares; ben, her contact; eve, whom she does not know but who knows where she is."""
    network = MemoryNetwork()
    async with (
        memory_node(network, folder / "home-anna") as anna,
        memory_node(network, folder / "home-ben") as ben,
        memory_node(network, folder / "home-eve") as eve,
    ):
        for guest, name in ((ben, "ben"), (eve, "eve")):
            async with anna.contacts.invite() as invitation:
                await guest.contacts.join(invitation.invited.ticket)
            anna.contacts.rename(str(guest.peer_id), name)
            guest.contacts.rename(str(anna.peer_id), "anna")
        anna.contacts.remove("eve")
        yield anna, ben, eve


def photos(folder: Path) -> Path:
    """photos with 2023 and 2024, small and large files."""
    root = folder / "photos"
    (root / "2024" / "summer").mkdir(parents=True)
    (root / "2023").mkdir()
    (root / "2023" / "old.jpg").write_bytes(b"old")
    (root / "2024" / "a.jpg").write_bytes(b"small")
    (root / "2024" / "big.mov").write_bytes(BIG)
    (root / "2024" / "summer" / "b.jpg").write_bytes(b"nested")
    (root / "readme").write_bytes(b"")
    return root


def names(lines: Sequence[PlaceLine]) -> list[str]:
    return [line.name for line in lines]


def test_people_shares_folders_and_files_are_listed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            await anna.files.share(photos(tmp_path), to=["ben"])
            assert names(await ben.directory.look()) == ["anna"]
            assert names(await ben.directory.look("anna")) == ["photos"]
            lines = await ben.directory.look("anna/photos")
            assert [(line.name, line.kind) for line in lines] == [
                ("2023", "folder"),
                ("2024", "folder"),
                ("readme", "file"),
            ]
            assert lines[1].files == 3
            assert names(await ben.directory.look("anna/photos/2024")) == ["a.jpg", "big.mov", "summer"]
            assert names(await ben.directory.look("anna/photos/2024/a.jpg")) == ["a.jpg"]
            with pytest.raises(NotFound, match="not shared with this computer"):
                await ben.directory.look("anna/photos/2025")

    run(scene())


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("anna/photos", "photos"),
        ("anna/photos/2024", "2024"),
        ("anna/photos/2024/summer", "summer"),
        ("anna/photos/2024/a.jpg", "a.jpg"),
        ("anna/photos/2024/big.mov", "big.mov"),
        ("anna/photos/readme", "readme"),
    ],
)
def test_any_part_of_a_share_can_be_fetched_alone(tmp_path: Path, place: str, expected: str) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            root = photos(tmp_path)
            await anna.files.share(root, to=["contacts"])
            target = tmp_path / "target"
            target.mkdir()
            received = await ben.files.get_place(place, target)
            assert Path(received.path) == target / expected
            source = root / place.removeprefix("anna/photos").strip("/")
            if source.is_dir():
                assert tree_of(source) == tree_of(target / expected)
                assert source.stat().st_mtime_ns == (target / expected).stat().st_mtime_ns
            else:
                assert source.read_bytes() == (target / expected).read_bytes()
                assert source.stat().st_mtime_ns == (target / expected).stat().st_mtime_ns

    run(scene())


def test_a_stranger_sees_nothing_and_gets_the_same_answer_for_everything(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, _, eve):
            await anna.files.share(photos(tmp_path), to=["contacts"])
            assert await eve.directory.look("anna") == []
            link = await eve.connect(anna.peer_id, anna.addresses)
            async with await link.open_stream(PLACES) as stream:
                for path in ("photos", "nothing", "photos/2024", "photos/nothing", "..", "photos/..", "\0"):
                    for question in (List(path), Locate(path)):
                        await stream.send(question)
                        assert await stream.receive(5.0) == NotThere(), path

    run(scene())


def test_what_is_for_one_is_not_for_another(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, eve):
            for name, to in (("public", ["anyone"]), ("for-ben", ["ben"]), ("by-ticket", [])):
                (tmp_path / name).write_text(name)
                await anna.files.share(tmp_path / name, to=to)
            assert names(await ben.directory.look("anna")) == ["for-ben", "public"]
            assert names(await eve.directory.look("anna")) == ["public"]
            with pytest.raises(NotFound):
                await eve.files.get_place("anna/for-ben", tmp_path / "stolen")
            shown = {line.name: line.to for line in await anna.files.shares()}
            assert shown == {"public": ["anyone"], "for-ben": ["ben"], "by-ticket": ["ticket"]}

    run(scene())


def test_a_secret_for_one_peer_is_of_no_use_to_another(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, eve):
            async with anna.contacts.invite() as invitation:
                await eve.contacts.join(invitation.invited.ticket)
            await anna.files.share(photos(tmp_path), to=["contacts"])
            for place in ("photos", "photos/2024"):
                assert await eve.files.locate(f"{anna.peer_id}/{place}")
                of_ben = await ben.files.locate(f"anna/{place}")
                with pytest.raises(NotFound):
                    await eve.files.get(Ticket(of_ben.kind, anna.peer_id, of_ben.content_id, of_ben.secret))

    run(scene())


def test_a_ticket_is_no_right_where_the_share_is_not_for_ticket_holders(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, _, eve):
            shared = await anna.files.share(photos(tmp_path), to=["ben"])
            with pytest.raises(NotFound):
                await eve.files.get(shared.ticket, tmp_path / "stolen")
            both = await anna.files.share(photos_again := tmp_path / "photos", to=["ben", "ticket"])
            assert photos_again.is_dir()
            assert (await eve.files.get(both.ticket, tmp_path / "given")).files == 5

    run(scene())


def test_what_was_shared_with_somebody_stays_so_when_it_is_shared_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            root = photos(tmp_path)
            await anna.files.share(root, to=["ben"])
            (root / "new.jpg").write_bytes(b"new")
            await anna.files.share(root)
            assert names(await ben.directory.look("anna")) == ["photos"]
            assert "new.jpg" in names(await ben.directory.look("anna/photos"))

    run(scene())


def test_a_share_named_like_another_with_its_mark_is_not_got_in_its_place(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _eve):
            for folder in ("one", "two"):
                (tmp_path / folder).mkdir()
                (tmp_path / folder / "notes").write_text(folder)
                await anna.files.share(tmp_path / folder / "notes", to=["ben"])
            imitated = names(await ben.directory.look("anna"))[0]
            (tmp_path / "other").write_text("imitation")
            await anna.files.share(tmp_path / "other", name=imitated, to=["ben"])
            seen = names(await ben.directory.look("anna"))
            assert len(set(seen)) == 3
            received = await ben.files.get_place(f"anna/{imitated}", tmp_path / "got")
            assert Path(received.path).read_text() in ("one", "two")

    run(scene())


def test_two_shares_of_one_name_are_both_reachable(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _eve):
            for folder, text in (("one", "first"), ("two", "second")):
                (tmp_path / folder).mkdir()
                (tmp_path / folder / "notes").write_text(text)
                await anna.files.share(tmp_path / folder / "notes", to=["ben"])
            seen = names(await ben.directory.look("anna"))
            assert len(set(seen)) == 2
            assert all(name.startswith("notes~") for name in seen)
            texts = set()
            for name in seen:
                received = await ben.files.get_place(f"anna/{name}", tmp_path / f"got-{name}")
                texts.add(Path(received.path).read_text())
            assert texts == {"first", "second"}

    run(scene())


def test_a_grant_for_a_folder_opens_that_folder_and_nothing_beside(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, _ben, eve):
            shared = await anna.files.share(photos(tmp_path), to=["ben"])
            grant = issue(
                load_or_create_key(tmp_path / "home-anna" / "key"),
                eve.peer_id,
                f"files/{shared.id}/2024",
                Verb.LIST | Verb.READ,
                terms=Terms(expires=int(anna.access.now) + 3_600),
                nonce=bytes(8),
            )
            anna.access.policy.accept(grant, eve.peer_id, anna.access.now)
            assert names(await eve.directory.look("anna")) == ["photos/2024"]
            assert names(await eve.directory.look("anna/photos/2024")) == ["a.jpg", "big.mov", "summer"]
            received = await eve.files.get_place("anna/photos/2024", tmp_path / "got")
            assert tree_of(tmp_path / "photos" / "2024") == tree_of(Path(received.path))
            for beside in ("anna/photos", "anna/photos/2023", "anna/photos/2023/old.jpg"):
                with pytest.raises(NotFound):
                    await eve.files.get_place(beside, tmp_path / "stolen")
            ticket = await eve.files.locate("anna/photos/2024")
            await _asks_for_more(eve, anna, ticket, Ticket.parse(shared.ticket).content_id)

    run(scene())


def test_what_was_granted_to_be_read_only_opens_for_who_knows_its_name(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, _ben, eve):
            await anna.files.share(photos(tmp_path), to=["ben"])
            grant = anna.grants.give(str(eve.peer_id), "read", "files/photos/2024", Wanted(604_800))
            await eve.grants.accept(grant.grant)
            assert await eve.directory.look("anna") == []
            with pytest.raises(NotFound):
                await eve.directory.look("anna/photos/2024")
            received = await eve.files.get_place("anna/photos/2024", tmp_path / "got")
            assert tree_of(tmp_path / "photos" / "2024") == tree_of(Path(received.path))
            for beside in ("anna/photos", "anna/photos/2023"):
                with pytest.raises(NotFound):
                    await eve.files.get_place(beside, tmp_path / "stolen")

    run(scene())


async def _asks_for_more(eve: Node, anna: Node, ticket: Ticket, beside: bytes) -> None:
    """With an open session about 2024, eve asks for the manifest and the chunks of the whole."""
    from coterie.errors import CloseCode
    from coterie.transfer.messages import PROTOCOL, GetChunks, GetManifest, NoManifest, Opened

    link = await eve.connect(anna.peer_id, anna.addresses)
    stream = await link.open_stream(PROTOCOL)
    await stream.send(opening(ticket, eve.peer_id))
    assert isinstance(await stream.receive(5.0), Opened)
    await stream.send(GetManifest(beside))
    assert await stream.receive(5.0) == NoManifest(beside)
    await stream.send(GetChunks(beside, 0, 1))
    with pytest.raises(PeerError) as refused:
        await stream.receive(5.0)
    assert refused.value.close_code == CloseCode.REFUSED
    await stream.reset()


def test_long_folders_come_in_pages(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            (tmp_path / "many").mkdir()
            wanted = [f"{number:05}" for number in range(2 * ENTRIES_MAX + 7)]
            for name in wanted:
                (tmp_path / "many" / name).write_bytes(b"")
            await anna.files.share(tmp_path / "many", to=["ben"])
            assert names(await ben.directory.look("anna/many")) == wanted
            link = await ben.connect(anna.peer_id, anna.addresses)
            async with await link.open_stream(PLACES) as stream:
                await stream.send(List("many"))
                answer = await stream.receive(5.0)
                assert isinstance(answer, Listed)
                assert (len(answer.entries), answer.more) == (ENTRIES_MAX, True)
                await stream.send(List("many/" + "x" * PATH_BYTES_MAX))
                assert await stream.receive(5.0) == NotThere()

    run(scene())


def test_places_that_are_none_are_told_in_words(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (_, ben, _eve):
            with pytest.raises(NotFound, match="nobody called 'carl'"):
                await ben.directory.look("carl")
            with pytest.raises(UsageError, match="say what of it"):
                await ben.files.locate("anna/")
            with pytest.raises(NotFound, match="no circle and nobody known"):
                await ben.files.share(tmp_path, to=["the-moon"])

    run(scene())


def test_the_end_of_a_share_ends_what_is_being_fetched(tmp_path: Path) -> None:
    """A running transfer of a contact stops within 5 s of its removal, and does not start again."""

    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            (tmp_path / "film").write_bytes(b"x" * (64 << 20))
            shared = await anna.files.share(tmp_path / "film", to=["contacts"])
            # A quarter of a MB a second: what is left when the contact is removed would take minutes.
            grant_rate(anna, ben, shared.id, 256 << 10)
            anna.access.policy.withdraw(f"files/{shared.id}")
            task = asyncio.ensure_future(ben.files.get_place("anna/film", tmp_path / "got"))
            while anna.files.server.sent_bytes < 1 << 20:
                await asyncio.sleep(0.05)
                assert not task.done()
            began = asyncio.get_running_loop().time()
            anna.access.policy.revocations.add(revocation_of(anna, tmp_path), anna.access.now)
            anna.access.changed()
            with pytest.raises(CoterieError) as ended:
                await asyncio.wait_for(asyncio.shield(task), 5.0)
            assert isinstance(ended.value, PeerError | NotFound)
            assert asyncio.get_running_loop().time() - began < 5.0
            assert not (tmp_path / "got").exists()

    def grant_rate(anna: Node, ben: Node, share: str, rate: int) -> None:
        key = load_or_create_key(tmp_path / "home-anna" / "key")
        terms = Terms(expires=int(anna.access.now) + 3_600, rate_bytes_s=rate)
        grant = issue(key, ben.peer_id, f"files/{share}", Verb.LIST | Verb.READ, terms=terms, nonce=bytes(8))
        anna.access.policy.accept(grant, ben.peer_id, anna.access.now)
        made.append(grant.id)

    def revocation_of(anna: Node, folder: Path):  # type: ignore[no-untyped-def]
        from coterie.access.revocation import revoke

        key = load_or_create_key(folder / "home-anna" / "key")
        return revoke(key, made[0], int(anna.access.now) + 3_600)

    made: list[bytes] = []
    run(scene())


def test_subjects_are_the_peers_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with three(tmp_path) as (anna, ben, _):
            await anna.files.share(photos(tmp_path), to=["ben"])
            assert of_peer(ben.peer_id) in anna.access.policy.rules()

    run(scene())
