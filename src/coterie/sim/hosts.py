"""The machines under the nodes of a `SimNetwork`: their lines, their routers, their clocks."""

from coterie.identity import PeerId
from coterie.sim.host import Host, Pipe
from coterie.sim.links import Link

_ORDINARY = Host()
PIPES_MAX = 100_000  # of pairs; then those that are idle are dropped: a hundred nodes have 9,900
TALKS_MAX = 100_000  # correspondents remembered by all routers; then those who are forgotten are dropped


class Hosts:
    """What passes the lines of a node and when, and whom the router before it lets in."""

    def __init__(self) -> None:
        self._hosts: dict[PeerId, Host] = {}
        self._up: dict[PeerId, Pipe] = {}
        self._down: dict[PeerId, Pipe] = {}
        self._between: dict[tuple[PeerId, PeerId], Pipe] = {}
        self._talked: dict[tuple[PeerId, PeerId], float] = {}

    def put(self, peer: PeerId, host: Host) -> None:
        """From now on `peer` runs on `host`."""
        self._hosts[peer] = host
        for pipes, bytes_per_s in ((self._up, host.up_bytes_per_s), (self._down, host.down_bytes_per_s)):
            pipes.pop(peer, None)
            if (pipe := Pipe.of(bytes_per_s, host.queue_bytes_max)) is not None:
                pipes[peer] = pipe

    def of(self, peer: PeerId) -> Host:
        """The machine of `peer`."""
        return self._hosts.get(peer, _ORDINARY)

    # ---- lines

    def sent_s(self, sender: PeerId, receiver: PeerId, size_bytes: int, link: Link, now: float) -> float:
        """How long `size_bytes` take to get through the uplink of `sender`, then through its link to `receiver`."""
        self.note(sender, receiver, now)
        at = now
        for pipe in self._ways(sender, receiver, link) if size_bytes else ():
            at = pipe.carry(size_bytes, at)
        return at - now

    def received_s(self, receiver: PeerId, size_bytes: int, now: float) -> float:
        """How long `size_bytes` that have come to the downlink of `receiver` take to get through."""
        pipe = self._down.get(receiver)
        return 0.0 if pipe is None else pipe.carry(size_bytes, now) - now

    def has_room(self, sender: PeerId, receiver: PeerId, size_bytes: int, link: Link, now: float) -> bool:
        """Whether a datagram finds room in the queues on its way out, and now in the receiver's."""
        ways = self._ways(sender, receiver, link)
        if (down := self._down.get(receiver)) is not None:
            ways.append(down)
        return all(pipe.has_room(size_bytes, now) for pipe in ways)

    def _ways(self, sender: PeerId, receiver: PeerId, link: Link) -> list[Pipe]:
        ways = [pipe] if (pipe := self._up.get(sender)) is not None else []
        if link.bytes_per_s is not None:
            own = self._between.get((sender, receiver))
            if own is None or own.bytes_per_s != link.bytes_per_s:
                if len(self._between) >= PIPES_MAX:
                    self._between.clear()  # a queue forgotten is a queue sent: rather that than no end
                own = self._between[sender, receiver] = Pipe(link.bytes_per_s, link.queue_bytes_max)
            ways.append(own)
        return ways

    # ---- routers

    def note(self, sender: PeerId, receiver: PeerId, now: float) -> None:
        """`sender` writes to `receiver`: the router before `sender`, if there is one, will let it answer."""
        if self.of(sender).is_reachable:
            return
        if len(self._talked) >= TALKS_MAX:
            self._talked = {
                pair: at for pair, at in self._talked.items() if now - at <= self.of(pair[0]).nat_mapping_s
            }
        self._talked[sender, receiver] = now

    def lets_in(self, dialler: PeerId, peer: PeerId, now: float) -> bool:
        """Whether what `dialler` sends gets past the router of `peer`."""
        host = self.of(peer)
        if host.is_reachable:
            return True
        heard_at = self._talked.get((peer, dialler))
        return heard_at is not None and now - heard_at <= host.nat_mapping_s
