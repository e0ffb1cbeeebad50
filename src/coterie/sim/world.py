"""Many pure cores in virtual time over a simulated, faulty network: one seed, one trace, in every process.

world = World(seed=1, link=Link(latency=0.05, loss=0.01))
for name in names:
    world.add(name, lambda random: Gossip(random))
world.connect("a", "b")
world.feed("a", Command("publish"))
world.run(until=60)
assert [node for _, node, event in world.emitted] == names
"""

import gc
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from random import Random
from struct import Struct
from typing import Any, Literal

from coterie.errors import LimitExceeded, UsageError
from coterie.machine import (
    CancelTimer,
    Emit,
    Machine,
    PeerDown,
    PeerUp,
    Received,
    Send,
    SetTimer,
    TimerFired,
)
from coterie.sim.host import Host, Pipe, skewed, unweighed
from coterie.sim.inhabitant import Arriving, Asleep, Factory, Node, Restore, Wrap, dead
from coterie.sim.links import Link
from coterie.sim.replay import replay_command

SLOTS_PER_S = 200  # events are sorted slot by slot: a heap of millions would spend its time in cache misses
QUEUE_MAX = 5_000_000  # events under way: about 1 GB; a flood that grows without end stops here
EMITTED_MAX = 1_000_000  # emitted events kept for the test to look at
EVENTS_MAX = 100_000_000  # of one call of `run`: about half an hour of one core
RECENT_MAX = 20  # events named when a run fails
SWEEP_MIN = 100_000  # remembered times of links; above it those that lie in the past are dropped

Trace = Literal["order", "content"]
_ORDINARY = Host()
_TRACED = Struct("<dII")  # time, number of the event, node
_TRACED_BYTES_MAX = 1 << 20  # kept before they are hashed
_GC_THRESHOLDS = (100_000, 20, 100)  # the millions of tuples here are no cycles: look at them seldom


_Entry = tuple[float, int, Node | None, int, Any]  # time, number, node (None: an action), its epoch, event


