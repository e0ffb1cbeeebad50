"""The NAT matrix without a third peer: two homes that hold each other's tickets, and nobody else in the world.

Each of the two dials what the other's ticket names, at once. A way is what they have beside that: nothing, routers that
map ports, IPv6 behind a firewall in each router. Or a DHT: then one of the two, who has a ticket of the other that
names no address, looks there for the other's id, and knocks; the other does nothing but listen. One more way is one
more line of `WAYS`.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import nat
from tests.lab.directory import Directory
from tests.lab.lab import INTERNET, ROUTABLE, Host, Lab, pairs
from tests.lab.namespace import LabError
from tests.lab.port_mapping import MappingDaemon
from tests.lab.remote import RemotePeer

READY_S = 90.0  # guess: a dozen nodes on a busy machine, that also look for a DHT which some cannot reach
DIAL_S = 15.0  # a dial gives up after 7 s; a busy machine
KNOCK_S = 130.0  # one that knocks after 94 s
AT_ONCE = 4  # pairs that dial side by side
KNOCKS_AT_ONCE = 8  # pairs of which one side knocks: most of it is waiting

_MAPPED = frozenset({nat.OPEN, nat.EASY, nat.PORT_RESTRICTED, nat.SYMMETRIC})


@dataclass(frozen=True)
class Way:
    """What two homes have. `told`: the heading; `reached`: the kinds of which one on either side is enough.

    `perhaps`: pairs that connect when somebody has told both, meanwhile, at which address he sees them.
    """

    told: str
    reached: frozenset[str]
    has_ipv6: bool = False
    has_mapping: bool = False
    perhaps: frozenset[tuple[str, str]] = frozenset()
    has_directory: bool = False  # then one knows the other's id only, and looks there

    def expects(self, one: str, other: str) -> bool:
        """Whether homes of these kinds connect."""
        return nat.UDP_BLOCKED not in (one, other) and bool(self.reached & {one, other})

    def is_right(self, pair: tuple[str, str], found: object) -> bool:
        """Whether it is as expected that they connected (`found` is something) or did not (None)."""
        return pair in self.perhaps or (found is not None) is self.expects(*pair)


WAYS = {
    "nothing": Way("nothing", frozenset({nat.OPEN})),
    "mapping": Way("routers map ports", _MAPPED, has_mapping=True),
    "ipv6": Way("IPv6", frozenset(nat.KINDS), has_ipv6=True),
    "dht": Way(
        "the DHT",
        frozenset({nat.OPEN, nat.EASY, nat.DOUBLE}),
        perhaps=frozenset({(nat.PORT_RESTRICTED, nat.PORT_RESTRICTED)}),
        has_directory=True,
    ),
}


@dataclass
class Column:
    """What became of each pair by one way: seconds until connected and the address used; None when it was not."""

    way: Way
    found: dict[tuple[str, str], tuple[float, str] | None] = field(default_factory=dict)
    said: dict[tuple[str, str], str] = field(default_factory=dict)  # why not
    observed: dict[tuple[str, str], list[str]] = field(
        default_factory=dict
    )  # by kind and side: where others saw it

    def cell(self, pair: tuple[str, str]) -> str:
        """For people."""
        found = self.found[pair]
        if found is None:
            said = "no"
        else:
            said = (
                f"{found[0]:.0f} s"
                if self.way.has_directory and found[0] > 1
                else f"{found[0] * 1000:.0f} ms"
            )
        return said if self.way.is_right(pair, found) else f"{said} (NOT AS EXPECTED)"


def measure(way: Way, wanted: Iterable[tuple[str, str]], **settings: Any) -> Column:
    """Every pair of kinds in `wanted`, by one way; `settings` of every peer."""
    column, wanted = Column(way), list(wanted)
    network = ROUTABLE if way.has_mapping else INTERNET
    with tempfile.TemporaryDirectory() as folder, Lab(network, ipv6=way.has_ipv6) as lab:
        kinds = dict.fromkeys(kind for pair in wanted for kind in pair)
        peers: dict[tuple[str, str], RemotePeer] = {}
        options = _settings(way) | settings
        if way.has_directory:
            options["directory"] = Directory(lab).bootstrap
        for kind in kinds:
            for side in "ab":
                host = _home(lab, way, kind, f"{kind} {side}", Path(folder))
                peer = peers[kind, side] = RemotePeer(host, **options)
                # One after the other: a dozen that start together are slow to ask their routers.
                assert way.has_directory or peer.addresses
        assert all(peer.wait("ready", READY_S) for peer in peers.values())
        at_once = KNOCKS_AT_ONCE if way.has_directory else AT_ONCE
        dial = _knock if way.has_directory else _dial
        for at in range(0, len(wanted), at_once):
            batch = wanted[at : at + at_once]
            dials = {pair: dial(peers[pair[0], "a"], peers[pair[1], "b"]) for pair in batch}
            for pair, both in dials.items():
                column.found[pair], column.said[pair] = _first(both, KNOCK_S if way.has_directory else DIAL_S)
        for name, peer in peers.items():
            told = [e["addresses"] for e in peer.drain() if e["event"] == "observed"]
            column.observed[name] = told[-1] if told else []
            peer.stop()
    return column


def _settings(way: Way) -> dict[str, Any]:
    return {"alone": True, "maps": way.has_mapping, "follows": False}


def _home(lab: Lab, way: Way, kind: str, name: str, folder: Path) -> Host:
    host = lab.home(kind, name)
    if way.has_mapping and host.router is not None:  # the provider's router maps nothing for its customers
        MappingDaemon(host.router, folder)
    return host


def _dial(one: RemotePeer, other: RemotePeer) -> list[tuple[RemotePeer, int]]:
    """Both at once, each what the other's ticket names."""
    pair = ((one, other), (other, one))
    return [
        (peer, peer.tell("connect", peer=there.peer_id, addresses=there.addresses)) for peer, there in pair
    ]


