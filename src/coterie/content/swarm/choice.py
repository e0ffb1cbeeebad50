"""Which piece to ask of a source: see `coterie.content.swarm.core` for the rules."""

from collections.abc import Set
from random import Random

from coterie.content.swarm import pieces as p
from coterie.content.swarm.events import Peer
from coterie.content.swarm.state import Node, Source

REQUEST_BYTES = 512 << 10  # measured: with less, the messages cost; with more, too few are under way
REQUEST_BYTES_MAX = 32 << 20  # of a source that is alone: measured, each request costs both sides 0.7 ms
REQUESTS_IN_WINDOW = 3  # of a source that is alone; guess: one that is answered is never the last
REQUEST_S = 0.2  # a request is about what a source brings in so long; guess
REQUEST_CHUNKS_MAX = 4096  # as many as a manifest page has entries
PATIENCE_S = 0.25  # before a source is asked for what it gave to others; guess: they need a moment to tell
ENDGAME_LATE_S = 0.3  # guess: an answer is late when it takes longer than this; two lost packets in a row
ENDGAME_ASKERS_MAX = 2  # sources asked for one piece at once

Choice = tuple[Node, int, bool]
"""(node, piece, whether to insist)"""


class Chooser:
    """Chooses among the pieces of `open` nodes (by any key, in the order they came) for one of `sources`."""

    def __init__(self, random: Random, sources: dict[Peer, Source], open_nodes: dict[int, Node]) -> None:
        self.preferred: dict[bytes, dict[int, tuple[int, int]]] = {}  # chunks of a node, for each reader
        self.others = 0  # how many besides us were asking a source when we came
        self.wants_timer = False  # something to ask may come with time alone
        self._random = random
        self._sources = sources
        self._open = open_nodes

    def choose(self, source: Source, now: float) -> Choice | None:
        """What to ask of `source` next; None when it has nothing that may be asked of it now."""
        self.wants_timer = False
        if self.preferred and (wanted := self._preferred(source)):
            return wanted
        given_node: Node | None = None
        for key, node in list(self._open.items()):
            free = node.open
            if not free:
                del self._open[key]
                continue
            among = free & source.has(node)
            if among and source.is_demoted:
                among = self._only_here(source, node, among)
            if not among:
                continue
            fresh = among & ~source.given.get(node.manifest, 0)
            if fresh:
                source.insist_at = 0.0
                return node, self._pick(node, fresh), False
            given_node = given_node or node
        if given_node is not None:
            return self._insist(source, given_node, now)
        return None

    def prefer(self, manifest: bytes, reader: int, first: int, last: int) -> None:
        """See `Prefer`."""
        ranges = self.preferred.setdefault(manifest, {})
        ranges.pop(reader, None)
        if last > first:
            ranges[reader] = first, last
        if not ranges:
            del self.preferred[manifest]

    def _preferred(self, source: Source) -> Choice | None:
        """What somebody waits for: from whoever has it, given to others or not.

        Who said so last comes first, and reader 0, which stands for all that will be read, after all others.
        """
        readers = {reader for ranges in self.preferred.values() for reader in ranges}
        return (self._wished(source, readers - {0}) if readers - {0} else None) or self._wished(source, {0})

    def _wished(self, source: Source, readers: Set[int]) -> Choice | None:
        for node in self._open.values():
            ranges = {r: span for r, span in self.preferred.get(node.manifest, {}).items() if r in readers}
            among = node.open & source.has(node) if ranges else 0
            if not among or (source.is_demoted and not self._only_here(source, node, among)):
                continue
            for first, last in reversed(ranges.values()):
                start, end = node.piece_of(first), node.piece_of(last - 1) + 1
                wanted = among & ((1 << end) - (1 << start))
                if wanted:
                    return node, p.lowest(wanted), True
        return None

    def _only_here(self, source: Source, node: Node, among: int) -> int:
        for other in self._sources.values():
            if other is not source and not other.is_stalled and not other.is_demoted:
                among &= ~other.has(node)
        return among

    def _insist(self, source: Source, node: Node, now: float) -> Choice | None:
        """Nothing is left but what `source` gave to others: wait a moment for them to offer it, then ask."""
        if not source.insist_at:
            source.insist_at = now + PATIENCE_S
        if now < source.insist_at:
            self.wants_timer = True
            return None
        among = node.open & source.has(node)
        return node, self._pick(node, among), True

    def _pick(self, node: Node, among: int) -> int:
        if self.is_alone:
            return p.lowest(among)
        rarest = node.rarity.rarest(among) or among
        return p.choose(rarest, self._random)

    @property
    def is_alone(self) -> bool:
        return len(self._sources) == 1 and not self.others

    def extend(self, source: Source, node: Node, piece: int, run: tuple[int, int]) -> tuple[int, int]:
        """How far a request that begins with this run may go: (last piece, behind the last chunk)."""
        first, last = run
        if last != node.starts[piece + 1]:
            return piece, last
        most = min(REQUEST_BYTES, source.rate * REQUEST_S)
        if self.is_alone:
            most = max(
                REQUEST_BYTES,
                min(REQUEST_BYTES_MAX, source.window_bytes(is_alone=True) // REQUESTS_IN_WINDOW),
            )
        free = node.open & source.has(node) & ~source.given.get(node.manifest, 0)
        size = sum(node.sizes[first:last])
        while piece + 1 < len(node) and free >> (piece + 1) & 1 and (piece + 1) not in node.left:
            end = node.starts[piece + 2]
            size += sum(node.sizes[last:end])
            if size > most or end - first > REQUEST_CHUNKS_MAX:
                break
            piece, last = piece + 1, end
        return piece, last

    def endgame(self, source: Source, now: float) -> Choice | None:
        """Something that is late elsewhere: for when all that is missing is under way."""
        mine = source.rtt_s + (source.coming_bytes / source.rate if source.rate else 0.0)
        late = max(ENDGAME_LATE_S, 2 * mine)
        for other in self._sources.values():
            if other is source:
                continue
            for request in other.requests:
                if request.is_released or request.at >= request.last or now - request.asked_at < late:
                    continue
                for piece in request.pieces():
                    askers = request.node.askers.get(piece, ())
                    if len(askers) >= ENDGAME_ASKERS_MAX or source.peer in askers:
                        continue
                    if source.has(request.node) >> piece & 1:
                        return request.node, piece, True
        self.wants_timer = True
        return None
