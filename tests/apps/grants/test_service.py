"""Grants between whole nodes: given, used, passed on, taken back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.access.grant import attenuate
from coterie.access.grant_text import GrantText
from coterie.access.revocation import revoke
from coterie.apps.grants import service, table
from coterie.apps.grants.messages import PROTOCOL, Gave, Present, Revoked, Taken
from coterie.apps.grants.results import GrantGiven
from coterie.apps.grants.service import GrantsService, Wanted
from coterie.errors import AccessDenied, CloseCode, CoterieError, NotFound, PeerError, UsageError
from coterie.identity import SecretKey
from coterie.net import Endpoint, MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import memory_node
from tests.support import run, watch_steps

WEEK = Wanted(lasting_s=604_800)


class Scene:
    """anna shares photos with nobody; ben is her contact and carl is his; anna does not know carl."""

    def __init__(self, network: MemoryNetwork, anna: Node, ben: Node, carl: Node, share: str) -> None:
        self.network, self.anna, self.ben, self.carl, self.share = network, anna, ben, carl, share

    @staticmethod
    def grants(node: Node) -> GrantsService:
        service: GrantsService = node.service("grants")
        return service

    def give(self, peer: str, wanted: Wanted = WEEK, resource: str = "files/photos") -> GrantGiven:
        return self.grants(self.anna).give(peer, "list,read", resource, wanted)


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    network = MemoryNetwork()
    root = folder / "photos"
    (root / "2024").mkdir(parents=True)
    (root / "2024" / "a.jpg").write_bytes(b"a" * 1_000)
    (root / "b.jpg").write_bytes(b"b" * 1_000)
    async with (
        memory_node(network, folder / "home-anna") as anna,
        memory_node(network, folder / "home-ben") as ben,
        memory_node(network, folder / "home-carl") as carl,
    ):
        for host, guest, names in ((anna, ben, ("anna", "ben")), (ben, carl, ("ben", "carl"))):
            async with host.contacts.invite() as invitation:
                await guest.contacts.join(invitation.invited.ticket)
            host.contacts.rename(str(guest.peer_id), names[1])
            guest.contacts.rename(str(host.peer_id), names[0])
        shared = await anna.files.share(root)
        yield Scene(network, anna, ben, carl, shared.id)


async def sees(node: Node, whose: Node, place: str = "photos") -> list[str]:
    return [line.name for line in await node.directory.look(f"{whose.peer_id}/{place}")]


async def until(check, what: str) -> None:  # type: ignore[no-untyped-def]
    """Other nodes hear of things in their own time; a bounded wait."""
    async with asyncio.timeout(5.0):
        while not check():
            await asyncio.sleep(0.01)


def test_a_grant_to_a_contact_holds_at_once_and_until_it_is_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            with pytest.raises(NotFound):
                await sees(s.ben, s.anna)
            given = s.give("ben")
            assert not given.needs_handing_over
            assert "ben may list, read files/photos until" in given.text()
            assert await sees(s.ben, s.anna) == ["2024", "b.jpg"]
            received = await s.ben.files.get_place(f"{s.anna.peer_id}/photos/b.jpg", tmp_path / "got")
            assert Path(received.path).read_bytes() == b"b" * 1_000
            assert [(line.role, line.state) for line in s.grants(s.anna).lines()] == [("given", "valid")]
            assert "Revoked" in s.grants(s.anna).revoke(given.id).text()
            with pytest.raises(NotFound):
                await sees(s.ben, s.anna)
            assert s.grants(s.anna).lines()[0].state == "revoked"

    run(main())


def test_a_bearer_grant_is_for_whoever_has_the_text_and_a_stranger_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            given = s.give("bearer", resource="files/photos/2024")
            assert given.needs_handing_over
            assert f"`coterie revoke {given.id}` takes it back" in given.text()
            assert [line.peer for line in s.grants(s.anna).lines()] == ["bearer"]
            said = await s.grants(s.carl).accept(given.grant)
            assert "lets this computer list, read" in said.text()
            assert f"`coterie ls {s.anna.peer_id}`" in said.text()
            assert await sees(s.carl, s.anna, "photos/2024") == ["a.jpg"]
            with pytest.raises(NotFound):
                await sees(s.carl, s.anna)
            s.grants(s.anna).revoke(given.id)
            with pytest.raises(NotFound):
                await sees(s.carl, s.anna, "photos/2024")

    run(main())


def test_what_is_passed_on_is_less_and_falls_with_what_it_came_from(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            whole = s.give("ben", Wanted(lasting_s=604_800, pass_on=1))
            assert (
                f"coterie grant accept {whole.grant}" in whole.text()
            )  # ben passes on what he has the text of
            ben = s.grants(s.ben)
            await ben.accept(whole.grant)
            held = next(line for line in ben.lines() if line.role == "held")
            with pytest.raises(UsageError, match="never more"):
                ben.pass_on(held.id, "carl", Wanted(lasting_s=8 * 86_400))
            part = ben.pass_on(held.id, "carl", Wanted(lasting_s=86_400), resource=f"files/{s.share}/2024")
            await s.grants(s.carl).accept(part.grant)
            assert await sees(s.carl, s.anna, "photos/2024") == ["a.jpg"]
            s.grants(s.anna).revoke(whole.id)
            with pytest.raises(NotFound):
                await sees(s.carl, s.anna, "photos/2024")

    run(main())


def test_who_passed_on_takes_back_and_the_issuer_hears_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            whole = s.give("ben", Wanted(lasting_s=604_800, pass_on=1))
            ben = s.grants(s.ben)
            await ben.accept(whole.grant)
            part = ben.pass_on(ben.lines()[0].id, "carl", Wanted(lasting_s=86_400))
            await s.grants(s.carl).accept(part.grant)
            assert await sees(s.carl, s.anna) == ["2024", "b.jpg"]
            ben.revoke(part.id)
            await until(lambda: len(s.anna.access.policy.revocations) == 1, "the revocation at anna's")
            with pytest.raises(NotFound):
                await sees(s.carl, s.anna)
            assert await sees(s.ben, s.anna) == ["2024", "b.jpg"]

    run(main())


def test_what_was_revoked_offline_is_told_at_meeting(tmp_path: Path) -> None:
    """Ben takes back while anna is not reached; she hears of it when the two meet."""

    async def main() -> None:
        async with scene(tmp_path) as s:
            whole = s.give("ben", Wanted(lasting_s=604_800, pass_on=1))
            ben = s.grants(s.ben)
            await ben.accept(whole.grant)
            part = ben.pass_on(ben.lines()[0].id, "carl", Wanted(lasting_s=86_400))
            await s.grants(s.carl).accept(part.grant)
            link = await s.ben.connect(s.anna.peer_id)
            link.close(CloseCode.NORMAL)
            await link.closed()
            await until(
                lambda: (
                    s.ben.endpoint and not any(c.peer == s.anna.peer_id for c in s.ben.endpoint.connections)
                ),
                "",
            )
            network_down = s.ben.reach.connect
            s.ben.reach.connect = _nobody  # type: ignore[assignment,union-attr,method-assign]
            ben.revoke(part.id)
            await asyncio.sleep(0.1)
            assert len(s.anna.access.policy.revocations) == 0
            s.ben.reach.connect = network_down  # type: ignore[method-assign,union-attr]
            await s.ben.connect(s.anna.peer_id)
            await until(lambda: len(s.anna.access.policy.revocations) == 1, "the revocation at anna's")

    run(main())


def test_an_issuer_who_was_away_gets_a_letter_of_what_was_taken_back(tmp_path: Path) -> None:
    """Nobody connects the two by hand, and ben was started anew since."""

    async def main() -> None:
        async with scene(tmp_path) as s:
            whole = s.give("ben", Wanted(lasting_s=604_800, pass_on=1))
            await s.grants(s.ben).accept(whole.grant)
            part = s.grants(s.ben).pass_on(s.grants(s.ben).lines()[0].id, "carl", Wanted(lasting_s=86_400))
            await s.grants(s.carl).accept(part.grant)
            network = s.network
        async with memory_node(network, tmp_path / "home-ben") as ben:
            ben.service("grants").revoke(part.id)
            await until(lambda: "1 letters" in _mail(ben), "a letter for anna")
        async with (
            memory_node(network, tmp_path / "home-anna") as anna,
            memory_node(network, tmp_path / "home-ben") as ben,
        ):
            await until(lambda: len(anna.access.policy.revocations) == 1, "the revocation at anna's")
            await until(lambda: "0 letters" in _mail(ben), "the receipt")

    run(main())


def _mail(node: Node) -> str:
    return str(node.service("grants")._context.mail.status().get("mail", ""))


async def _nobody(*_: object) -> None:
    raise PeerError("nobody is there")


def test_grants_and_revocations_survive_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        (tmp_path / "notes").write_text("hello")
        async with memory_node(network, tmp_path / "home-ben") as ben:
            ids = []
            async with memory_node(network, tmp_path / "home-anna") as anna:
                await anna.files.share(tmp_path / "notes")
                for _ in range(2):
                    given = anna.service("grants").give(str(ben.peer_id), "list,read", "files/notes", WEEK)
                    ids.append(given.id)
                anna.service("grants").revoke(ids[0])
            async with memory_node(network, tmp_path / "home-anna") as anna:
                link = await ben.connect(anna.peer_id, anna.addresses)
                assert link
                assert await sees(ben, anna, "notes") == ["notes"]
                anna.service("grants").revoke(ids[1])
                with pytest.raises(NotFound):
                    await sees(ben, anna, "notes")
            async with memory_node(network, tmp_path / "home-anna") as anna:
                assert [line.state for line in anna.service("grants").lines()] == ["revoked", "revoked"]
                await ben.connect(anna.peer_id, anna.addresses)
                with pytest.raises(NotFound):
                    await sees(ben, anna, "notes")

    run(main())


def test_a_stolen_grant_is_of_no_use(tmp_path: Path) -> None:
    """Carl has the text of ben's grant. Nothing he does with it opens anything."""

    async def main() -> None:
        async with scene(tmp_path) as s:
            bens = GrantText.parse(s.give("ben").grant)
            with pytest.raises(UsageError, match="not for this computer"):
                await s.grants(s.carl).accept(str(bens))
            link = await s.carl.connect(s.anna.peer_id, s.anna.addresses)
            async with await link.open_stream(PROTOCOL) as stream:
                for raw in (bens.grant.raw, b"noise", b""):
                    await stream.send(Present(raw))
                    assert await stream.receive(5.0) == Taken(False)
            with pytest.raises(NotFound):
                await sees(s.carl, s.anna)

    run(main())