def _knock(one: RemotePeer, other: RemotePeer) -> list[tuple[RemotePeer, int]]:
    """One of them, by the other's id alone."""
    return [(one, one.tell("connect", peer=other.peer_id, by_right=True))]


def _first(dials: Sequence[tuple[RemotePeer, int]], timeout_s: float) -> tuple[tuple[float, str] | None, str]:
    """The quickest of `dials`; else None, and why not."""
    done, said = [], ""
    for peer, number in dials:
        try:
            event = peer.wait("connected", timeout_s, id=number)
        except LabError as error:
            said = str(error)
            continue
        assert event["kind"] == "direct", event
        done.append((float(event["took_s"]), str(event["remote"])))
    return (min(done), "") if done else (None, said)


def measure_all(ways: Sequence[str] = tuple(WAYS)) -> list[Column]:
    """Every pair by each way."""
    return [measure(WAYS[way], pairs()) for way in ways]


def is_as_expected(columns: Iterable[Column]) -> bool:
    """Whether exactly those connected that can."""
    return all(c.way.is_right(pair, found) for c in columns for pair, found in c.found.items())


def text(columns: Sequence[Column]) -> str:
    """The columns beside each other, as Markdown."""
    heads = [column.way.told for column in columns]
    lines = [f"| one side | other side | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for pair in columns[0].found:
        lines.append(f"| {' | '.join([*pair, *(column.cell(pair) for column in columns)])} |")
    table = "\n".join(lines)
    return f"""\
Two homes that hold each other's tickets; each dials what the other's names, at once. The time until they are
connected, always directly; "no": they are not. With nothing else, one of the two must have an address of the internet.
A router that maps ports gives one to its home, unless another router stands before it (`double`). With IPv6 everybody
has one, behind a firewall that lets in only who was called before: both have to call. With the DHT
one of the two, who has a ticket without addresses, knocks for the other's id ([knocks](protocol/knocks.md)), and the
other does nothing but listen: each tells there the address at which the DHT sees it, with its own port, which is right
where its router keeps ports. That takes until the other looks (every 20 s), and up to 15 s until a knock hangs in
a DHT with nodes that do not answer, as in this one. Homes that have met others tell where those see them, which opens
two `port-restricted` ones to each other; and where an earlier pair has just opened a router, it takes milliseconds.

{table}

UDP is needed for all of these."""