class World:
    """Cores, links, faults and time.

    Args:
        seed: of everything random here; stands in the note of every error.
        link: the conditions between any two nodes; `degrade` changes them for a pair.
        requests: handlers (node, output) for outputs other than `Send`, timers and `Emit`, by exact type.
        trace: what goes into `digest`: the order of all events, or also their content, which takes longer.
        down_after_s: how long after a crash or a cut the neighbours get `PeerDown`.
        dial_fails_after_s: who writes to a node that is down or out of reach gets `PeerDown` after so long, as
            a `NetDriver` tells its core; None: it learns nothing.
        size_of: bytes of a message, for `bytes_sent` and for links and hosts with a bandwidth.
        queue_max: events that may be under way at once.
        emitted_max: events that `emitted` may hold; clear it between phases of a long run.
    """

    def __init__(  # noqa: PLR0913 - all but the seed are named options
        self,
        seed: int = 0,
        *,
        link: Link | None = None,
        requests: Mapping[type, Callable[[Hashable, Any], None]] | None = None,
        trace: Trace = "order",
        down_after_s: float = 1.0,
        dial_fails_after_s: float | None = None,
        size_of: Callable[[Any], int] | None = None,
        queue_max: int = QUEUE_MAX,
        emitted_max: int = EMITTED_MAX,
    ) -> None:
        self.seed = seed
        self.now = 0.0
        self.events = 0
        self.sent = 0
        self.lost = 0
        self.bytes_sent = 0
        self.sent_by_kind: defaultdict[type, int] = defaultdict(int)
        self.emitted: list[tuple[float, Hashable, Any]] = []
        self.random = Random(f"{seed}/network")  # noqa: S311 - reproducible on purpose
        self._link = link or Link()
        self._careful = self._link.is_uneven  # else a message's way is known when it is sent
        self._overtaking = not self._link.keeps_order  # else equal delays keep the order by themselves
        self._has_nat = False
        self._pipes: dict[tuple[Hashable, Hashable], Pipe] = {}
        self._failing: dict[tuple[Hashable, Hashable], float] = {}
        self._sweep_at = SWEEP_MIN
        self._degraded: dict[tuple[Hashable, Hashable], Link] = {}
        self._requests = dict(requests or {})
        self._content = trace == "content"
        self._down_after_s = down_after_s
        self._dial_fails_after_s = dial_fails_after_s
        self._weighs = size_of is not None
        self._size_of = size_of or unweighed
        self._queue_max = queue_max
        self._emitted_max = emitted_max
        self._nodes: dict[Hashable, Node] = {}
        self._sides: dict[Hashable, int] = {}
        self._slot: list[_Entry] = []  # a heap of what is due now
        self._slot_number = -1
        self._later: dict[int, list[_Entry]] = {}
        self._slots: list[int] = []  # a heap of the numbers in `_later`
        self._taken = 0  # of all events ever pushed, those that are not in `_later` any more
        self._number = 0
        self._arrivals: dict[tuple[Hashable, Hashable], float] = {}
        self._hash = blake2b(digest_size=16)
        self._traced = bytearray()
        self._recent: deque[_Entry] = deque(maxlen=RECENT_MAX)
        self._last = Received(None, None)  # gossip sends one message to many: they share one event

    # ---- who is there

    def add(
        self,
        name: Hashable,
        factory: Factory,
        *,
        host: Host = _ORDINARY,
        restore: Restore | None = None,
        lazy: bool = False,
    ) -> None:
        """Put a node into the world.

        Args:
            name: what others send to.
            factory: makes its core from a generator of its own, now and after each restart.
            host: the machine it runs on: bandwidth, reachability, clock.
            restore: makes its core after a restart from (generator, what was last saved).
            lazy: make the core at its first event: a node that nothing happens to costs next to nothing.
        """
        if name in self._nodes:
            raise UsageError(f"there is already a node {name!r}")
        if (host.up_bytes_per_s or host.down_bytes_per_s) and not self._weighs:
            unweighed(host)
        node = Node(name, len(self._nodes), factory, host)
        node.restore, node.lazy = restore, lazy
        self._nodes[name] = node
        self._has_nat |= not host.is_reachable
        self._careful |= node.up is not None or node.down is not None
        self._start(node)

    def core(self, name: Hashable) -> Any:
        """The running core of `name`, or the adversary around it."""
        node = self._node(name)
        if node.core is None:
            raise UsageError(f"{name!r} is down")
        if type(node.core) is Asleep:
            self._wake(node)
        return node.core

    def is_up(self, name: Hashable) -> bool:
        """Whether `name` has a core now."""
        return self._node(name).core is not None

    @property
    def names(self) -> list[Hashable]:
        """All nodes, up or down, in the order in which they came."""
        return list(self._nodes)

    def corrupt(self, name: Hashable, wrap: Wrap) -> None:
        """From now on an adversary handles what reaches `name`; it gets the honest core and a generator."""
        node = self._node(name)
        core = self.core(name)
        node.wrap = wrap
        self._install(node, wrap(core, self._random_of(node, "adversary")))

    def save(self, name: Hashable, state: Any) -> None:
        """Put `state` on the disk of `name`: it outlives crashes, and `restore` gets it."""
        self._node(name).saved = state

    def saved(self, name: Hashable) -> Any:
        """What was last saved for `name`; None when nothing was."""
        return self._node(name).saved

    def crash(self, name: Hashable) -> None:
        """The core is gone with all that was not saved; its neighbours get `PeerDown` after a while."""
        node = self._node(name)
        if node.core is None:
            raise UsageError(f"{name!r} is down already")
        node.core = None
        node.handle = dead
        node.epoch += 1
        node.timers.clear()
        node.talked.clear()
        for peer in node.peers:
            node.peers[peer] = False
            self._notice(self._nodes[peer], node)

    def restart(self, name: Hashable, *, forget: bool = False) -> None:
        """A new core in the place of the crashed one; its links come up again. `forget`: the disk is lost too."""
        node = self._node(name)
        if node.core is not None:
            raise UsageError(f"{name!r} is up already")
        if forget:
            node.saved = None
        self._start(node)
        for peer in node.peers:
            other = self._nodes[peer]
            if other.peers[name]:  # nobody had missed it yet, but the old link is gone
                other.peers[name] = False
                self._push(self.now, other, PeerDown(name, "started anew"))
            self._come_up(node, other)

    # ---- links and faults

    def connect(self, a: Hashable, b: Hashable) -> None:
        """A link between `a` and `b`: both get `PeerUp`, and `PeerDown` when it breaks."""
        first, second = self._node(a), self._node(b)
        first.peers.setdefault(b, False)
        second.peers.setdefault(a, False)
        self._come_up(first, second)

    def disconnect(self, a: Hashable, b: Hashable, reason: str = "disconnected") -> None:
        """End a link on purpose: both sides get `PeerDown` now."""
        for node, peer in ((self._node(a), b), (self._node(b), a)):
            if node.peers.pop(peer, False):
                self._push(self.now, node, PeerDown(peer, reason))

    @property
    def link(self) -> Link:
        """The conditions between any two nodes; may be changed while the world runs."""
        return self._link

    @link.setter
    def link(self, link: Link) -> None:
        self._link = link
        self._start_care()

    def degrade(self, a: Hashable, b: Hashable, link: Link | None) -> None:
        """Other conditions between `a` and `b`, both ways; None takes them back."""
        self._start_care()
        for pair in ((a, b), (b, a)):
            if link is None:
                self._degraded.pop(pair, None)
            else:
                self._degraded[pair] = link

    def partition(self, *sides: Iterable[Hashable]) -> None:
        """From now on nothing passes between the sides; nodes that are in none form one of their own."""
        self._sides = {name: number for number, side in enumerate(sides, 1) for name in side}
        for node in self._nodes.values():
            for peer in node.peers:
                if self._is_cut(node.name, peer):
                    self._notice(node, self._nodes[peer])

    def heal(self) -> None:
        """Everybody reaches everybody again; links that were noticed as broken come up."""
        self._sides = {}
        for node in self._nodes.values():
            for peer in node.peers:
                self._come_up(node, self._nodes[peer])

    # ---- time

    def feed(self, name: Hashable, event: Any) -> None:
        """Give `event` to the core of `name` at this moment of virtual time."""
        self._push(self.now, self._node(name), event)

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Call `action` at time `at` (s): crash, partition, feed, look."""
        if at < self.now:
            raise UsageError(f"it is already {self.now:.3f} s, too late for {at:.3f} s")
        self._push(at, None, action)

    def run(self, until: float | None = None, *, events_max: int = EVENTS_MAX) -> int:
        """Let time pass until `until` (s), or until nothing is under way; the number of events handled.

        Raises what a core or an action raises, and LimitExceeded after `events_max` events, each with a note
        that has the seed and the last events.
        """
        before = self.events
        end = float("inf") if until is None else until
        thresholds = gc.get_threshold()
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            while self._next_slot(end):
                slot = self._slot
                while slot and slot[0][0] <= end:
                    if self.events - before >= events_max:
                        raise LimitExceeded(f"{events_max} events, and no end (events_max)")
                    self._step(heappop(slot))
                if slot:
                    break
        except Exception as error:
            error.add_note(self._note())
            raise
        finally:
            gc.set_threshold(*thresholds)
        if until is not None:
            self.now = max(self.now, until)
        return self.events - before

    def run_until(self, holds: Callable[[], bool], *, timeout_s: float, step_s: float = 0.1) -> float:
        """Let time pass until `holds()`, looked at every `step_s`; the time (s) when it did.

        Raises LimitExceeded when it does not hold within `timeout_s` of virtual time.
        """
        end = self.now + timeout_s
        while not holds():
            if self.now >= end:
                error = LimitExceeded(f"it does not hold after {timeout_s} s of virtual time")
                error.add_note(self._note())
                raise error
            self.run(min(end, self.now + step_s))
        return self.now

    @property
    def digest(self) -> str:
        """A fingerprint of all that has happened, in order: the same in every process for one seed."""
        self._flush_trace()
        return self._hash.hexdigest()

    # ---- the inner loop

    def _next_slot(self, end: float) -> bool:
        """Whether there is a slot with events: the present one, or the next if it begins before `end`."""
        if self._slot:
            return True
        if not self._slots or self._slots[0] > end * SLOTS_PER_S:
            return False
        self._slot_number = heappop(self._slots)
        self._slot = self._later.pop(self._slot_number)
        self._taken += len(self._slot)
        heapify(self._slot)
        return True

    def _step(self, entry: _Entry) -> None:
        at, number, node, epoch, event = entry
        if node is None:
            self.now = at
            self.events += 1
            self._recent.append(entry)
            event()
            return
        if epoch != node.epoch:
            return
        kind = type(event)
        if kind is Arriving:
            self.now = at
            self._pass_downlink(node, event.event)
            return
        if kind is TimerFired:
            if node.timers.get(event.key) != number:
                return
            del node.timers[event.key]
        elif kind is Received and self._sides and self._is_cut(event.peer, node.name):
            self.lost += 1
            return
        self.now = at
        self.events += 1
        self._recent.append(entry)
        self._traced += _TRACED.pack(at, number & 0xFFFFFFFF, node.index)
        if self._content:
            self._traced += repr(event).encode()
        if len(self._traced) > _TRACED_BYTES_MAX:
            self._flush_trace()
        for output in node.handle(event, at):
            if type(output) is Send:
                self._send(node, output.peer, output.message)
            else:
                self._carry_out(node, output)

    def _send(self, node: Node, peer: Hashable, message: Any) -> None:
        self.sent += 1
        self.sent_by_kind[type(message)] += 1
        receiver = self._nodes.get(peer)
        name = node.name
        if (
            receiver is None
            or receiver.core is None
            or (self._sides and self._is_cut(name, peer))
            or (self._has_nat and not self._may_enter(node, receiver))
        ):
            self._fail(node, peer)
            return
        event = self._last
        if event.message is not message or event.peer is not name:
            self._last = event = Received(name, message)
        link = self._link
        if self._degraded:
            link = self._degraded.get((name, peer), link)
        latency = link.latency
        delay = latency(name, peer, self.random) if callable(latency) else latency
        if self._weighs:
            self.bytes_sent += self._size_of(message)
        if self._careful:
            self._deliver(link, node, receiver, delay, event)
        else:
            self._push(self.now + delay, receiver, event)

    def _deliver(self, link: Link, node: Node, receiver: Node, delay: float, event: Received) -> None:
        """A message over links that have a bandwidth, lose, double or hold back, or whose delay varies."""
        at = self._pass_uplink(link, node, receiver.name, event.message)
        if at is None:
            self.lost += 1
            return
        at += delay
        random = self.random.random
        if link.loss and random() < link.loss:
            self.lost += 1
            return
        arriving: Any = event if receiver.down is None else Arriving(event)
        if link.duplication and random() < link.duplication:
            self._push(at + random() * link.held_back_s, receiver, arriving)
        if link.reordering and random() < link.reordering:
            self._push(at + random() * link.held_back_s, receiver, arriving)
            return
        if self._overtaking:
            pair = (event.peer, receiver.name)
            at = max(at, self._arrivals.get(pair, 0.0))
            self._arrivals[pair] = at
            if len(self._arrivals) > self._sweep_at:
                self._sweep()
        self._push(at, receiver, arriving)

    def _pass_uplink(self, link: Link, node: Node, peer: Hashable, message: Any) -> float | None:
        """When the message has left through the sender's uplink and the link's own queue; None: one is full."""
        at: float | None = self.now
        if node.up is not None:
            at = node.up.take(self._size_of(message), self.now)
        if link.bytes_per_s is not None and at is not None:
            pair = (node.name, peer)
            pipe = self._pipes.get(pair)
            if pipe is None or pipe.bytes_per_s != link.bytes_per_s:
                pipe = self._pipes[pair] = Pipe(link.bytes_per_s, link.queue_bytes_max)
                if len(self._pipes) > self._sweep_at:
                    self._sweep()
            at = pipe.take(self._size_of(message), at)
        return at

    def _pass_downlink(self, node: Node, event: Received) -> None:
        at = node.down.take(self._size_of(event.message), self.now) if node.down else self.now
        if at is None:
            self.lost += 1
        else:
            self._push(at, node, event)

    def _may_enter(self, node: Node, receiver: Node) -> bool:
        """Whether the receiver's NAT, if it has one, lets a message of `node` in; and what NATs remember of it."""
        if not receiver.host.is_reachable and not receiver.peers.get(node.name):
            heard = receiver.talked.get(node.name)
            if heard is None or self.now - heard > receiver.host.nat_mapping_s:
                return False
            receiver.talked[node.name] = self.now
        if not node.host.is_reachable:
            node.talk(receiver.name, self.now)
        return True

    def _fail(self, node: Node, peer: Hashable) -> None:
        """A message that reaches nobody; once in a while its sender is told so."""
        self.lost += 1
        if not node.host.is_reachable:
            node.talk(peer, self.now)  # the NAT does not know that nobody is there
        if self._dial_fails_after_s is None:
            return
        pair = (node.name, peer)
        if self._failing.get(pair, 0.0) > self.now:
            return
        self._failing[pair] = at = self.now + self._dial_fails_after_s
        self._push(at, node, PeerDown(peer, "cannot be reached"))
        if len(self._failing) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Forget the times of links that lie in the past: they hold nothing back any more."""
        self._arrivals = {pair: at for pair, at in self._arrivals.items() if at > self.now}
        self._failing = {pair: at for pair, at in self._failing.items() if at > self.now}
        self._pipes = {pair: pipe for pair, pipe in self._pipes.items() if not pipe.is_free(self.now)}
        left = max(len(self._arrivals), len(self._failing), len(self._pipes))
        self._sweep_at = max(SWEEP_MIN, 2 * left)

    def _start_care(self) -> None:
        """From here on links may be uneven: learn when what is under way will arrive, to keep its order."""
        self._careful = True
        if self._overtaking:
            return
        self._overtaking = True
        for slot in (self._slot, *self._later.values()):
            for at, _, node, _, event in slot:
                if node is not None and type(event) is Received:
                    pair = (event.peer, node.name)
                    self._arrivals[pair] = max(at, self._arrivals.get(pair, 0.0))

    def _push(self, at: float, node: Node | None, event: Any) -> None:
        self._number = number = self._number + 1
        if number - self._taken + len(self._slot) > self._queue_max:
            raise LimitExceeded(f"{self._queue_max} events are under way (queue_max): a flood without end?")
        entry = (at, number, node, node.epoch if node else 0, event)
        slot = int(at * SLOTS_PER_S)
        if slot <= self._slot_number:
            heappush(self._slot, entry)
            self._taken += 1
        elif slot in self._later:
            self._later[slot].append(entry)
        else:
            self._later[slot] = [entry]
            heappush(self._slots, slot)

    def _carry_out(self, node: Node, output: Any) -> None:
        match output:
            case SetTimer(key, at):
                self._push(max(at, self.now), node, TimerFired(key))
                node.timers[key] = self._number
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Emit(event):
                if len(self.emitted) >= self._emitted_max:
                    raise LimitExceeded(f"{self._emitted_max} events were emitted (emitted_max)")
                self.emitted.append((self.now, node.name, event))
            case _:
                handler = self._requests.get(type(output))
                if handler is None:
                    wanted = type(output).__name__
                    raise UsageError(f"{node.name!r} asks for {wanted}: give World a handler in `requests`")
                handler(node.name, output)

    # ---- up and down

    def _node(self, name: Hashable) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            raise UsageError(f"there is no node {name!r} in this world") from None

    def _start(self, node: Node) -> None:
        if node.lazy:
            self._install(node, Asleep(lambda: self._wake(node)))
        else:
            self._wake(node)

    def _wake(self, node: Node) -> Callable[[Any, float], list[Any]]:
        random = self._random_of(node, str(node.epoch))
        if node.restore is not None and node.saved is not None:
            core = node.restore(random, node.saved)
        else:
            core = node.factory(random)
        if node.wrap is not None:
            core = node.wrap(core, self._random_of(node, "adversary"))
        return self._install(node, core)

    def _install(self, node: Node, core: Machine) -> Callable[[Any, float], list[Any]]:
        node.core = core
        node.handle = core.handle
        if node.host.is_skewed and type(core) is not Asleep:
            node.handle = skewed(core.handle, node.host)
        return node.handle

    def _random_of(self, node: Node, purpose: str) -> Random:
        """A generator for one purpose of one node; seeded by text: independent of hash seeds."""
        return Random(f"{self.seed}/{node.index}/{purpose}")  # noqa: S311 - reproducible on purpose

    def _is_cut(self, a: Hashable, b: Hashable) -> bool:
        return bool(self._sides) and self._sides.get(a, 0) != self._sides.get(b, 0)

    def _come_up(self, a: Node, b: Node) -> None:
        if a.core is None or b.core is None or self._is_cut(a.name, b.name):
            return
        for node, peer in ((a, b.name), (b, a.name)):
            if not node.peers[peer]:
                node.peers[peer] = True
                self._push(self.now, node, PeerUp(peer))

    def _notice(self, node: Node, gone: Node) -> None:
        """`node` gets `PeerDown` once it has waited long enough, should the link still be broken by then."""
        epoch = gone.epoch

        def look() -> None:
            broken = gone.core is None or self._is_cut(node.name, gone.name)
            if broken and gone.epoch == epoch and node.core is not None and node.peers.get(gone.name):
                node.peers[gone.name] = False
                self._push(self.now, node, PeerDown(gone.name, "no answer"))

        self.schedule(self.now + self._down_after_s, look)

    # ---- the trace

    def _flush_trace(self) -> None:
        self._hash.update(self._traced)
        self._traced.clear()

    def _note(self) -> str:
        lines = [
            f"in a world with seed {self.seed}, at {self.now:.6f} s; to replay: {replay_command(self.seed)}"
        ]
        lines.append("the last events:")
        for at, _, node, _, event in self._recent:
            lines.append(f"  {at:.6f} s {repr(node.name) if node else 'action'}: {event!r}")
        return "\n".join(lines)
