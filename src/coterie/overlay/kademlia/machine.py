"""Kademlia: find peers, providers and small items among millions of equals. The machine; pure.

    node = Kademlia(own, random)                    # peers are PeerIds, messages those of KADEMLIA
    node.handle(Bootstrap((known, ...)), now)       # `now` is unix seconds: items expire by it
    node.handle(SeekProviders(lookup=1, key=key), now)   -> Send, SetTimer, CancelTimer, Emit, Learned

Arguments: `limits`; `serves`, whether others may reach us (`SetServing` changes it); `state`, what `export_state()`
gave before a restart; `record_of(peer)`, the signed PeerRecord of a peer as bytes, empty when there is none;
`network_of(peer)`, the network it is in, None when that is not to be limited (a household's own).

Commands: `Bootstrap`, `KeepUp`, `SetServing`, `SeekNode`, `SeekProviders`, `SeekValue`, `Provide`, `Put`, `Withdraw`,
`Cancel`.
Emitted: `Finished` once for each lookup, before it `Found` and, if wished, `Progress`. Request to others: `Learned`,
for the address book. `snapshot()` shows everything to people. A shell runs it with
`NetDriver(node, endpoint, KADEMLIA, on_output=..., clock=time.time, strangers=True)`.
"""

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any, cast

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.events import (
    Bootstrap,
    Cancel,
    Finished,
    Found,
    KeepUp,
    Learned,
    LookUp,
    Outcome,
    Progress,
    Provide,
    Put,
    SeekNode,
    SeekProviders,
    SeekValue,
    SetServing,
    Snapshot,
    Withdraw,
)
from coterie.overlay.kademlia.keys import ID_BITS, ID_BYTES, Item, node_id, open_item
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.lookup import Lookup
from coterie.overlay.kademlia.odds import Odds
from coterie.overlay.kademlia.requests import Requests
from coterie.overlay.kademlia.server import RecordOf, Server
from coterie.overlay.kademlia.state import bucket_views, lookup_view, read_state, write_state
from coterie.overlay.kademlia.table import NetworkOf, Table
from coterie.overlay.kademlia.task import Kind, Own, Rpc, Task, Wanted
from coterie.overlay.kademlia.upkeep import Upkeep, ended

_ANSWERS: dict[type, type] = {  # to each request
    wire.FindNode: wire.Nodes,
    wire.Ping: wire.Pong,
    wire.FindValue: wire.Value,
    wire.FindProviders: wire.Providers,
    wire.AddProvider: wire.Stored,
    wire.Store: wire.Stored,
}
_ANSWER_KINDS = tuple(dict.fromkeys(_ANSWERS.values()))
_KINDS = {
    SeekNode: Kind.NODE,
    SeekProviders: Kind.PROVIDERS,
    SeekValue: Kind.VALUE,
    Provide: Kind.PROVIDE,
    Put: Kind.PUT,
}
_REQUEST_TIMER = "requests"
_UPKEEP_TIMER = "upkeep"
_COUNTERS = (
    "asked", "answered", "failed", "served", "over_budget", "unsolicited", "strange", "poisoned",
    "refused_far", "refused_items", "not_serving", "refreshed", "republished", "lookups",
)  # fmt: skip


