"""The asker's core: depth first, within its window, nothing twice, nothing lost when the link breaks."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.apps.files import core as c
from coterie.apps.files.messages import CHUNKS_PER_REQUEST_MAX, GetChunks, GetManifest
from coterie.errors import CloseCode
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Send, SetTimer, TimerFired

ROOT = b"root"


@dataclass
class Tree:
    """A made-up tree: node id -> (sizes of its chunks, ids of its children)."""

    nodes: dict[bytes, tuple[tuple[int, ...], tuple[bytes, ...]]]


@dataclass
class Peer:
    """Answers a core's requests in order; loses the link when told to. `now` moves a millisecond per step."""

    tree: Tree
    core: c.FetchCore
    asked: list[object] = field(default_factory=list)
    stored: dict[tuple[bytes, int], int] = field(default_factory=dict)
    waiting: list[c.Prepare] = field(default_factory=list)
    complete: int = 0
    drops: list[c.Drop] = field(default_factory=list)
    timer: float | None = None
    now: float = 0.0
    most_under_way: int = 0

    def feed(self, event: object) -> None:
        for output in self.core.handle(event, self.now):
            match output:
                case Send(_, message):
                    self.asked.append(message)
                case c.Prepare():
                    self.waiting.append(output)
                case Emit(c.Complete()):
                    self.complete += 1
                case c.Drop():
                    self.drops.append(output)
                case SetTimer("stall", at):
                    self.timer = at
                case CancelTimer("stall"):
                    self.timer = None
        under_way = sum(
            sum(self.tree.nodes[m.manifest][0][m.first : m.first + m.count])
            for m in self.asked
            if isinstance(m, GetChunks)
        )
        self.most_under_way = max(self.most_under_way, under_way)

    def step(self, rng: random.Random) -> bool:
        self.now += 0.001
        if self.waiting and (not self.asked or rng.random() < 0.5):
            work = self.waiting.pop(0)
            sizes, children = work.node
            have = {i for i in range(len(sizes)) if (work.manifest, i) in self.stored}
            runs = [c.Run(i, (sizes[i],)) for i in range(len(sizes)) if i not in have] if have else []
            if not have and sizes:
                runs = [c.Run(0, sizes)]
            self.feed(
                c.Prepared(work.manifest, None, tuple(runs), tuple((child, None) for child in children))
            )
            return True
        if not self.asked:
            return False
        match self.asked.pop(0):
            case GetManifest(manifest):
                self.feed(c.NodeArrived(manifest, None, self.tree.nodes.get(manifest)))
            case GetChunks(manifest, first, count):
                sizes = self.tree.nodes[manifest][0][first : first + count]
                for i in range(first, first + count):
                    self.stored[manifest, i] = self.stored.get((manifest, i), 0) + 1
                self.feed(c.Arrived(sum(map(c.cost, sizes))))
                self.feed(c.Stored(count, sum(sizes)))
        return True


