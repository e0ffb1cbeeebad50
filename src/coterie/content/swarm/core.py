"""The swarm core: which manifest nodes and chunks to ask of whom, how much at once, and when to give up on a peer.

Work is discovered depth first, so that what waits stays small however large the tree: a node is fetched (`AskNode`),
comes prepared by the shell (folders made, chunks that are already on disk found), and then its missing pieces are asked
of whoever has them, and its children of anybody. Bytes never pass through here; the shell reports what it stored.

Which piece: the rarest first among those a source has, ties by chance (Cohen, "Incentives Build Robustness in
BitTorrent", 2003); in order where one source is all there is, and where `Prefer` says so. Of a source that has
everything first those that it has given to nobody else yet (`Given`): so it sends little more than one copy, and
receivers have from each other what it sent before. When all that is missing is under way, a source with nothing to
do is asked for what is late elsewhere too (endgame), and the slower answer is cancelled.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from coterie.content.limit import ByteLimit, Portion
from coterie.content.swarm import pieces as p
from coterie.content.swarm.choice import Choice, Chooser
from coterie.content.swarm.events import (
    Arrived,
    AskChunks,
    AskNode,
    Begin,
    CancelChunks,
    Complete,
    Denied,
    Drop,
    FindProviders,
    Gained,
    Given,
    GiveUp,
    Heard,
    Hold,
    Holds,
    HoldsAll,
    NodeArrived,
    Peer,
    Prefer,
    Prepared,
    Skipped,
    SourceUp,
    Stored,
    Together,
    Wrong,
)
from coterie.content.swarm.state import (
    MANIFEST_COST_BYTES,
    QUEUE_S,
    QUEUE_SWARM_S,
    Child,
    Node,
    Request,
    Source,
    nodes_ahead_max,
    weighed,
)
from coterie.errors import CloseCode
from coterie.machine import Emit, PeerDown, SetTimer, TimerFired

PREPARED_BYTES_MIN = 32 << 20  # while less than this waits to be asked for, look for more nodes
PREPARED_CHUNKS_MAX = 16_384  # and while fewer chunks wait: two full nodes; each takes about 1 KB
NODES_WAITING_MAX = 150_000  # honest: depth x page; measured: 0.6 KB each, 1.8 KB in the deepest lie: 270 MB
STALL_S = 30.0  # as `NetLimits.frame_s`: without a byte for so long a source counts as gone; slow lines lose packets
GONE_S = 300.0  # guess: who answers nothing for so long is left where there are others, heard or not
HAVE_S = 0.05  # what was stored in so long is told at once: while a swarm is young, each hop's delay counts
HAVE_PART = 0.01  # of the time that a download has taken so far: later it is told more seldom
HAVE_MAX_S = 0.1  # simulated, from the beginning on: 0.2 s costs 2 % of the time to complete
ENDGAME_S = 0.1  # how often late answers are looked for once nothing else is left to ask
SOURCES_FEW = 4  # below so many more are looked for


class SwarmCore:
    """One download from any number of peers; see the module's text."""

    def __init__(self, random: Random, buckets: Sequence[ByteLimit | Portion] = ()) -> None:
        """`random` breaks ties; `buckets` limit what is asked for, and belong to whoever changes them."""
        self._buckets = tuple(buckets)
        self._sources: dict[Peer, Source] = {}
        self._to_ask: list[Child] = []  # nodes to be asked for, last first
        self._asked_nodes = 0
        self._nodes: dict[bytes, list[Node]] = {}  # with pieces missing
        self._open: dict[int, Node] = {}  # with pieces that nobody was asked for, as they came
        self._chooser = Chooser(random, self._sources, self._open)
        self._to_pump: dict[Peer, Source] = {}  # may be asked for more, once the event is taken
        self._waiting_bytes = 0
        self._waiting_chunks = 0
        self._gained: dict[bytes, int] = {}
        self._has_gained_timer = False
        self._has_endgame_timer = False
        self._has_rate_timer = False
        self._holdings: dict[bytes, int] = {}
        self._is_held = False
        self._is_done = False
        self._begun_at: float | None = None
        self._out: list[Any] = []
        self.now = 0.0
        self._table()

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        self.now = now
        self._out = []
        if not self._is_done:
            for one in event.events if isinstance(event, Together) else (event,):
                self._take(one)
            for source in self._to_pump.values():
                self._ask_of(source)
            self._to_pump.clear()
            self._check_done()
        return self._out

    def holdings(self) -> dict[bytes, int]:
        """What is here already: pieces by node. Do not change it."""
        return self._holdings

    def parts(self) -> list[tuple[int, int]]:
        """(bits of the pieces that are here, how many pieces there are) of each node known, as they became known."""
        counts = {manifest: bits.bit_length() for manifest, bits in self._holdings.items()}
        counts |= {manifest: len(nodes[0]) for manifest, nodes in self._nodes.items()}
        return [(self._holdings.get(manifest, 0), count) for manifest, count in counts.items()]

    def source(self, peer: Peer) -> Source | None:
        """What is known of a source, to show it."""
        return self._sources.get(peer)

    @property
    def sources(self) -> list[Source]:
        """Every source that is up."""
        return list(self._sources.values())

    def rarest(self) -> int:
        """How many sources have the rarest piece that is missing: below one, what is there cannot be completed now."""
        whole = sum(source.whole for source in self._sources.values())
        nodes = (node for nodes in self._nodes.values() for node in nodes)
        return whole + min((node.rarity.least(node.missing) for node in nodes), default=0)

    def _take(self, event: Any) -> None:
        """A source's event concerns a source that is up; all others come from the shell."""
        if taker := self._takers.get(type(event)):
            taker(event)
        elif (takes := self._source_takers.get(type(event))) and (source := self._sources.get(event.peer)):
            takes(source, event)

    def _table(self) -> None:
        """Where each event goes."""
        self._takers: dict[type, Callable[[Any], None]] = {
            Begin: self._begin,
            SourceUp: self._add_source,
            Prefer: self._prefer,
            Hold: self._hold,
            TimerFired: self._take_timer,
        }
        self._source_takers: dict[type, Callable[[Source, Any], None]] = {
            Arrived: self._take_arrived,
            Heard: self._take_heard,
            Stored: self._take_stored,
            Holds: self._take_holds,
            HoldsAll: self._take_holds_all,
            Given: self._take_given,
            NodeArrived: self._take_node,
            PeerDown: self._lose,
            Denied: self._take_denied,
            Skipped: self._take_skipped,
            Wrong: self._take_wrong,
        }

    def _begin(self, event: Begin) -> None:
        self._begun_at = self.now
        self._to_ask.append((event.manifest, event.place, MANIFEST_COST_BYTES))
        self._out.append(FindProviders())
        self._pump_all()

    def _hold(self, event: Hold) -> None:
        self._is_held = event.is_on
        self._pump_all()

    def _prefer(self, event: Prefer) -> None:
        self._chooser.prefer(event.manifest, event.reader, event.first, event.last)
        if event.last > event.first and event.manifest not in self._nodes:
            self._to_ask.sort(key=lambda asked: asked[0] == event.manifest)  # the last is asked for first
        self._pump_all()

    def _add_source(self, event: SourceUp) -> None:
        for other in self._sources.values():
            if other.is_stalled:
                self._release(other)
        self._sources[event.peer] = Source(event.peer, event.whole, self.now, rtt_s=event.rtt_s)
        self._chooser.others = max(self._chooser.others, event.others)
        self._pump_all()

    def _take_wrong(self, source: Source, event: Wrong) -> None:
        self._out.append(Drop(source.peer, event.reason, event.close_code, ban=True))

    def _take_given(self, source: Source, event: Given) -> None:
        source.given[event.manifest] = source.given.get(event.manifest, 0) | event.pieces

    def _take_timer(self, event: TimerFired) -> None:
        match event.key:
            case "gained":
                self._has_gained_timer = False
                gained, self._gained = self._gained, {}
                self._out += [Gained(manifest, pieces) for manifest, pieces in gained.items()]
            case "rate":
                self._has_rate_timer = False
                self._pump_all()
            case "endgame":
                self._has_endgame_timer = False
                self._pump_all()
            case ("stall", peer):
                if source := self._sources.get(peer):
                    self._watch(source)

    # ---- sources come, tell and go

    def _take_holds(self, source: Source, event: Holds) -> None:
        news = source.note_holds(event.manifest, event.pieces)
        if not source.whole:
            for node in self._nodes.get(event.manifest, ()):
                node.rarity.more(news)
        self._pump(source)

    def _take_holds_all(self, source: Source, _: HoldsAll) -> None:
        if not source.whole:
            self._forget_rarity(source)
            source.whole = True
            source.holds.clear()
            source.lacks.clear()
            source.holds_bytes = 0
            self._pump(source)

    def _forget_rarity(self, source: Source) -> None:
        if source.whole:
            return
        for manifest, nodes in self._nodes.items():
            held = source.holds.get(manifest, 0)
            if held:
                for node in nodes:
                    node.rarity.fewer(held)

    def _lose(self, source: Source, _: PeerDown) -> None:
        del self._sources[source.peer]
        self._release(source)
        self._forget_rarity(source)
        self._give_up_denied()
        if len(self._sources) < SOURCES_FEW:
            self._out.append(FindProviders())
        self._pump_all()

    def _release(self, source: Source) -> None:
        """What it owes may be asked of others now."""
        for request in source.requests:
            self._release_request(source, request)
        self._release_nodes(source)

    def _release_nodes(self, source: Source) -> None:
        back = [asked for n, asked in enumerate(source.asked_nodes) if n >= source.released_nodes]
        source.released_nodes = len(source.asked_nodes)
        self._asked_nodes -= len(back)
        self._to_ask.extend(reversed(back))

    def _release_request(self, source: Source, request: Request) -> None:
        if request.is_released or request.at >= request.last:
            return
        request.is_released = True
        for piece in request.pieces():
            self._drop_asker(request.node, piece, source.peer)

    def _watch(self, source: Source) -> None:
        """Its timer is due: is it silent, or does it drip and answer nothing?"""
        source.has_timer = False
        if not source.waits:
            return
        silent, has_others = self.now - source.last_heard, len(self._sources) > 1
        if silent >= STALL_S or (has_others and source.late_s(self.now) >= GONE_S):
            after_s = STALL_S if silent >= STALL_S else GONE_S
            self._out.append(Drop(source.peer, f"no answer for {after_s:.0f} s"))
            return
        if silent >= source.stall_soon_s or source.is_late(self.now):
            source.is_stalled = True
        if has_others and (source.is_stalled or source.owes_late_node(self.now)):
            (self._release if source.is_stalled else self._release_nodes)(source)
            self._pump_all()
        self._set_stall_timer(source)

    def _set_stall_timer(self, source: Source) -> None:
        if source.has_timer or not source.waits:
            return
        source.has_timer = True
        after = STALL_S if source.is_stalled else source.stall_soon_s
        self._out.append(SetTimer(("stall", source.peer), max(source.last_heard + after, self.now + 0.01)))

    # ---- manifest nodes

    def _take_node(self, source: Source, event: NodeArrived) -> None:
        asked = source.take_node(event.manifest, event.place, self.now)
        if asked is None:
            return
        if source.released_nodes:
            source.released_nodes -= 1
            if event.prepared is None or asked not in self._to_ask:
                return  # somebody else was asked for it meanwhile
            self._to_ask.remove(asked)
        else:
            self._asked_nodes -= 1
        if event.prepared is not None:
            self._take_prepared(event.prepared)
            return
        source.no_nodes[event.manifest] = None
        self._to_ask.append(asked)
        if not any(other.has_node(event.manifest) for other in self._sources.values()):
            reason = "the sharing computer no longer has this share's contents"
            self._out.append(Drop(event.peer, reason, CloseCode.REFUSED))
        else:
            source.refusals += 1
            self._pump_all()

    def _take_prepared(self, event: Prepared) -> None:
        node = Node(event.manifest, event.place, event.sizes, event.missing, event.absent)
        here = ((1 << len(node)) - 1) & ~node.missing & ~node.absent
        self._note_gained(event.manifest, here)
        if node.missing:
            for source in self._sources.values():
                if not source.whole and (held := source.holds.get(event.manifest)):
                    node.rarity.more(held)
            self._nodes.setdefault(event.manifest, []).append(node)
            self._open[id(node)] = node
            for piece in p.members(node.missing):
                first, last = node.starts[piece], node.starts[piece + 1]
                self._waiting_bytes += node.costs[last] - node.costs[first]
                self._waiting_chunks += last - first
        self._to_ask.extend(reversed(weighed(event)))
        if len(self._to_ask) > NODES_WAITING_MAX:
            reason = f"the tree has over {NODES_WAITING_MAX} nodes in waiting"
            self._out += [Drop(peer, reason, CloseCode.LIMIT) for peer in list(self._sources)]
            return
        self._pump_all()

    # ---- chunks

    def _take_arrived(self, source: Source, event: Arrived) -> None:
        source.rtt_s = event.rtt_s or source.rtt_s
        source.is_shallow = event.is_shallow
        source.note_arrived(event.size, self.now)
        self._pump(source)

    def _take_heard(self, source: Source, _: Heard) -> None:
        source.last_heard = self.now
        if source.is_stalled and not source.is_late(self.now):
            source.is_stalled = False
            self._pump(source)

    def _take_stored(self, source: Source, event: Stored) -> None:
        source.stored_chunks += event.count
        left = event.count
        while left and source.requests:
            request = source.requests[0]
            take = min(left, request.last - request.at)
            left -= take
            self._advance(source, request, take)
            if request.at == request.last:
                source.requests.popleft()
        self._pump(source)

    def _advance(self, source: Source, request: Request, count: int) -> None:
        """The next `count` chunks of a request are there."""
        node, first = request.node, request.at
        end = first + count
        request.at = end
        piece = node.piece_of(first)
        while piece < len(node) and node.starts[piece] < end:
            piece_end = min(node.starts[piece + 1], request.last)
            is_done = node.settle(piece, max(first, node.starts[piece]), min(end, piece_end))
            if end >= piece_end:
                self._drop_asker(node, piece, source.peer)
            if is_done:
                self._piece_done(node, piece)
            piece += 1

    def _piece_done(self, node: Node, piece: int) -> None:
        first, last = node.starts[piece], node.starts[piece + 1]
        self._waiting_bytes -= node.costs[last] - node.costs[first]
        self._waiting_chunks -= last - first
        if piece not in node.denied and not node.absent >> piece & 1:
            self._note_gained(node.manifest, 1 << piece)
        for peer in list(node.askers.get(piece, ())):
            self._cancel(peer, node, piece)
        if not node.missing:
            nodes = self._nodes[node.manifest]
            nodes.remove(node)
            if not nodes:
                del self._nodes[node.manifest]
            self._open.pop(id(node), None)

    def _drop_asker(self, node: Node, piece: int, peer: Peer) -> None:
        askers = node.askers.get(piece)
        if askers and peer in askers:
            askers.remove(peer)
            if not askers:
                del node.askers[piece]
                node.asked &= ~(1 << piece)
                if node.open:
                    self._open[id(node)] = node

    def _cancel(self, peer: Peer, node: Node, piece: int) -> None:
        """The piece came from elsewhere: tell `peer`, where it is all that the request still wants."""
        source = self._sources.get(peer)
        if source is None:
            return
        for request in source.requests:
            begun = request.at > request.first or request.is_released
            if request.node is node and not begun and request.pieces() == range(piece, piece + 1):
                request.is_released = True
                count = request.last - request.first
                self._out.append(CancelChunks(peer, node.manifest, request.first, count))
        self._drop_asker(node, piece, peer)

    def _take_denied(self, source: Source, event: Denied) -> None:
        if not source.requests:
            return
        request = source.requests[0]
        node, index = request.node, request.at
        piece = node.piece_of(index)
        request.at += 1
        source.lacks[node.manifest] = source.lacks.get(node.manifest, 0) | 1 << piece
        if not source.whole and node.manifest in source.holds:
            source.holds[node.manifest] &= ~(1 << piece)
        if request.at == request.last or node.starts[piece + 1] == request.at:
            self._drop_asker(node, piece, source.peer)
        if request.at == request.last:
            source.requests.popleft()
        source.refusals += 1
        if node.missing >> piece & 1:
            node.denied[piece] = event.reason
            if not any(other.has(node) >> piece & 1 for other in self._sources.values()):
                self._give_up(node, piece, index, event.reason)
        self._pump(source)

    def _give_up(self, node: Node, piece: int, index: int, reason: Any) -> None:
        self._out.append(GiveUp(node.manifest, node.place, index, reason))
        if node.settle(piece, index, index + 1):
            self._piece_done(node, piece)

    def _give_up_denied(self) -> None:
        """The last that had a piece is gone, and somebody else said that it cannot be had."""
        for node in [node for nodes in self._nodes.values() for node in nodes if node.denied]:
            for piece, reason in list(node.denied.items()):
                if not node.missing >> piece & 1 or not self._sources:
                    continue
                if any(other.has(node) >> piece & 1 for other in self._sources.values()):
                    continue
                for first, last in node.runs(piece):
                    for index in range(first, last):
                        self._give_up(node, piece, index, reason)

    def _take_skipped(self, source: Source, event: Skipped) -> None:
        if not source.requests:
            return
        request = source.requests.popleft()
        was_released = request.is_released
        pieces = 0
        for piece in request.pieces() if request.at < request.last else ():
            pieces |= 1 << piece
        self._release_request(source, request)
        manifest = request.node.manifest
        if event.elsewhere and not request.insist:
            source.given[manifest] = source.given.get(manifest, 0) | pieces
        elif not was_released:
            source.lacks[manifest] = source.lacks.get(manifest, 0) | pieces
            if not source.whole and manifest in source.holds:
                source.holds[manifest] &= ~pieces
            source.refusals += 1
        self._pump_all()

    def _note_gained(self, manifest: bytes, pieces: int) -> None:
        self._holdings[manifest] = self._holdings.get(manifest, 0) | pieces
        self._gained[manifest] = self._gained.get(manifest, 0) | pieces
        if not self._has_gained_timer:
            self._has_gained_timer = True
            after = HAVE_PART * (self.now - (self._begun_at or self.now))
            self._out.append(SetTimer("gained", self.now + min(max(HAVE_S, after), HAVE_MAX_S)))

    # ---- asking

    def _check_done(self) -> None:
        if self._to_ask or self._asked_nodes or self._nodes or not self._holdings:
            return
        self._is_done = True
        self._out += [Gained(manifest, pieces) for manifest, pieces in self._gained.items()]
        self._out.append(Emit(Complete()))

    def _pump_all(self) -> None:
        self._to_pump.update(self._sources)

    def _pump(self, source: Source) -> None:
        self._to_pump[source.peer] = source

    def _ask_of(self, source: Source) -> None:
        """Ask `source` for as much as its window and the look-ahead allow."""
        if source.is_stalled or source.peer not in self._sources:
            return
        if self._to_ask:
            self._ask_nodes()
        while self._has_room(source) and self._may_ask():
            choice = self._chooser.choose(source, self.now) or self._endgame(source)
            if choice is None:
                break
            self._ask(source, *choice)
        if self._chooser.wants_timer:
            self._set_endgame_timer()
        self._set_stall_timer(source)

    def _may_ask(self) -> bool:
        """Whether the rate limits let any chunk be asked for now."""
        if self._is_held:
            return False
        ready = max((bucket.ready_at(self.now) for bucket in self._buckets), default=self.now)
        if ready <= self.now:
            return True
        if not self._has_rate_timer:
            self._has_rate_timer = True
            self._out.append(SetTimer("rate", ready))
        return False

    def _endgame(self, source: Source) -> Choice | None:
        is_more_to_ask = self._open or self._to_ask or self._asked_nodes
        if len(self._sources) < 2 or not self._nodes or is_more_to_ask:
            return None
        return self._chooser.endgame(source, self.now)

    def _has_room(self, source: Source) -> bool:
        waiting = source.coming_bytes + source.nodes_bytes
        if source.is_demoted:
            return waiting == 0
        source.queue_s = QUEUE_S if len(self._sources) < SOURCES_FEW else QUEUE_SWARM_S
        share = min((b.window_share for b in self._buckets), default=1.0)
        window = share * source.window_bytes(is_alone=self._chooser.is_alone)
        return waiting == 0 or waiting < window

    def _ask_nodes(self) -> None:
        """Ask for nodes, each of the least busy source that has it."""
        while self._to_ask and self._may_look_ahead():
            manifest, place, _ = self._to_ask[-1]
            having = [s for s in self._sources.values() if s.may_be_asked_nodes and s.has_node(manifest)]
            if not having:
                return
            source = min(having, key=lambda s: (s.is_demoted, s.coming_bytes + len(s.asked_nodes)))
            self._asked_nodes += 1
            source.ask_node(self._to_ask.pop(), self.now)
            self._out.append(AskNode(source.peer, manifest, place))
            self._set_stall_timer(source)

    def _may_look_ahead(self) -> bool:
        most = nodes_ahead_max(self._to_ask[-1][2] + sum(s.nodes_bytes for s in self._sources.values()))
        few = self._waiting_bytes < PREPARED_BYTES_MIN and self._waiting_chunks < PREPARED_CHUNKS_MAX
        return self._asked_nodes < most and (few or self._to_ask[-1][0] in self._chooser.preferred)

    def _ask(self, source: Source, node: Node, piece: int, insist: bool) -> None:
        """Ask for a piece, and its neighbours as far as they are free and worth one request."""
        if not source.waits:
            source.last_heard = self.now
        runs = node.runs(piece)
        last_piece = piece
        if len(runs) == 1 and not insist and not node.asked >> piece & 1:
            last_piece, last = self._chooser.extend(source, node, piece, runs[0])
            runs = [(runs[0][0], last)]
        for at in range(piece, last_piece + 1):
            node.askers.setdefault(at, []).append(source.peer)
            node.asked |= 1 << at
        for first, last in runs:
            request = Request(node, first, last, first, self.now, insist)
            source.requests.append(request)
            source.coming_bytes += request.cost
            for bucket in self._buckets:
                bucket.take(request.cost, self.now)
            self._out.append(AskChunks(source.peer, node.manifest, node.place, first, last - first, insist))

    def _set_endgame_timer(self) -> None:
        if not self._has_endgame_timer:
            self._has_endgame_timer = True
            self._out.append(SetTimer("endgame", self.now + ENDGAME_S))