class Kademlia:
    """The machine: `handle(event, now)`. See the module."""

    def __init__(
        self,
        own: PeerId,
        random: Random,
        *,
        limits: KademliaLimits | None = None,
        serves: bool = True,
        state: bytes = b"",
        record_of: RecordOf | None = None,
        network_of: NetworkOf = lambda peer: None,
    ) -> None:
        """Raises UsageError when `state` is not what `export_state` gave."""
        self.own = own
        self.limits = limits = limits or KademliaLimits()
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self.table = Table(own, limits, network_of)
        self._random = random
        self._serves = serves
        self._record_of = record_of
        self._server = Server(self.table, limits, random, record_of=record_of, counters=self.counters)
        self._known = dict(read_state(state, limits.bootstrap_max)) if state else {}
        self._tasks: dict[Any, Task] = {}
        self._upkeep_tasks = 0
        self._wanted: deque[Wanted] = deque()
        self._own: dict[bytes, Own] = {}
        self._requests = Requests(limits, random.getrandbits(32))
        self._upkeep = Upkeep(self.table, self._server, limits, random)
        self._odds = Odds()
        self._probing: dict[PeerId, None] = {}
        self._is_starting = False  # lookups of upkeep
        self._timed_at: float | None = None  # the timer of the requests
        self._out: list[Any] = []

    # ---- the machine

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (unix s) and return what is to be done, in order."""
        out: list[Any] = []
        self._out = out
        kind = type(event)
        if kind is Received:
            self._received(event.peer, event.message, now)
            return out
        match event:
            case TimerFired(key):
                self._fired(key, now)
            case PeerDown(peer):
                for rpc in self._requests.drop(cast(PeerId, peer)):
                    self._failed(rpc, now)
            case LookUp():
                self._command(event, now)
            case Bootstrap(peers):
                self._bootstrap(peers, now)
            case KeepUp():
                self._keep_up(now)
            case SetServing(serves):
                self._serves = serves
            case Withdraw(key):
                self._own.pop(key, None)
            case Cancel(name):
                if name in self._tasks:
                    self._finish(self._tasks[name], Outcome.CANCELLED, now)
        return out

    @property
    def kept(self) -> list[bytes]:
        """The keys of the items that we keep for others."""
        return self._server.items.keys

    def snapshot(self) -> Snapshot:
        """What this node knows and does now."""
        server = self._server
        return Snapshot(
            serves=self._serves,
            contacts=len(self.table),
            buckets=bucket_views(self.table),
            items=len(server.items),
            provider_records=len(server.providers),
            provided_keys=server.providers.keys,
            own=len(self._own),
            lookups=tuple(lookup_view(task) for task in self._tasks.values()),
            requests=len(self._requests),
            counters=dict(self.counters),
        )

    def export_state(self) -> bytes:
        """The table, for `state` after a restart: peers and their records, bounded as the table is."""
        return write_state(self.table, self._record_of or (lambda peer: b""))

    def _fired(self, key: Any, now: float) -> None:
        if key == _REQUEST_TIMER:
            self._look_at_requests(now)
        elif key == _UPKEEP_TIMER:
            self._keep_up(now)
        elif key in self._tasks:
            self._finish(self._tasks[key], Outcome.DEADLINE, now)

    # ---- commands

    def _command(self, command: LookUp, now: float) -> None:
        kind = _KINDS[type(command)]
        item = command.item if isinstance(command, Put) else None
        key = item.key if item is not None else command.key
        outcome = self._refusal(command, key)
        if outcome is not None:
            self._out.append(Emit(Finished(lookup=command.lookup, outcome=outcome, key=key)))
            return
        lifetime_s = 0.0
        if kind in (Kind.PROVIDE, Kind.PUT):
            self._own[key] = mine = Own(item, now)
            lifetime_s = self._upkeep.announce(key, mine, now).lifetime_s
        task = self._start(Wanted(kind, key, item, lifetime_s), now, paths=command.paths, name=command.lookup)
        task.tells_progress = command.progress
        self._tasks[command.lookup] = task
        limits = self.limits
        deadline_s = limits.deadline_s if command.deadline_s is None else command.deadline_s
        self._out.append(SetTimer(command.lookup, now + deadline_s))
        if not self._begin_with_own(task, now):
            self._advance(task, now)

    def _refusal(self, command: LookUp, key: bytes) -> Outcome | None:
        is_taken = command.lookup in self._tasks or command.lookup in (_REQUEST_TIMER, _UPKEEP_TIMER)
        if is_taken or len(key) != ID_BYTES:
            return Outcome.REFUSED
        is_new = isinstance(command, Provide | Put) and key not in self._own
        if len(self._tasks) >= self.limits.lookups_max or (is_new and len(self._own) >= self.limits.own_max):
            return Outcome.BUSY
        return None

    def _begin_with_own(self, task: Task, now: float) -> bool:
        """What we keep ourselves counts as found; True when that ends the lookup."""
        place = task.lookup.target
        if task.kind is Kind.PROVIDERS:
            kept = self._server.providers.get(place, now, self.limits.providers_per_answer_max)
            self._note_providers(task, self.own, kept)
        elif task.kind is Kind.VALUE and (item := self._server.items.get(place, now)) is not None:
            return self._found(task, item, None, now)
        return False

    def _bootstrap(self, peers: Iterable[PeerId], now: float) -> None:
        for peer in peers:
            if peer != self.own and (peer in self._known or len(self._known) < self.limits.bootstrap_max):
                self._known.setdefault(peer, b"")
        self._join(now)
        self._out.append(SetTimer(_UPKEEP_TIMER, self._upkeep.next_at(now)))

    def _join(self, now: float) -> None:
        """Look up our own place, then (when that has ended) a place in every farther bucket: M&M 2.3."""
        self._upkeep.joined(now)
        key = self.table.own_id.to_bytes(ID_BYTES, "big")
        self._wanted.appendleft(Wanted(Kind.NODE, key, is_join=True))
        self._next_wanted(now)

    # ---- lookups

    def _start(self, wanted: Wanted, now: float, *, paths: int | None = None, name: Any = None) -> Task:
        """A task that begins with the nearest of the table, and with the peers known from before if these are few."""
        limits = self.limits
        self.counters["lookups"] += 1
        target = int.from_bytes(wanted.key, "big")
        lookup = Lookup(
            target, self.table.own_id, limits,
            paths=max(1, min(limits.k, paths or limits.paths)),
            reach=self.table.reach() if len(self.table) >= limits.k else 0,
            is_patient=name is None, learned=self._odds,
        )  # fmt: skip
        near: dict[PeerId, int | None] = {c.peer: c.age_s(now) for c in self.table.closest(target, limits.k)}
        if len(self.table) < limits.k:
            for peer, record in self._known.items():
                near.setdefault(peer, None)
                if record:
                    lookup.records[node_id(peer) ^ target] = record
        lookup.start(near)
        return Task(
            wanted.kind, wanted.key, lookup, now,
            name=name, item=wanted.item, lifetime_s=wanted.lifetime_s, is_join=wanted.is_join, fills=wanted.fills,
        )  # fmt: skip

    def _advance(self, task: Task, now: float) -> None:
        """Ask whom the lookup wants asked, and go on to what follows when it is over."""
        if task.is_over or task.is_storing:
            return
        lookup = task.lookup
        refused = True
        while refused:
            refused = False
            for peer in lookup.take():
                record = lookup.records.get(node_id(peer) ^ lookup.target) if lookup.records else None
                if record:
                    self._out.append(Learned(peer, record))
                if not self._ask_for(task, peer, now):
                    lookup.failed(peer)
                    refused = True
        if lookup.is_over:
            self._looked_up(task, now)

    def _ask_for(self, task: Task, peer: PeerId, now: float) -> bool:
        kind = task.kind
        if kind is Kind.VALUE:
            return self._request(peer, wire.FindValue, now, task.key, task=task)
        if kind is Kind.PROVIDERS:
            return self._request(peer, wire.FindProviders, now, task.key, task=task)
        return self._request(peer, wire.FindNode, now, task.key, task=task)

    def _looked_up(self, task: Task, now: float) -> None:
        if task.kind in (Kind.PROVIDE, Kind.PUT):
            self._store(task, now)
        else:
            self._finish(task, self._outcome(task), now)

    def _outcome(self, task: Task) -> Outcome:
        if not task.lookup.answers and task.item is None and not task.providers:
            return Outcome.ALONE
        is_missing = task.kind is Kind.VALUE and task.item is None
        is_missing = is_missing or (task.kind is Kind.PROVIDERS and not task.providers)
        return Outcome.NOT_FOUND if is_missing else Outcome.DONE

    def _store(self, task: Task, now: float) -> None:
        """Hand what is to be kept to the k nearest that answered, ourselves among them if we serve."""
        task.is_storing = True
        lookup = task.lookup
        holders = lookup.closest(self.limits.k)
        own_distance = self.table.own_id ^ lookup.target
        is_holder = len(holders) < self.limits.k or node_id(holders[-1]) ^ lookup.target > own_distance
        if self._serves and is_holder:
            task.stored += self._keep(task, now)
            holders = holders[: self.limits.k - 1]
        elif task.name is None and task.item is not None and holders:
            self._server.items.leave(task.item.key)
        lifetime_s = int(task.lifetime_s)
        for peer in holders:
            if task.item is not None:
                sent = self._request(peer, wire.Store, now, task.item.raw, lifetime_s, task=task)
            else:
                sent = self._request(peer, wire.AddProvider, now, task.key, lifetime_s, task=task)
            task.storing += sent
        if not task.storing:
            self._finish(task, Outcome.DONE if task.stored else Outcome.ALONE, now)

    def _keep(self, task: Task, now: float) -> bool:
        if task.item is not None:
            return self._server.items.put(task.item, self.own, now, task.lifetime_s)
        return self._server.providers.add(task.lookup.target, self.own, now + task.lifetime_s)

    def _finish(self, task: Task, outcome: Outcome, now: float) -> None:
        task.is_over = True
        lookup = task.lookup
        closest = lookup.closest(self.limits.k)
        if task.kind is Kind.VALUE and task.item is not None and outcome is Outcome.DONE:
            self._cache(task, now)
        if task.is_join:
            self._fill_buckets(closest)
        if task.name is None:
            self._upkeep_tasks -= 1
            self._next_wanted(now)
            return
        del self._tasks[task.name]
        self._out.append(CancelTimer(task.name))
        finished = Finished(
            lookup=task.name,
            outcome=outcome,
            key=task.key,
            closest=tuple(closest),
            providers=task.votes([self.own, *closest]),
            item=task.item,
            stored=task.stored,
            asked=lookup.asked,
            hops=task.hops or (lookup.hops(closest[0]) if closest else 0),
            took_s=now - task.since,
        )
        self._out.append(Emit(finished))

    def _cache(self, task: Task, now: float) -> None:
        """Store the item at the nearest peer that had none: the next who asks finds it sooner (M&M 2.3)."""
        without = [peer for peer in task.without if peer in self.table]
        if without and task.item is not None:
            target = task.lookup.target
            nearest = min(without, key=lambda peer: node_id(peer) ^ target)
            lifetime_s = int(self.limits.cached_s)
            self._request(nearest, wire.Store, now, task.item.raw, lifetime_s)

    def _fill_buckets(self, closest: list[PeerId]) -> None:
        """After joining, look up a place in each bucket farther away than our neighbours (M&M 2.3).

        Departure: only beyond the k-th neighbour, for all within are known, and only until the bucket has `filled`
        contacts. Others come by themselves, with what is looked up and who asks us, and at the hourly refresh:
        most sessions end before a full bucket was of use. Where fewer than k answered, everybody was asked already.
        """
        if len(closest) < self.limits.k:
            return
        for number in range(self.table.number(node_id(closest[-1])), ID_BITS + 1):
            if not self.table.is_filled(number):
                place = self.table.random_place(number, self._random)
                self._wanted.append(Wanted(Kind.NODE, place.to_bytes(ID_BYTES, "big"), fills=number))

    # ---- answers

    def _received(self, peer: PeerId, message: Any, now: float) -> None:
        kind = type(message)
        if kind in _ANSWERS:
            self._asked(peer, message, now)
        elif kind in _ANSWER_KINDS:
            self._answered(peer, message, now)
        else:
            self.counters["strange"] += 1

    def _asked(self, peer: PeerId, message: Any, now: float) -> None:
        if peer == self.own or not self._server.allows(peer, now):
            return
        if not self._serves:
            self._out.append(Send(peer, wire.Pong(message.request, False)))
            return
        self.counters["served"] += 1
        self._out.append(Send(peer, self._server.answer(peer, message, now)))
        if not message.serves:
            self.table.remove(peer)
        elif self.table.asked(peer, now):
            self._probe(peer, now)

    def _answered(self, peer: PeerId, message: Any, now: float) -> None:
        rpc = self._requests.take(message.request, peer, now)
        if rpc is None:
            self.counters["unsolicited"] += 1
            return
        kind = type(message)
        if kind is not rpc.expects or (kind is wire.Pong and not message.serves):
            self.counters["not_serving"] += 1
            self._probe_next(self.table.remove(peer), now)
            self._close(rpc, now)
            return
        self.counters["answered"] += 1
        self._probing.pop(peer, None)
        doubtful = self.table.answered(peer, now, now - rpc.at)
        if doubtful is not None:
            self._probe(doubtful.peer, now)
        task = rpc.task
        if task is None:
            if rpc.number:
                self._refreshed(rpc.number, message.contacts, now)
        elif task.is_storing:
            task.stored += rpc.expects is wire.Stored and message.accepted
            self._close(rpc, now)
        elif not task.is_over:
            self._step(task, peer, message, now)

    def _step(self, task: Task, peer: PeerId, message: Any, now: float) -> None:
        """An answer within a lookup."""
        if task.kind is Kind.VALUE:
            if not message.item:
                task.without.append(peer)
            elif self._take_item(task, peer, message.item, now):
                return
        elif task.kind is Kind.PROVIDERS:
            for provider in message.providers:
                if provider.record:
                    self._out.append(Learned(PeerId(provider.peer), provider.record))
            self._note_providers(task, peer, [PeerId(provider.peer) for provider in message.providers])
        task.lookup.answered(peer, message.contacts)
        if task.tells_progress:
            self._tell(task, peer)
        if task.fills and self.table.is_filled(task.fills):
            self._finish(task, Outcome.DONE, now)
            return
        self._advance(task, now)

    def _note_providers(self, task: Task, holder: PeerId, providers: Iterable[PeerId]) -> None:
        task.named[holder] = named = tuple(providers)
        for provider in named:
            if provider not in task.providers and len(task.providers) < self.limits.providers_found_max:
                task.providers[provider] = None
                self._out.append(Emit(Found(task.name, provider=provider)))

    def _take_item(self, task: Task, peer: PeerId, raw: bytes, now: float) -> bool:
        """Verify what `peer` says stands under the key. True when the lookup went on or ended by it."""
        if task.item is not None and raw == task.item.raw:
            return False
        try:
            item = open_item(raw, now)
        except PeerError:
            item = None
        if item is None or item.key != task.key:
            self.counters["poisoned"] += 1
            self._probe_next(self.table.remove(peer), now)
            task.lookup.failed(peer)
            self._advance(task, now)
            return True
        return self._found(task, item, peer, now)

    def _found(self, task: Task, item: Item, peer: PeerId | None, now: float) -> bool:
        """Note an item if it is the newest; an immutable one ends the lookup: there is no newer."""
        if task.item is None or item.sequence > task.item.sequence:
            task.item = item
            task.hops = task.lookup.hops(peer) if peer is not None else 0
            self._out.append(Emit(Found(task.name, item=item)))
        if item.publisher is None:
            self._finish(task, Outcome.DONE, now)
            return True
        return False

    def _tell(self, task: Task, peer: PeerId) -> None:
        bits = (node_id(peer) ^ task.lookup.target).bit_length()
        if bits < task.nearest_bits:
            task.nearest_bits = bits
            lookup = task.lookup
            self._out.append(Emit(Progress(task.name, lookup.asked, lookup.answers, bits)))

    def _refreshed(self, number: int, contacts: list[wire.Contact], now: float) -> None:
        """Who was named for a bucket with room is asked itself before it gets in."""
        self.counters["refreshed"] += 1
        room = self.table.room(number)
        for contact in contacts[: self.limits.k]:
            place = node_id(contact.peer)
            peer = PeerId(contact.peer)
            if room <= 0:
                return
            if place != self.table.own_id and self.table.number(place) == number and peer not in self.table:
                if contact.record:
                    self._out.append(Learned(peer, contact.record))
                self._probe(peer, now)
                room -= 1

    # ---- requests

    def _request(
        self, peer: PeerId, kind: Any, now: float, *fields: Any, task: Task | None = None, number: int = 0
    ) -> bool:
        """Send a request of `kind`; False when too many are under way."""
        if self._requests.is_full:
            return False
        sent = self._requests.add(Rpc(peer, now, _ANSWERS[kind], task, number))
        self.counters["asked"] += 1
        self._out.append(Send(peer, kind(sent, self._serves, *fields)))
        self._set_timer(now + self._requests.late_s)
        return True

    def _set_timer(self, at: float) -> None:
        if self._timed_at is None or at < self._timed_at:
            self._timed_at = at
            self._out.append(SetTimer(_REQUEST_TIMER, at))

    def _probe(self, peer: PeerId, now: float) -> None:
        """Ping `peer`, unless that is under way; its answer makes it a contact."""
        if peer in self._probing or peer == self.own or len(self._probing) >= self.limits.probes_max:
            return
        if self._request(peer, wire.Ping, now):
            self._probing[peer] = None

    def _probe_next(self, peer: PeerId | None, now: float) -> None:
        if peer is not None:
            self._probe(peer, now)

    def _look_at_requests(self, now: float) -> None:
        self._timed_at = None
        overdue = self._requests.overdue(now)
        if overdue.again_at is not None:
            self._set_timer(overdue.again_at)
        for rpc in overdue.failed:
            self._failed(rpc, now)
        for rpc in overdue.late + overdue.slow:
            if rpc.task is not None and not rpc.task.is_storing:
                (rpc.task.lookup.slow if rpc.is_slow else rpc.task.lookup.late)(rpc.peer)
                self._advance(rpc.task, now)

    def _failed(self, rpc: Rpc, now: float) -> None:
        """No answer: a mark against the contact, and the lookup goes on without it."""
        self.counters["failed"] += 1
        self._probing.pop(rpc.peer, None)
        self._probe_next(self.table.failed(rpc.peer), now)
        self._close(rpc, now)

    def _close(self, rpc: Rpc, now: float) -> None:
        """A request brought the lookup nothing more."""
        self._probing.pop(rpc.peer, None)
        task = rpc.task
        if task is None or task.is_over:
            return
        if task.is_storing:
            if rpc.expects is wire.Stored:
                task.storing -= 1
                if not task.storing:
                    self._finish(task, Outcome.DONE if task.stored else Outcome.NOT_FOUND, now)
            return
        task.lookup.failed(rpc.peer)
        self._advance(task, now)

    # ---- upkeep

    def _keep_up(self, now: float) -> None:
        self._server.providers.expire(now)
        self._server.items.expire(now)
        for key in [key for key, mine in self._own.items() if ended(mine.item, now)]:
            del self._own[key]
        if not len(self.table) and self._known and not self._upkeep_tasks:
            self._join(now)
        for peer, number in self._upkeep.checks(now):
            if number:
                place = self.table.random_place(number, self._random).to_bytes(ID_BYTES, "big")
                self._request(peer, wire.FindNode, now, place, number=number)
            else:
                self._probe(peer, now)
        room = self.limits.upkeep_queue_max - len(self._wanted)
        self._wanted.extend(self._upkeep.wanted(now, self._own, room))
        self._next_wanted(now)
        self._out.append(SetTimer(_UPKEEP_TIMER, self._upkeep.next_at(now)))

    def _next_wanted(self, now: float) -> None:
        if self._is_starting:  # called by the end of one that has just begun: the loop below goes on
            return
        self._is_starting = True
        while self._wanted and self._upkeep_tasks < self.limits.upkeep_lookups_max:
            wanted = self._wanted.popleft()
            if wanted.fills and self.table.is_filled(wanted.fills):
                continue
            self._upkeep_tasks += 1
            self.counters["republished"] += wanted.kind is Kind.PUT
            self._advance(self._start(wanted, now, paths=1), now)
        self._is_starting = False