def start(tree: Tree) -> Peer:
    peer = Peer(tree, c.FetchCore("anna"))
    peer.feed(c.Begin(ROOT, None))
    peer.feed(PeerUp("anna"))
    return peer


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    count = draw(st.integers(1, 30))
    rng = random.Random(draw(st.integers(0, 2**32)))
    names = [ROOT] + [b"n%d" % i for i in range(count)]
    nodes = {}
    for i, name in enumerate(names):
        children = tuple(n for j, n in enumerate(names[i + 1 :], i + 1) if (j - 1) // 3 == i)
        nodes[name] = (
            tuple(rng.choice([1, 1000, 160_000, 524_288]) for _ in range(rng.randint(0, 40))),
            children,
        )
    return Tree(nodes)


@given(trees(), st.integers(0, 2**32), st.lists(st.integers(1, 60), max_size=5))
@settings(max_examples=60, deadline=None)
def test_everything_arrives_whenever_the_link_breaks(tree: Tree, seed: int, breaks: list[int]) -> None:
    rng, peer = random.Random(seed), start(tree)
    for steps in breaks:
        for _ in range(steps):
            peer.step(rng)
        peer.asked.clear()
        peer.feed(PeerDown("anna"))
        while peer.waiting:
            peer.step(rng)
        assert peer.asked == []  # nothing is asked of nobody
        peer.feed(PeerUp("anna"))
    while peer.step(rng):
        pass
    reachable, todo = set(), [ROOT]
    while todo:
        name = todo.pop()
        reachable.add(name)
        todo += tree.nodes[name][1]
    assert set(peer.stored) == {(n, i) for n in reachable for i in range(len(tree.nodes[n][0]))}
    assert set(peer.stored.values()) <= {1}
    assert peer.complete == 1
    assert peer.timer is None
    assert peer.most_under_way <= c.WINDOW_BYTES_MIN * 2 + c.REQUEST_BYTES


def test_small_files_are_asked_for_by_the_hundred() -> None:
    peer = start(Tree({ROOT: ((1000,) * 10_000, ())}))
    rng = random.Random(1)
    requests = []
    while peer.step(rng):
        requests += [m for m in peer.asked if isinstance(m, GetChunks) and m not in requests]
    assert max(m.count for m in requests) == c.REQUEST_BYTES // 1000
    assert len(requests) == -(-10_000 // (c.REQUEST_BYTES // 1000))


def test_a_request_has_a_bounded_number_of_chunks() -> None:
    peer = start(Tree({ROOT: ((1,) * (CHUNKS_PER_REQUEST_MAX + 1), ())}))
    rng = random.Random(1)
    counts = []
    while peer.step(rng):
        counts += [m.count for m in peer.asked if isinstance(m, GetChunks)]
    assert max(counts) == CHUNKS_PER_REQUEST_MAX


def test_the_window_grows_with_rate_and_round_trip() -> None:
    core = c.FetchCore("anna")
    assert core.window_bytes == c.WINDOW_BYTES_MIN
    peer = Peer(Tree({ROOT: ((524_288,) * 400, ())}), core)
    peer.feed(c.Begin(ROOT, None))
    peer.feed(PeerUp("anna"))
    core.rtt_s = 0.1
    rng = random.Random(1)
    while peer.step(rng):
        peer.now += 0.004  # 100 MB/s
    assert 10_000_000 < core.window_bytes < 40_000_000
    core.rtt_s = 60
    assert core.window_bytes == c.WINDOW_BYTES_MAX


def test_a_silent_peer_is_dropped() -> None:
    peer = start(Tree({ROOT: ((1,), ())}))
    assert peer.timer == c.STALL_S
    peer.now = c.STALL_S
    peer.feed(TimerFired("stall"))
    assert [d.close_code for d in peer.drops] == [CloseCode.TIMEOUT]


def test_a_timer_that_comes_too_late_drops_nobody() -> None:
    peer = start(Tree({ROOT: ((), ())}))
    while peer.step(random.Random(1)):
        pass
    peer.feed(TimerFired("stall"))
    assert peer.complete == 1
    assert peer.drops == []


def test_a_peer_without_the_manifest_is_refused_for_good() -> None:
    peer = start(Tree({}))
    peer.step(random.Random(1))
    assert [d.close_code for d in peer.drops] == [CloseCode.REFUSED]


def test_a_tree_of_lies_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(c, "NODES_WAITING_MAX", 10)
    peer = start(Tree({ROOT: ((), tuple(b"%d" % i for i in range(11)))}))
    peer.step(random.Random(1))
    peer.step(random.Random(1))
    assert [d.close_code for d in peer.drops] == [CloseCode.LIMIT]


def test_only_a_few_nodes_are_fetched_ahead() -> None:
    children = tuple(b"c%d" % i for i in range(100))
    peer = start(Tree({ROOT: ((), children)} | {name: ((524_288,) * 100, ()) for name in children}))
    peer.step(random.Random(1))
    peer.step(random.Random(1))
    assert len([m for m in peer.asked if isinstance(m, GetManifest)]) == c.MANIFESTS_AHEAD_MAX
