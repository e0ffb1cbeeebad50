"""The enforcer: what is under way ends when it is no longer allowed; time does not go back; all is written down."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.access import enforcer
from coterie.access.enforcer import Enforcer
from coterie.access.grant import Grant, issue
from coterie.access.policy import ANYONE, CONTACT, Standing
from coterie.access.resource import ALL_VERBS, ResourceKind, Verb
from coterie.access.terms import Terms
from coterie.errors import AccessDenied, CloseCode, PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from tests.support import run, run_virtual

OWN, ANNA, EVE = (SecretKey(bytes([number]) * 32) for number in (1, 2, 4))
PHOTOS = "files/photos"
BEGINNING = 1_000_000.0


async def _at_once(work: Callable[[], None]) -> None:
    """Virtual time knows no threads."""
    work()


class Scene:
    """An enforcer with people and a clock that a test may change. The clock follows the event loop's."""

    def __init__(self, log: Path | None = None) -> None:
        self.people: dict[PeerId, Standing] = {}
        self.set_back_s = 0.0
        self.access = Enforcer(OWN.peer_id, self._standing, log_path=log, clock=self.clock, offload=_at_once)

    def _standing(self, peer: PeerId) -> Standing:
        return self.people.get(peer, Standing())

    def clock(self) -> float:
        try:
            return BEGINNING + asyncio.get_running_loop().time() - self.set_back_s
        except RuntimeError:
            return BEGINNING - self.set_back_s

    def give(self, **terms: int) -> Grant:
        full = Terms(**{"expires": int(BEGINNING) + 86_400, **terms})
        grant = issue(OWN, ANNA.peer_id, PHOTOS, Verb.READ, terms=full, nonce=bytes(8))
        self.access.policy.accept(grant, ANNA.peer_id, self.access.now)
        return grant


def test_what_is_held_ends_when_it_is_taken_back() -> None:
    async def scene() -> None:
        at = Scene()
        at.access.policy.permit(CONTACT, Verb.READ, PHOTOS)
        at.people[ANNA.peer_id] = Standing(contact=True)
        loop = asyncio.get_running_loop()
        ended: list[float] = []

        async def serve() -> None:
            with pytest.raises(PeerError) as error:
                async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS):
                    await asyncio.sleep(1_000)
            assert error.value.close_code == CloseCode.REVOKED
            ended.append(loop.time())
            await asyncio.sleep(1)  # the cancellation is over: the task lives on

        task = asyncio.ensure_future(serve())
        await asyncio.sleep(10)
        at.people[ANNA.peer_id] = Standing()
        at.access.changed()
        await task
        assert ended[0] == pytest.approx(10.0, abs=0.01)
        await at.access.close()

    run_virtual(scene())


def test_what_is_still_allowed_goes_on() -> None:
    async def scene() -> None:
        at = Scene()
        at.access.policy.permit(CONTACT, Verb.READ, PHOTOS)
        at.people[ANNA.peer_id] = Standing(contact=True)
        async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS) as decision:
            at.access.changed()
            await asyncio.sleep(5)
            assert decision.allowed
        await at.access.close()

    run_virtual(scene())


def test_nothing_is_held_that_is_not_allowed() -> None:
    async def scene() -> None:
        at = Scene()
        with pytest.raises(AccessDenied):
            async with at.access.hold(EVE.peer_id, Verb.READ, PHOTOS):
                raise AssertionError("never here")
        assert [(u.allowed, u.peer) for u in at.access.audit.lines()] == [(0, bytes(EVE.peer_id))]
        await at.access.close()

    run_virtual(scene())


def test_a_cancellation_from_outside_stays_one() -> None:
    async def scene() -> None:
        at = Scene()
        at.access.policy.permit(ANYONE, Verb.READ, PHOTOS)

        async def serve() -> None:
            async with at.access.hold(EVE.peer_id, Verb.READ, PHOTOS):
                await asyncio.sleep(1_000)

        task = asyncio.ensure_future(serve())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await at.access.close()

    run_virtual(scene())


def test_what_is_held_ends_with_its_grant() -> None:
    async def scene() -> None:
        at = Scene()
        at.give(expires=int(BEGINNING) + 30)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(PeerError):
            async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS):
                await asyncio.sleep(1_000)
        assert 29 <= loop.time() - began <= 35
        await at.access.close()

    run_virtual(scene())


def test_a_clock_set_back_revives_nothing() -> None:
    async def scene() -> None:
        at = Scene()
        at.give(expires=int(BEGINNING) + 30)
        assert at.access.decide(ANNA.peer_id, Verb.READ, PHOTOS).allowed
        await asyncio.sleep(31)
        assert not at.access.decide(ANNA.peer_id, Verb.READ, PHOTOS).allowed
        at.set_back_s = 20
        at.access.changed()
        assert not at.access.decide(ANNA.peer_id, Verb.READ, PHOTOS).allowed
        await at.access.close()

    run_virtual(scene())


