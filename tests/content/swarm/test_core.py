"""The swarm core: everything once, whoever comes, goes, stalls or lies."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.content.limit import ByteLimit, Shares
from coterie.content.swarm import core as c
from coterie.content.swarm import events as e
from coterie.content.swarm import pieces as p
from coterie.content.swarm import state as swarm_state
from coterie.errors import CloseCode
from coterie.machine import Emit, PeerDown, SetTimer, TimerFired

ROOT = b"root"
Nodes = dict[bytes, tuple[tuple[int, ...], tuple[bytes, ...]]]


@dataclass
class Scene:
    """A core, and peers that answer its requests in order when told to. `now` moves by hand."""

    nodes: Nodes
    core: c.SwarmCore = field(default_factory=lambda: c.SwarmCore(random.Random(1)))
    asked: dict[str, list[Any]] = field(default_factory=dict)
    stored: dict[tuple[bytes, int], int] = field(default_factory=dict)
    lost: dict[tuple[bytes, int], Any] = field(default_factory=dict)
    gained: dict[bytes, int] = field(default_factory=dict)
    cancelled: list[e.CancelChunks] = field(default_factory=list)
    drops: list[e.Drop] = field(default_factory=list)
    timers: dict[Any, float] = field(default_factory=dict)
    complete: int = 0
    weight: int = 0  # that each child of a node is said to have
    now: float = 0.0

    def feed(self, event: Any) -> None:
        for output in self.core.handle(event, self.now):
            match output:
                case e.AskNode(peer) | e.AskChunks(peer):
                    self.asked.setdefault(peer, []).append(output)
                case e.GiveUp(manifest, _, index, reason):
                    self.lost[manifest, index] = reason
                case e.Gained(manifest, pieces):
                    self.gained[manifest] = self.gained.get(manifest, 0) | pieces
                case e.CancelChunks():
                    self.cancelled.append(output)
                case e.Drop():
                    self.drops.append(output)
                case SetTimer(key, at):
                    self.timers[key] = at
                case Emit(e.Complete()):
                    self.complete += 1

    def begin(self, *peers: str, whole: bool = True) -> "Scene":
        self.feed(e.Begin(ROOT, None))
        for peer in peers:
            self.feed(e.SourceUp(peer, whole, len(peers) - 1))
        return self

    def answer(self, peer: str) -> bool:
        """The oldest request to `peer`; False when there is none."""
        if not self.asked.get(peer):
            return False
        request = self.asked[peer].pop(0)
        if isinstance(request, e.AskNode):
            prepared = self.prepared(request.manifest, request.place)
            self.feed(e.NodeArrived(peer, request.manifest, request.place, prepared))
            return True
        sizes = self.nodes[request.manifest][0][request.first : request.first + request.count]
        for i in range(request.first, request.first + request.count):
            self.stored[request.manifest, i] = self.stored.get((request.manifest, i), 0) + 1
        self.feed(e.Arrived(peer, sum(map(e.cost, sizes)), 0.01))
        self.feed(e.Stored(peer, request.count))
        return True

    def prepared(self, manifest: bytes, place: Any) -> e.Prepared | None:
        """A node as the shell would have readied it."""
        if manifest not in self.nodes:
            return None
        sizes, children = self.nodes[manifest]
        missing = tuple(i for i in range(len(sizes)) if (manifest, i) not in self.stored)
        below = tuple((child, None) for child in children)
        weights = (self.weight,) * len(below) if self.weight else ()
        return e.Prepared(manifest, place, sizes, missing, below, (), weights)

    def fire_due(self) -> None:
        """Let the next timer be due."""
        if self.timers:
            key = min(self.timers, key=lambda k: self.timers[k])
            self.now = max(self.now, self.timers.pop(key))
            self.feed(TimerFired(key))

    def run(self, *peers: str, rng: random.Random | None = None) -> None:
        """Until complete: peers answer by turns, time passes when nobody has anything to answer."""
        rng = rng or random.Random(2)
        for _ in range(100_000):
            if self.complete:
                return
            ready = [peer for peer in peers if self.asked.get(peer)]
            self.now += 0.002
            if ready:
                self.answer(rng.choice(ready))
            else:
                self.fire_due()
        raise AssertionError("no end")

    def run_for(self, rounds: int, *peers: str) -> None:
        """So many answers of each, a second after the one before."""
        for _ in range(rounds):
            for _ in range(100):
                if all(self.asked.get(peer) for peer in peers):
                    break
                self.fire_due()
            self.now += 1.0
            for peer in peers:
                self.answer(peer)

    def chunks(self) -> set[tuple[bytes, int]]:
        return {(name, i) for name, (sizes, _) in self.nodes.items() for i in range(len(sizes))}


@st.composite
def trees(draw: st.DrawFn) -> Nodes:
    count = draw(st.integers(1, 20))
    rng = random.Random(draw(st.integers(0, 2**32)))
    names = [ROOT] + [b"n%d" % i for i in range(count)]
    nodes = {}
    for i, name in enumerate(names):
        children = tuple(n for j, n in enumerate(names[i + 1 :], i + 1) if (j - 1) // 3 == i)
        sizes = tuple(rng.choice([1, 1000, 160_000, 524_288]) for _ in range(rng.randint(0, 40)))
        nodes[name] = (sizes, children)
    return nodes


@given(trees(), st.integers(0, 2**32), st.lists(st.integers(1, 60), max_size=5), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_everything_arrives_once_whoever_comes_and_goes(
    nodes: Nodes, seed: int, breaks: list[int], sources: int
) -> None:
    rng = random.Random(seed)
    peers = [f"p{n}" for n in range(sources)]
    scene = Scene(nodes, c.SwarmCore(random.Random(seed))).begin(*peers)
    for steps in breaks:
        for _ in range(steps):
            scene.now += 0.001
            scene.answer(rng.choice(peers))
        if scene.complete:
            break
        leaving = rng.choice(peers)
        scene.asked.pop(leaving, None)
        scene.feed(PeerDown(leaving))
        assert not scene.asked.get(leaving), "nothing is asked of nobody"
        scene.feed(e.SourceUp(leaving))
    scene.run(*peers, rng=rng)
    reachable = scene.chunks()
    assert set(scene.stored) == reachable
    assert set(scene.stored.values()) <= {1}, "asked twice without need"
    assert scene.complete == 1
    assert {m: scene.gained[m] for m in nodes} == {
        m: (1 << (len(p.cut(sizes)) - 1)) - 1 for m, (sizes, _) in nodes.items()
    }


LARGE: Nodes = {ROOT: ((160_000,) * 400, ())}


def test_several_sources_share_the_work() -> None:
    scene = Scene(LARGE).begin("a", "b", "c")
    taken = {"a": 0, "b": 0, "c": 0}
    while not scene.complete:
        for peer in taken:
            before = len(scene.stored)
            scene.now += 0.005
            scene.answer(peer)
            taken[peer] += len(scene.stored) - before
        if not any(scene.asked.values()):
            scene.fire_due()
    assert min(taken.values()) > 80, taken


def test_one_source_is_asked_in_order_several_are_not() -> None:
    alone = Scene(LARGE).begin("a")
    asked_in_order: dict[int, None] = {}  # what waits for its answer is seen again
    while len(asked_in_order) < 20:
        asked_in_order |= dict.fromkeys(r.first for r in alone.asked["a"] if isinstance(r, e.AskChunks))
        alone.answer("a")
    assert list(asked_in_order) == sorted(asked_in_order)
    two = Scene(LARGE).begin("a", "b")
    two.answer("a")
    two.answer("b")
    asked = [r.first for peer in "ab" for r in two.asked[peer] if isinstance(r, e.AskChunks)]
    assert asked != sorted(asked)


def test_the_rarest_comes_first() -> None:
    scene = Scene(LARGE).begin("whole")
    for n in range(3):
        scene.feed(e.SourceUp(f"part{n}", whole=False))
        scene.feed(e.Holds(f"part{n}", ROOT, ((1 << 400) - 1) ^ (1 << 123)))
    scene.answer("whole")
    assert next(r.first for r in scene.asked["whole"] if isinstance(r, e.AskChunks)) == 123


def test_a_source_is_asked_only_for_what_it_has() -> None:
    scene = Scene(LARGE).begin("whole")
    scene.feed(e.SourceUp("part", whole=False))
    scene.answer("whole")
    assert not scene.asked.get("part")
    scene.feed(e.Holds("part", ROOT, 1 << 7 | 1 << 9))
    assert sorted(r.first for r in scene.asked["part"]) == [7, 9] or len(scene.asked["part"]) == 1
    scene.feed(e.HoldsAll("part"))
    scene.run("part", "whole")
    assert set(scene.stored.values()) == {1}


def test_what_others_were_given_is_asked_of_them_and_later_insisted_on() -> None:
    scene = Scene(LARGE).begin("seed", "other")
    scene.feed(e.Given("seed", ROOT, ((1 << 400) - 1) ^ 0b111))
    scene.answer("seed")
    scene.answer("other")
    asked = [r for r in scene.asked["seed"] if isinstance(r, e.AskChunks)]
    assert {r.first for r in asked} <= {0, 1, 2}
    assert not any(r.insist for r in asked)
    scene.feed(PeerDown("other"))
    insisted: list[bool] = []
    while not scene.complete:
        insisted += [r.insist for r in scene.asked["seed"]]
        scene.now += 0.002
        if not scene.answer("seed"):
            scene.fire_due()
    assert insisted.count(True) > 300


def test_sent_elsewhere_comes_from_elsewhere() -> None:
    scene = Scene(LARGE).begin("seed")
    scene.feed(e.SourceUp("other", whole=False))
    scene.answer("seed")
    request = scene.asked["seed"].pop(0)
    size = sum(LARGE[ROOT][0][request.first : request.first + request.count])
    scene.feed(e.Arrived("seed", size))
    scene.feed(e.Skipped("seed", elsewhere=True))
    assert all(r.first != request.first for r in scene.asked["seed"])
    scene.feed(e.Holds("other", ROOT, 1 << request.first))
    assert [r.first for r in scene.asked["other"]] == [request.first]


def test_a_silent_source_is_left_after_a_moment_and_dropped_in_the_end() -> None:
    scene = Scene({ROOT: ((160_000,) * 3, ())}).begin("slow", "fast")
    for peer in ("slow", "fast"):
        if scene.asked.get(peer) and isinstance(scene.asked[peer][0], e.AskNode):
            scene.answer(peer)
    for _ in range(100):
        if not scene.answer("fast"):
            scene.fire_due()
        if scene.complete:
            break
    assert scene.complete == 1
    assert scene.now < c.STALL_S / 2
    alone = Scene(LARGE).begin("slow")
    while not alone.drops:
        alone.fire_due()
    assert alone.now == pytest.approx(c.STALL_S)
    assert [(d.peer, d.close_code) for d in alone.drops] == [("slow", CloseCode.TIMEOUT)]


def test_a_slow_source_is_not_silent() -> None:
    """A chunk takes a minute on the slowest lines: bytes that are heard are enough."""
    scene = Scene(LARGE).begin("slow")
    for _ in range(20):
        scene.now += c.STALL_S / 2
        scene.fire_due()
        scene.feed(e.Heard("slow"))
    assert not scene.drops
    while not scene.drops:
        scene.fire_due()
    assert scene.now == pytest.approx(11 * c.STALL_S)


def drip(scene: Scene, *, until: float, pause_s: float = 0.02) -> None:
    """Time passes: "good" answers soon, whoever is called "drip" is heard every two seconds and answers nothing."""
    hear_at = scene.now + 2.0
    while not scene.complete and scene.now < until:
        if scene.asked.get("good"):
            scene.now += pause_s
            scene.answer("good")
        if scene.now < hear_at and scene.asked.get("good"):
            continue
        if min(scene.timers.values(), default=hear_at) < hear_at:
            scene.fire_due()
        else:
            scene.now, hear_at = hear_at, hear_at + 2.0
            for peer in [source.peer for source in scene.core.sources if "drip" in str(source.peer)]:
                scene.feed(e.Heard(peer))


@pytest.mark.parametrize("count", [1, 20])
def test_sources_that_drip_keep_nobody_from_completing(count: int) -> None:
    """Each answers well at first, slowly, so that some seconds of silence count as usual; then it drips."""
    kids = tuple(b"kid%d" % n for n in range(12))
    sizes = (160_000,) * 200
    nodes: Nodes = {ROOT: (sizes, kids), **{kid: (sizes[:20], ()) for kid in kids}}
    drips = [f"drip {n}" for n in range(count)]
    scene = Scene(nodes).begin(*drips, "good")
    scene.run_for(6, *drips, "good")
    begun = scene.now
    drip(scene, until=begun + 3)
    owed = {type(r) for peer in drips for r in scene.asked.get(peer, [])}
    assert e.AskNode in owed, "they hold what nobody else is asked for"
    drip(scene, until=begun + 3_600)
    assert scene.complete
    assert scene.now - begun < 2 * swarm_state.NODE_LATE_S + 15, scene.now - begun


def test_a_piece_that_a_source_drips_is_asked_of_others_while_more_is_to_come() -> None:
    """Somebody who plays it waits for that piece."""
    nodes: Nodes = {ROOT: ((160_000,) * 1_000, ())}
    scene = Scene(nodes).begin("drip", "good")
    scene.run_for(2, "drip", "good")
    held, begun = scene.asked["drip"][0], scene.now
    assert isinstance(held, e.AskChunks)
    drip(scene, until=begun + swarm_state.LATE_S - 5, pause_s=0.5)
    assert (ROOT, held.first) not in scene.stored
    scene.feed(e.Prefer(ROOT, held.first, held.first + 1, 1))
    drip(scene, until=begun + swarm_state.LATE_S + swarm_state.STALL_SOON_MAX_S + 5, pause_s=0.5)
    assert (ROOT, held.first) in scene.stored
    assert not scene.complete, "long before the endgame"


def test_who_drips_and_answers_nothing_is_left_where_there_are_others() -> None:
    alone = Scene(LARGE).begin("drip")
    drip(alone, until=3 * c.GONE_S)
    assert not alone.drops, "one slow source is better than none"
    scene = Scene(LARGE).begin("drip")
    drip(scene, until=10.0)
    scene.feed(e.SourceUp("drip too", whole=False))
    drip(scene, until=c.GONE_S - 1)
    assert not scene.drops
    drip(scene, until=c.GONE_S + c.STALL_S + 1)
    assert [(d.peer, d.ban) for d in scene.drops] == [("drip", False)]


def test_who_comes_is_asked_for_what_a_stalled_source_owes() -> None:
    scene = Scene({ROOT: ((160_000,) * 8, ())}).begin("silent")
    scene.now = 10.0
    scene.fire_due()
    scene.feed(e.SourceUp("good"))
    assert scene.asked["good"]
    scene.run("good")
    assert scene.now < 15


def test_a_late_answer_of_a_silent_source_is_taken() -> None:
    scene = Scene({ROOT: ((160_000,) * 8, ())}).begin("slow")
    scene.answer("slow")
    late = list(scene.asked["slow"])
    scene.feed(e.SourceUp("fast"))
    scene.now = 5.0
    scene.fire_due()
    while late and not scene.complete:
        scene.answer("slow")
        late.pop(0)
    scene.run("slow", "fast")
    assert scene.complete == 1
    assert set(scene.stored) == scene.chunks()


def test_a_liar_is_dropped_for_good_and_its_work_is_given_to_others() -> None:
    scene = Scene(LARGE).begin("liar", "good")
    scene.feed(e.Wrong("liar", "wrong bytes"))
    assert [(d.peer, d.reason, d.ban) for d in scene.drops] == [("liar", "wrong bytes", True)]
    scene.asked.pop("liar", None)
    scene.feed(PeerDown("liar"))
    scene.run("good")
    assert set(scene.stored.values()) == {1}


def test_who_claims_all_and_has_nothing_is_asked_little() -> None:
    scene = Scene(LARGE).begin("good", "claims")
    scene.answer("good")
    scene.answer("claims")
    asked = 0
    while not scene.complete:
        scene.now += 0.002
        if scene.asked.get("claims"):
            request = scene.asked["claims"].pop(0)
            if isinstance(request, e.AskNode):
                scene.feed(e.NodeArrived("claims", request.manifest, request.place, None))
                continue
            asked += 1
            for _ in range(request.count):
                scene.feed(e.Arrived("claims", 160_000))
                scene.feed(e.Denied("claims", "gone"))
        elif not scene.answer("good"):
            scene.fire_due()
    assert scene.lost == {}
    assert asked <= 3 * swarm_state.REFUSALS_MAX


def test_what_nobody_can_give_is_given_up_and_not_announced() -> None:
    scene = Scene({ROOT: ((160_000,) * 5, ())}).begin("only")
    scene.answer("only")
    while not scene.complete:
        request = scene.asked["only"].pop(0)
        for i in range(request.first, request.first + request.count):
            scene.feed(e.Arrived("only", 160_000))
            scene.feed(e.Denied("only", "changed") if i == 2 else e.Stored("only", 1))
    assert scene.lost == {(ROOT, 2): "changed"}
    assert scene.gained[ROOT] == 0b11011


def test_late_pieces_are_asked_twice_in_the_end_and_the_slower_is_cancelled() -> None:
    scene = Scene({ROOT: ((160_000,) * 6, ())}).begin("slow", "fast")
    while any(isinstance(r, e.AskNode) for peer in scene.asked.values() for r in peer):
        for peer in ("slow", "fast"):
            scene.answer(peer)
    for _ in range(200):
        scene.now += 0.01
        if scene.asked.get("fast"):
            scene.answer("fast")
        elif scene.timers:
            scene.fire_due()
        if scene.complete:
            break
    assert scene.complete == 1
    assert scene.cancelled or scene.core.source("slow").is_stalled


def test_preferred_chunks_come_first_and_in_order() -> None:
    scene = Scene(LARGE).begin("a", "b")
    scene.feed(e.Prefer(ROOT, 200, 240))
    order: list[int] = []
    while len(order) < 40:
        for peer in ("a", "b"):
            scene.now += 0.002
            if scene.asked.get(peer) and isinstance(scene.asked[peer][0], e.AskChunks):
                r = scene.asked[peer][0]
                order += range(r.first, r.first + r.count)
            scene.answer(peer)
    assert set(order[:36]) <= set(range(200, 244))


def test_what_a_reader_waits_for_comes_before_all_that_will_be_read() -> None:
    scene = Scene(LARGE).begin("a", "b")
    scene.feed(e.Prefer(ROOT, 100, 140, 0))
    scene.feed(e.Prefer(ROOT, 200, 204, 7))
    order = [r.first for asked in scene.asked.values() for r in asked if isinstance(r, e.AskChunks)]
    while len(order) < 3:
        for peer in ("a", "b"):
            scene.now += 0.002
            scene.answer(peer)
            order += [r.first for r in scene.asked.get(peer, ())[-1:] if isinstance(r, e.AskChunks)]
    late = [first for first in order if first >= 100]
    assert late[0] in range(200, 204)


def test_nothing_but_nodes_is_asked_for_while_it_is_held() -> None:
    scene = Scene(LARGE)
    scene.feed(e.Hold(True))
    scene.begin("a", "b")
    for peer in ("a", "b"):
        while scene.asked.get(peer):
            assert isinstance(scene.asked[peer][0], e.AskNode)
            scene.answer(peer)
    assert not any(isinstance(r, e.AskChunks) for asked in scene.asked.values() for r in asked)
    scene.feed(e.Hold(False))
    assert any(isinstance(r, e.AskChunks) for asked in scene.asked.values() for r in asked)


def test_the_window_holds_what_the_path_does_and_a_queue() -> None:
    source = swarm_state.Source("a", True, 0.0, rtt_s=0.15)
    assert source.window_bytes() == swarm_state.WINDOW_BYTES_START
    source.rate = 1e6
    source.last_heard = 0.15 * swarm_state.START_ROUND_TRIPS
    assert source.window_bytes() == int(1e6 * (0.3 + swarm_state.QUEUE_S))
    assert source.window_bytes(is_alone=True) == int(1e6 * (0.3 + swarm_state.QUEUE_ALONE_S))
    source.rtt_s = 600
    assert source.window_bytes() == swarm_state.WINDOW_BYTES_MAX


def test_a_source_that_is_alone_is_asked_at_first_for_what_a_wide_path_holds() -> None:
    near, far, farther = (
        swarm_state.Source("a", True, 0.0, rtt_s=rtt_s).window_bytes(is_alone=True)
        for rtt_s in (0.001, 0.02, 9.0)
    )
    assert near == swarm_state.WINDOW_BYTES_START
    assert far == 2 * 0.02 * swarm_state.START_BYTES_PER_S
    assert farther == swarm_state.WINDOW_BYTES_START_MAX


def test_a_rate_that_is_measured_while_the_path_speeds_up_narrows_no_window_of_a_source_that_is_alone() -> (
    None
):
    """Measured over 600 ms: the first half second brings little, and the path rested once it could carry more."""
    source, rtt_s = swarm_state.Source("a", True, 100.0, rtt_s=0.6), 0.6
    at_first = source.window_bytes(is_alone=True)
    source.note_arrived(50_000, 101.0)
    assert source.rate > 0
    assert source.window_bytes(is_alone=True) == at_first
    assert source.window_bytes() < at_first
    grew_at = 102.0
    source.note_arrived(int(2 * 50_000 * swarm_state.GROWS), grew_at)
    ends = grew_at + swarm_state.START_ROUND_TRIPS * rtt_s
    source.note_arrived(50_000, ends - 0.01)
    assert source.window_bytes(is_alone=True) == at_first, "it grew not long ago"
    source.note_arrived(50_000, ends + 1.0)
    assert source.window_bytes(is_alone=True) < at_first


CHUNK_BYTES = 160_000
FAR = {ROOT: ((CHUNK_BYTES,) * 625, ())}  # 100 MB


def over_line(rate: float, rtt_s: float, *, holds_back_s: float = 0.0) -> float:
    """Virtual seconds until 100 MB came over a line that carries `rate` bytes a second, and doubles up to that.

    `holds_back_s`: so long nothing comes once a second, as behind a lost packet; then all that was sent meanwhile does.
    """
    scene = Scene(FAR)
    scene.feed(e.Begin(ROOT, None))
    scene.feed(e.SourceUp("a", True, 0, rtt_s))
    scene.answer("a")
    step_s, flight, budget = 0.005, 15_000.0, 0.0
    heard: list[tuple[float, int]] = []  # when the source hears of a request, and its chunks
    coming: list[float] = []  # when each chunk is here
    while not scene.complete:
        heard += [(scene.now + rtt_s / 2, r.count) for r in scene.asked.get("a", ())]
        scene.asked["a"] = []
        budget = min(budget + min(rate, flight / rtt_s) * step_s, rate * rtt_s)
        while budget >= CHUNK_BYTES and heard and heard[0][0] <= scene.now:
            budget, flight = budget - CHUNK_BYTES, flight + CHUNK_BYTES
            coming.append(scene.now + rtt_s / 2)
            heard[0] = (heard[0][0], heard[0][1] - 1)
            heard = heard[not heard[0][1] :]
        scene.now += step_s
        if scene.now % 1.0 < holds_back_s:
            continue
        while coming and coming[0] <= scene.now:
            coming.pop(0)
            scene.feed(e.Arrived("a", CHUNK_BYTES, rtt_s))
            scene.feed(e.Stored("a", 1))
        assert scene.now < 100
    return scene.now


@pytest.mark.parametrize(
    ("rate", "rtt_s", "holds_back_s"),
    [(12.5e6, 0.15, 0.0), (25e6, 0.02, 0.0), (2.5e6, 0.6, 0.0), (12.5e6, 0.15, 0.2), (2.5e6, 0.6, 0.6)],
)
def test_a_source_on_a_far_line_never_waits_to_be_asked(
    rate: float, rtt_s: float, holds_back_s: float
) -> None:
    starts_s = 12 * rtt_s  # a path doubles from 15 kB on
    assert over_line(rate, rtt_s, holds_back_s=holds_back_s) < 1.03 * 100e6 / rate + starts_s + holds_back_s


def test_where_little_is_lost_with_us_more_is_asked_for_at_first() -> None:
    core = c.SwarmCore(random.Random(1))
    core.handle(e.Begin(ROOT, None), 0.0)
    core.handle(e.SourceUp("a", True), 0.0)
    core.handle(e.Arrived("a", 1000, 0.0001, is_shallow=True), 0.1)
    source = core.source("a")
    assert source is not None
    assert source.window_bytes() == swarm_state.WINDOW_BYTES_SHALLOW
    core.handle(e.Arrived("a", 40_000_000, 0.0001, is_shallow=True), 1.0)
    assert 10_000_000 < source.window_bytes() < 11_000_000


@pytest.mark.parametrize(("is_together", "first"), [(False, 5), (True, 3)])
def test_what_comes_together_is_taken_whole_before_anything_is_asked_for(
    is_together: bool, first: int
) -> None:
    scene = Scene(LARGE).begin("a", whole=False)
    scene.feed(e.Holds("a", ROOT, 0))
    scene.answer("a")
    news = (e.Holds("a", ROOT, 1 << 5), e.Holds("a", ROOT, 1 << 3))
    for event in (e.Together(news),) if is_together else news:
        scene.feed(event)
    assert scene.asked["a"][0].first == first


def test_where_several_give_less_waits_at_each() -> None:
    core = c.SwarmCore(random.Random(1))
    core.handle(e.Begin(ROOT, None), 0.0)
    windows = []
    for n in range(c.SOURCES_FEW):
        core.handle(e.SourceUp(n, True), 0.0)
        core.handle(e.Arrived(0, 1_000_000, 0.01), 1.0 + n)
        source = core.source(0)
        assert source is not None
        windows.append(source.window_bytes() / source.rate)
    assert windows[:-1] == pytest.approx([0.02 + swarm_state.QUEUE_S] * (c.SOURCES_FEW - 1))
    assert windows[-1] == pytest.approx(0.02 + swarm_state.QUEUE_SWARM_S)


def test_others_are_looked_for_at_first_and_when_few_are_left() -> None:
    core = c.SwarmCore(random.Random(1))
    assert e.FindProviders() in core.handle(e.Begin(ROOT, None), 0.0)
    for n in range(c.SOURCES_FEW + 1):
        assert e.FindProviders() not in core.handle(e.SourceUp(f"s{n}", True, 0), 1.0)
    assert e.FindProviders() not in core.handle(PeerDown("s0"), 2.0)
    assert e.FindProviders() in core.handle(PeerDown("s1"), 2.0)


def test_who_has_to_stand_back_asks_for_less_at_once() -> None:
    shares = Shares(ByteLimit())
    scenes = [Scene(LARGE, c.SwarmCore(random.Random(1), [shares.portion(w)])).begin("a") for w in (4.0, 1.0)]
    for scene in scenes:
        source = scene.core.source("a")
        assert source is not None
        source.rate, source.arrived_bytes = 10e6, 1 << 30
        scene.answer("a")
    under_way = [sum(r.count for r in scene.asked["a"] if isinstance(r, e.AskChunks)) for scene in scenes]
    assert under_way[0] >= 2 * under_way[1] > 0


def test_a_limit_holds() -> None:
    scene = Scene(LARGE, c.SwarmCore(random.Random(1), [ByteLimit(1_000_000)])).begin("a")
    scene.run("a")
    assert 0.9 * 64 < scene.now < 1.1 * 64 + 1


def test_a_tree_of_lies_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "NODES_WAITING_MAX", 10)
    scene = Scene({ROOT: ((), tuple(b"%d" % i for i in range(11)))}).begin("a")
    scene.answer("a")
    assert [d.close_code for d in scene.drops] == [CloseCode.LIMIT]


def test_only_a_few_nodes_are_fetched_ahead() -> None:
    children = tuple(b"c%d" % i for i in range(100))
    scene = Scene({ROOT: ((), children)} | {name: ((524_288,) * 100, ()) for name in children}).begin("a")
    scene.answer("a")
    assert len([r for r in scene.asked["a"] if isinstance(r, e.AskNode)]) == swarm_state.MANIFESTS_AHEAD_MIN


@pytest.mark.parametrize(("weight", "asked"), [
    (1_000, swarm_state.MANIFESTS_AHEAD_MAX),
    (swarm_state.MANIFESTS_AHEAD_BYTES_MAX // 20, 20),
    (swarm_state.MANIFESTS_AHEAD_BYTES_MAX, swarm_state.MANIFESTS_AHEAD_MIN),
])  # fmt: skip
def test_more_nodes_are_fetched_ahead_while_they_are_likely_to_be_small(weight: int, asked: int) -> None:
    children = tuple(b"c%d" % i for i in range(100))
    scene = Scene({ROOT: ((), children)} | {name: ((), ()) for name in children})
    scene.weight = weight
    scene.begin("a").answer("a")
    assert len(scene.asked["a"]) == asked
    scene.run("a")
    assert scene.complete == 1


def test_what_a_peer_says_it_has_is_remembered_within_a_bound() -> None:
    source = swarm_state.Source("a", False, 0.0)
    for n in range(swarm_state.HOLDS_BYTES_MAX // swarm_state.HOLDS_COST_BYTES + 100):
        source.note_holds(n.to_bytes(32, "big"), 1)
    assert source.holds_bytes <= swarm_state.HOLDS_BYTES_MAX
    assert len(source.holds) <= swarm_state.HOLDS_BYTES_MAX // swarm_state.HOLDS_COST_BYTES


def test_one_seed_one_trace() -> None:
    def trace() -> list[Any]:
        scene = Scene(LARGE).begin("a", "b", "c")
        scene.run("a", "b", "c")
        return list(scene.stored)

    assert trace() == trace()