def test_strangers_cannot_fill_the_list_of_revocations(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            eve = SecretKey(bytes(31) + b"\x07")
            until_s = int(s.anna.access.now) + 1_000
            spam = [revoke(eve, bytes([n]) * 16, until_s).raw for n in range(10)]
            for node in (s.carl, s.ben):  # a stranger; and a contact with words of somebody unknown
                link = await node.connect(s.anna.peer_id, s.anna.addresses)
                async with await link.open_stream(PROTOCOL) as stream:
                    await stream.send(Revoked(spam))
                    await stream.send(Present(b""))
                    assert await stream.receive(5.0) == Taken(False)
            assert len(s.anna.access.policy.revocations) == 0

    run(main())


@pytest.mark.parametrize(
    "message",
    [
        Present(bytes(3_000)),
        Revoked([bytes(5)]),
        Revoked([bytes(121)] * 257),
        Gave([b""] * 17),
        Gave([bytes(3_000)]),
    ],
)
def test_messages_out_of_bounds_end_the_stream(tmp_path: Path, message: Present | Revoked | Gave) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            link = await s.ben.connect(s.anna.peer_id, s.anna.addresses)
            stream = await link.open_stream(PROTOCOL)
            await stream.send(message)
            with pytest.raises(PeerError) as ended:
                await stream.receive(5.0)
            assert ended.value.close_code == CloseCode.LIMIT
            await stream.reset()

    run(main())


def test_an_expired_grant_is_refused_in_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            given = s.give("bearer", Wanted(lasting_s=1))
            await asyncio.sleep(1.1)
            with pytest.raises(AccessDenied, match="expired"):
                await s.grants(s.carl).accept(given.grant)

    run(main())


def test_what_cannot_be_given_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            anna = s.grants(s.anna)
            for peer, verbs, resource, said in (
                ("nobody", "read", "files/photos", "nobody called"),
                ("ben", "use", "files/photos", "nothing one can do to files"),
                ("ben", "read", "files/nothing", "nothing is shared as"),
                ("ben", "read", "../..", "no resource"),
            ):
                with pytest.raises(CoterieError, match=said):
                    anna.give(peer, verbs, resource, WEEK)
            with pytest.raises(UsageError, match="days at most"):
                s.give("ben", Wanted(lasting_s=999 * 604_800))
            with pytest.raises(NotFound, match="gave no grant"):
                anna.revoke("abcdef")

    run(main())


def test_texts_that_are_no_grants_say_what_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            shared = await s.anna.files.share(tmp_path / "photos")
            with pytest.raises(UsageError, match="another kind"):
                GrantText.parse(shared.ticket)
            text = s.give("bearer").grant
            with pytest.raises(UsageError, match=r"mistyped|truncated"):
                GrantText.parse(text[:-1] + ("a" if text[-1] != "a" else "b"))
            with pytest.raises(UsageError, match="truncated"):
                GrantText.parse(text[:60])
            assert "key hidden" in repr(GrantText.parse(text))

    run(main())


MANY = 400
"""Grants that were accepted; with as many, opening them all took 0.1 s, with the most that are kept over a second."""


def test_a_strangers_empty_messages_do_not_make_the_node_open_all_its_grants(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        root = tmp_path / "photos"
        root.mkdir()
        (root / "a.jpg").write_bytes(b"a")
        async with memory_node(network, tmp_path / "home") as anna:
            await anna.files.share(root)
            for number in range(MANY):
                peer = SecretKey(number.to_bytes(32, "big")).peer_id
                Scene.grants(anna).give(str(peer), "read", "files/photos", WEEK)
            stranger = SecretKey(bytes([7]) * 32)
            async with Endpoint(network.bind(stranger.peer_id)) as endpoint:
                with watch_steps() as steps:
                    connection = await endpoint.connect(anna.peer_id, anna.addresses)
                    async with await connection.open_stream(PROTOCOL) as stream:
                        await stream.write(PROTOCOL.encode(Revoked([])) * 50)
                        await stream.send(Present(b"none"))
                        assert await stream.receive() == Taken(False)
            print(f"longest step {1000 * steps.longest_s:.0f} ms: {steps.what}")
            assert steps.longest_s < 0.05, steps.what

    run(main())


def test_a_holder_who_makes_many_of_one_grant_pushes_out_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "RECORDS_MAX", 20)
    monkeypatch.setattr(service, "ACCEPTED_BURST", 30)

    async def main() -> None:
        async with scene(tmp_path) as s:
            s.give("ben")
            bearer = GrantText.parse(s.give("bearer", Wanted(lasting_s=604_800, pass_on=1)).grant)
            assert bearer.key is not None
            taken = []
            async with Endpoint(s.network.bind(SecretKey(bytes([7]) * 32).peer_id)) as endpoint:
                connection = await endpoint.connect(s.anna.peer_id, s.anna.addresses)
                with pytest.raises(PeerError) as refused:
                    async with await connection.open_stream(PROTOCOL) as stream:
                        for number in range(60):
                            made = attenuate(
                                bearer.grant, bearer.key, endpoint.peer_id, nonce=number.to_bytes(8, "big")
                            )
                            await stream.send(Present(made.raw))
                            taken.append(await stream.receive())
                assert refused.value.close_code == CloseCode.LIMIT
            assert taken == [Taken(True)] * 30
            assert len(list((tmp_path / "home-anna" / "apps" / "grants" / "accepted").iterdir())) == 20
            assert await sees(s.ben, s.anna), "ben's own grant is still there"

    run(main())