def test_a_clock_set_back_over_a_restart_revives_nothing(tmp_path: Path) -> None:
    async def before() -> None:
        at = Scene(tmp_path / "audit.db")
        await asyncio.sleep(31)
        at.access.decide(EVE.peer_id, Verb.READ, PHOTOS)
        await at.access.close()

    async def after() -> None:
        at = Scene(tmp_path / "audit.db")
        at.set_back_s = 1_000
        assert at.access.now >= BEGINNING + 31
        with pytest.raises(AccessDenied, match="expired"):
            at.give(expires=int(BEGINNING) + 30)
        await at.access.close()

    run_virtual(before())
    run_virtual(after())


def test_a_quota_is_counted_and_then_used_up_even_after_a_restart(tmp_path: Path) -> None:
    async def scene(sizes: list[int]) -> None:
        at = Scene(tmp_path / "audit.db")
        at.give(quota_bytes=100)
        async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS) as decision:
            for size in sizes:
                await at.access.charge(decision, size)
        await at.access.close()

    run_virtual(scene([50, 30]))
    with pytest.raises(PeerError, match="quota") as error:
        run_virtual(scene([15, 6]))
    assert error.value.close_code == CloseCode.REVOKED


def test_a_rate_is_kept() -> None:
    async def scene() -> None:
        at = Scene()
        at.give(rate_bytes_s=1_000)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS) as decision:
            for _ in range(20):
                await at.access.charge(decision, 500)
        assert 8.9 <= loop.time() - began <= 10.1
        await at.access.close()

    run_virtual(scene())


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcer, "METERED_MAX", 1)

    async def scene() -> None:
        at = Scene()
        at.give(quota_bytes=100)
        async with at.access.hold(ANNA.peer_id, Verb.READ, PHOTOS) as first:
            await at.access.charge(first, 1)
        other = issue(
            OWN,
            EVE.peer_id,
            PHOTOS,
            Verb.READ,
            terms=Terms(expires=int(BEGINNING) + 60, rate_bytes_s=5),
            nonce=bytes(8),
        )
        at.access.policy.accept(other, EVE.peer_id, at.access.now)
        async with at.access.hold(EVE.peer_id, Verb.READ, PHOTOS) as second:
            with pytest.raises(PeerError) as full:
                await at.access.charge(second, 1)
            assert full.value.close_code == CloseCode.LIMIT
        await at.access.close()

    run_virtual(scene())


def test_what_needs_no_counting_costs_nothing() -> None:
    async def scene() -> None:
        at = Scene()
        at.access.policy.permit(ANYONE, Verb.READ, PHOTOS)
        async with at.access.hold(EVE.peer_id, Verb.READ, PHOTOS) as decision:
            await at.access.charge(decision, 10**12)
        assert asyncio.get_running_loop().time() == 0.0
        await at.access.close()

    run_virtual(scene())


def test_the_log_is_written_while_the_node_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        at = Scene(tmp_path / "audit.db")
        at.access.decide(EVE.peer_id, Verb.READ, PHOTOS)
        async with asyncio.timeout(10):
            while at.access.audit.is_dirty:
                await asyncio.sleep(0.1)
        await at.access.close()

    run(scene())


def test_blocked_peers_are_known_to_the_guard() -> None:
    async def scene() -> None:
        at = Scene()
        at.access.open_protocol("hello", strangers=True)
        at.access.open_protocol("chat", strangers=False)
        assert at.access.may_open(EVE.peer_id, "hello")
        assert not at.access.may_open(EVE.peer_id, "chat")
        at.people[EVE.peer_id] = Standing(contact=True)
        at.access.changed()
        assert at.access.may_open(EVE.peer_id, "chat")
        assert not at.access.is_blocked(EVE.peer_id)
        at.people[EVE.peer_id] = Standing(contact=True, blocked="revoked")
        at.access.changed()
        assert at.access.is_blocked(EVE.peer_id)
        assert not at.access.may_open(EVE.peer_id, "hello")
        await at.access.close()

    run_virtual(scene())


def test_names_of_resources_are_for_people() -> None:
    at = Scene()
    at.access.name_resources("files", lambda name: name.replace("photos", "k3fw7a"), lambda path: "photos")
    assert at.access.resource_of("files/photos/2024") == "files/k3fw7a/2024"
    assert at.access.say_resource("files/k3fw7a") == "files/photos"
    assert at.access.resource_of("protocol/chat") == "protocol/chat"
    with pytest.raises(UsageError):
        at.access.resource_of("../etc")


def test_watchers_are_told_of_every_change() -> None:
    async def scene() -> None:
        at, told = Scene(), []
        at.access.watch(lambda: told.append(at.access.policy.generation))
        at.access.changed()
        at.access.changed()
        assert len(told) == 2
        await at.access.close()

    run_virtual(scene())


def test_a_declared_kind_has_its_verbs_and_an_unknown_one_all() -> None:
    access = Scene().access
    access.declare(ResourceKind("letter", Verb.LIST | Verb.WRITE, "a box for letters"))
    assert access.parse_verbs("list,write", "letter/anna") == Verb.LIST | Verb.WRITE
    with pytest.raises(UsageError, match="'read' is nothing one can do to letter; there are list, write"):
        access.parse_verbs("read", "letter/anna")
    with pytest.raises(UsageError, match="'read' is nothing one can do to protocol; there are use"):
        access.parse_verbs("read", "protocol/chat")
    words = "list, read, write, use, administer"
    assert access.parse_verbs(words, "of-an-app-that-is-not-here/x") == ALL_VERBS
