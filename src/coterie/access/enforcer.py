"""Enforcer: the policy of a running node, with its clock, its log, and its hold on what is under way.

Whoever serves a peer for longer than a moment holds the permission while it does. When the policy changes, everything
held is asked again at once; what is no longer allowed ends.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

from coterie.access.audit import Audit
from coterie.access.grant import Link
from coterie.access.policy import ANYONE, KNOWN, Decision, Policy, QuotaUsedUp, Standing, spent
from coterie.access.resource import (
    ALL_VERBS,
    PROTOCOL,
    ResourceKind,
    Verb,
    checked_resource,
    kind_of,
    parse_verbs,
)
from coterie.errors import CloseCode, PeerError, StorageError
from coterie.identity import PeerId
from coterie.rate import Rate
from coterie.tasks import Tasks

FLUSH_S = 2.0  # guess: so much of the log is lost at worst with a crash
RECHECK_MAX_S = 60.0  # a limit by time is looked at this often at least: clocks are set, machines sleep
METERED_MAX = 10_000  # links of grants whose rate or quota is counted; guess: 1 MB
RATE_BURST_S = 1.0  # a limited rate may be exceeded for the bytes of so many seconds

log = logging.getLogger(__name__)


class _Hold:
    __slots__ = ("also", "decision", "is_lost", "task")

    def __init__(self, decision: Decision, also: tuple[str, ...], task: "asyncio.Task[object]") -> None:
        self.decision = decision
        self.also = also
        self.task = task
        self.is_lost = False


class Enforcer:
    """Made by the node. All methods belong to its event loop."""

    def __init__(
        self,
        own: PeerId,
        standing: Callable[[PeerId], Standing],
        *,
        log_path: Path | None = None,
        clock: Callable[[], float] = time.time,
        offload: Callable[[Callable[[], None]], Awaitable[None]] = asyncio.to_thread,
        tasks: Tasks | None = None,
    ) -> None:
        """`standing` says who a peer is, fast. `clock` gives unix seconds; `offload` runs what waits for the disk.

        Raises:
            StorageError: the log cannot be used.
        """
        self.audit = Audit(log_path)
        self._clock = clock
        self._offload = offload
        self._latest = self.audit.latest_time()
        self._used = dict(self.audit.used())
        self.policy = Policy(own, standing, self._used)
        self._paid: dict[bytes, Rate] = {}  # link -> seconds that its rate is spoken for
        self._holds: dict[_Hold, None] = {}
        self.kinds: dict[str, ResourceKind] = {PROTOCOL.name: PROTOCOL}  # that can be declared here, by name
        self._names: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {}
        self._watchers: list[Callable[[], None]] = []
        self._quota_watchers: list[Callable[[Link, PeerId], None]] = []
        self._tasks = (tasks or Tasks()).part("access")
        self._recheck: asyncio.TimerHandle | None = None
        self._recheck_at = math.inf

    @property
    def now(self) -> float:
        """Unix seconds that never go back, not even over a restart: a clock set back revives nothing."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    # ---- asking

    def decide(
        self, peer: PeerId, verb: Verb, resource: str, also: tuple[str, ...] = (), *, logged_as: str = ""
    ) -> Decision:
        """Whether `peer` (who proved to be `also`) may do `verb` to `resource` now; the answer goes into the log.

        `logged_as`: under which resource, where what was asked for is not to fill the log.
        """
        decision = self.explain(peer, verb, resource, also)
        self._note(msgspec.structs.replace(decision, resource=logged_as) if logged_as else decision)
        return decision

    def _note(self, decision: Decision) -> None:
        self.audit.note(decision, self._latest)
        if not self._tasks:
            self._flush_later()

    def explain(self, peer: PeerId, verb: Verb, resource: str, also: tuple[str, ...] = ()) -> Decision:
        """As `decide`, for somebody who only wants to know."""
        now = self.now
        offset_s = _utc_offset_s(now)
        decision = self.policy.decide(peer, verb, resource, now, utc_offset_s=offset_s, also=also)
        if decision.allowed and decision.until < self._recheck_at:
            self._plan_recheck(decision.until)
        return decision

    def may_open(self, peer: PeerId, protocol: str) -> bool:
        """For the guard: whether `peer` may have streams of `protocol`."""
        return self.decide(peer, Verb.USE, f"protocol/{protocol}").allowed

    def is_blocked(self, peer: PeerId) -> bool:
        """For the guard: whether `peer` is to get nothing at all, not even a connection."""
        return self.explain(peer, Verb.USE, "protocol").because == "blocked"

    def open_protocol(self, protocol: str, *, strangers: bool) -> None:
        """Let everybody open streams of `protocol`, or everybody who is known."""
        self.policy.permit(ANYONE if strangers else KNOWN, Verb.USE, f"protocol/{protocol}")

    # ---- kinds and names of resources

    def declare(self, kind: ResourceKind) -> None:
        """Know from now on which verbs resources of `kind` have; of a kind that nobody declared it is all."""
        self.kinds[kind.name] = kind

    def parse_verbs(self, text: str, resource: str) -> Verb:
        """The verbs in "read,list", for `resource`. Raises `UsageError` for what cannot be done to its kind."""
        kind = kind_of(resource)
        return parse_verbs(text, kind, self.kinds[kind].verbs if kind in self.kinds else ALL_VERBS)

    def name_resources(self, kind: str, resolve: Callable[[str], str], say: Callable[[str], str]) -> None:
        """How people call what is below `kind`: `resolve` gives the path of a name, `say` the name of a path."""
        self._names[kind] = resolve, say

    def resource_of(self, text: str) -> str:
        """The resource that a person calls `text`. Raises `UsageError`, or what the app's `resolve` raises."""
        kind, slash, rest = checked_resource(text).partition("/")
        known = self._names.get(kind)
        return checked_resource(f"{kind}/{known[0](rest)}") if known and slash else text

    def say_resource(self, resource: str) -> str:
        """What a person calls `resource`."""
        kind, slash, rest = resource.partition("/")
        known = self._names.get(kind)
        return f"{kind}/{known[1](rest)}" if known and slash else resource

    # ---- holding

    @contextlib.asynccontextmanager
    async def hold(
        self, peer: PeerId, verb: Verb, resource: str, also: tuple[str, ...] = ()
    ) -> AsyncIterator[Decision]:
        """While the block runs, `peer` does `verb` to `resource`; it ends when that is no longer allowed.

        Raises:
            AccessDenied: it is not allowed now.
            PeerError: it was taken back meanwhile (close code REVOKED); `QuotaUsedUp` where that is why.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (in a coroutine there is one)
        held = _Hold(self.decide(peer, verb, resource, also).require(), also, task)
        self._holds[held] = None
        try:
            yield held.decision
        except asyncio.CancelledError:
            if held.is_lost and not task.uncancel():
                if held.decision.used_up is not None:
                    raise QuotaUsedUp(held.decision.used_up) from None
                raise PeerError(f"{peer.short} may no longer have {resource}", CloseCode.REVOKED) from None
            raise
        finally:
            del self._holds[held]

    async def charge(self, decision: Decision, size: int) -> None:
        """Count `size` bytes on the quota and the rate that `decision` rests on; waits while the rate is exceeded.

        Raises:
            QuotaUsedUp: a quota is.
            PeerError: too many grants are counted (close code LIMIT).
        """
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        for link in decision.meters:
            if not (link.id in self._used or link.id in self._paid) and self._is_full():
                raise PeerError(f"over {METERED_MAX} grants are counted already", CloseCode.LIMIT)
            if quota := link.terms.quota_bytes:
                before = self._used.get(link.id, 0)
                used = self._used[link.id] = before + size
                self.audit.note_used(link.id, used, link.terms.expires)
                if used > quota:
                    if before <= quota:
                        self.policy.changed()
                        for told in self._quota_watchers:
                            told(link, decision.peer)
                    self._note(spent(decision, link))
                    raise QuotaUsedUp(link)
            if rate := link.terms.rate_bytes_s:
                paid = self._paid.setdefault(link.id, Rate(1.0, RATE_BURST_S))
                wait_s = max(wait_s, paid.spend(loop.time(), size / rate))
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def used_of(self, link: Link) -> int:
        """Bytes used of the quota of `link`, at most all of them."""
        return min(self._used.get(link.id, 0), link.terms.quota_bytes)

    def watch_quotas(self, told: Callable[[Link, PeerId], None]) -> None:
        """Call `told` once when a quota is used up: its link, and the peer that used the last of it."""
        self._quota_watchers.append(told)

    def _is_full(self) -> bool:
        """Whether no further link can be counted; rates that nobody uses now are forgotten first."""
        if len(self._used) + len(self._paid) >= METERED_MAX:
            now = asyncio.get_running_loop().time()
            self._paid = {link: rate for link, rate in self._paid.items() if rate.ready_at(now) > now}
        return len(self._used) + len(self._paid) >= METERED_MAX

    # ---- changing

    def changed(self) -> None:
        """Contacts, circles, rules, grants or revocations are not as they were: ask again for all that is under way."""
        self.policy.changed()
        self.review()

    def watch(self, review: Callable[[], None]) -> None:
        """Call `review` after every change."""
        self._watchers.append(review)

    def review(self) -> None:
        """Ask again for everything held; end what is no longer allowed."""
        for held in list(self._holds):
            was = held.decision
            held.decision = self.explain(was.peer, was.verb, was.resource, held.also)
            if not held.decision.allowed and not held.is_lost:
                self.audit.note(held.decision, self._latest)
                held.is_lost = True
                held.task.cancel()
        for watcher in self._watchers:
            watcher()

    async def close(self) -> None:
        """Write the log and stop. Raises `StorageError`."""
        if self._recheck is not None:
            self._recheck.cancel()
        await self._tasks.close()
        self.audit.note_time(self.now)
        self.audit.close()

    def _plan_recheck(self, until: float) -> None:
        """Look again when a permission given out may have ended by itself."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nothing is under way
        if self._recheck is not None:
            self._recheck.cancel()
        self._recheck_at = until
        self._recheck = loop.call_later(min(max(0.0, until - self.now), RECHECK_MAX_S), self._look_again)

    def _look_again(self) -> None:
        self._recheck, self._recheck_at = None, math.inf
        self.review()

    def _flush_later(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # offline commands: written at the end
        self._tasks.start(self._flush(), "writing the audit log")

    async def _flush(self) -> None:
        await asyncio.sleep(FLUSH_S)
        self.audit.note_time(self.now)
        try:
            noted = self.audit.take()
            await self._offload(lambda: self.audit.write(noted))
        except StorageError as error:
            log.warning("%s", error)


def _utc_offset_s(now: float) -> int:
    return time.localtime(now).tm_gmtoff or 0
