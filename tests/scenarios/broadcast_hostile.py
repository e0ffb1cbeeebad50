"""Broadcast with hostile members: what each kind of malice does to the honest ones, beside an honest network.

One in ten members turns hostile after the network has settled, each scenario anew with the same seed:

- *garbage*: every message it sends has fields of another content. What does not decode never reaches a core: the
  stream ends, which the other side takes for a lost connection.
- *replay*: repeats an old message, of any kind, to somebody, for each that it gets.
- *forged authors*: publishes a made-up message of somebody else ten times a second to each neighbour.
- *shuffle flood*: sends a shuffle with itself and seven made-up peers ten times a second to each neighbour.
- *unsolicited*: sends whole messages to strangers whom it has never met, ten a second.
- *answers with itself*: in every sample of peers there is only itself, and it accepts everybody.
- *silent*: takes everything and passes on nothing.

Each sends at most 100 messages a second in all. The authors of HyParView and Plumtree consider failures, not malice:
there are no figures of theirs.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from coterie.errors import CoterieError
from coterie.machine import Machine, Send
from coterie.rate import Rate
from coterie.sim.adversary import Flooding, Garbage, Replaying, Silent, Twisting
from coterie.wire.broadcast import PROTOCOL, Answer, Entry, Gossip, Neighbour, Shuffle, ShuffleReply
from coterie.wire.frames import HEADER
from tests.overlay.village import TOPIC, Village
from tests.scenarios.frame import Report, Scenario

HOSTILE = 0.1
FLOOD_PER_S = 10.0
UPLINK_PER_S = (
    100.0  # messages of one hostile member: two that replay would otherwise answer each other for ever
)

Make = Callable[[Machine, Random], Machine]


class Decoded:
    """What the network does: only what decodes arrives, and an uplink has an end."""

    def __init__(self, core: Machine) -> None:
        self._core = core
        self._uplink = Rate(UPLINK_PER_S, UPLINK_PER_S)

    def handle(self, event: Any, now: float) -> list[Any]:
        return [
            output
            for output in self._core.handle(event, now)
            if type(output) is not Send or (self._uplink.take(now) and _decodes(output.message))
        ]


def _decodes(message: Any) -> bool:
    try:
        frame = PROTOCOL.encode(message)
        PROTOCOL.decode(HEADER.unpack_from(frame)[1], frame[HEADER.size :])
    except CoterieError:
        return False
    return True


def _forged(random: Random) -> Gossip:
    author, at = random.randbytes(32), random.randrange(2**20)
    return Gossip(TOPIC, author, at, random.randbytes(64), random.randbytes(64), 0)


def _shuffle(village: Village, random: Random) -> Shuffle:
    entries = [Entry(random.randbytes(32)) for _ in range(7)]
    origin = Entry(bytes(random.choice(village.names)))
    return Shuffle(TOPIC, origin, random.getrandbits(32), entries, 6)


def _with_itself(me: bytes) -> Callable[[Send, Any], list[Any]]:
    def rewrite(send: Send, _event: Any) -> list[Any]:
        match send.message:
            case Shuffle() | ShuffleReply():
                entries = [Entry(me)] * 8
                return [Send(send.peer, msgspec.structs.replace(send.message, entries=entries))]
            case Answer():
                return [Send(send.peer, Answer(TOPIC, True))]
            case Neighbour():
                return [Send(send.peer, Neighbour(TOPIC, 1))]
        return [send]

    return rewrite


def _kinds(village: Village, hostile: list[Any]) -> dict[str, Callable[[Any], Make] | None]:
    def flooding(make: Callable[[Random], Any], targets: list[Any]) -> Make:
        return lambda core, rng: Decoded(
            Flooding(core, rng, make=make, per_s=FLOOD_PER_S, burst=5, targets=targets)
        )

    strangers = village.names[:: max(1, len(village.names) // 10)]
    return {
        "nobody": None,
        "garbage": lambda name: lambda core, rng: Decoded(Garbage(core, rng)),
        "replay": lambda name: lambda core, rng: Decoded(Replaying(core, rng, copies=1)),
        "forged authors": lambda name: flooding(_now_forged(village), []),
        "shuffle flood": lambda name: flooding(lambda rng: _shuffle(village, rng), []),
        "unsolicited": lambda name: flooding(_now_forged(village), strangers),
        "answers with itself": lambda name: lambda core, rng: Twisting(core, _with_itself(bytes(name))),
        "silent": lambda name: Silent,
    }


def _now_forged(village: Village) -> Callable[[Random], Gossip]:
    def make(random: Random) -> Gossip:
        return msgspec.structs.replace(_forged(random), at=int(1000 * village.world.now))

    return make


def run(report: Report, seed: int, *, nodes: int, broadcasts: int) -> None:
    """The same network for every kind of malice."""
    rows = []
    for kind in _kinds(Village(2, seed), []):
        village = Village(nodes, seed)
        village.run(village.joined_s + 60)
        for number in range(3):
            village.publish(village.names[number], b"settling %d" % number)
            village.run(4)
        hostile = village.rng.sample(village.names[1:], round(HOSTILE * nodes))
        make = _kinds(village, hostile)[kind]
        for name in hostile if make is not None else []:
            village.world.corrupt(name, make(name))
        village.run(60)
        rows.append((kind, *_outcome(village, hostile, broadcasts)))
        report.world(village.world)
    columns = (
        "malice",
        "reliability, lowest",
        "within 4 s",
        "redundancy",
        "hostile share of active views",
        "of passive views",
        "false deliveries",
    )
    report.table("One member in ten is hostile", columns, rows)
    for kind, lowest, *_, false in rows:
        report.claim(f"{kind}: reliability among the honest", lowest, at_least=0.99)
        report.claim(f"{kind}: false or repeated deliveries", false, at_most=0)
    floods = {row[0]: row for row in rows}
    report.claim(
        "answers with itself: hostile share of active views", floods["answers with itself"][4], at_most=0.5
    )
    report.claim("shuffle flood: made-up share of passive views", floods["shuffle flood"][5], at_most=0.9)


def _outcome(village: Village, hostile: list[Any], broadcasts: int) -> tuple[float, ...]:
    bad = dict.fromkeys(hostile)
    honest = [name for name in village.names if name not in bad]
    sources = village.rng.choices(honest, k=broadcasts)
    payloads = [b"honest %d" % number for number in range(broadcasts)]
    duplicates = sum(village.messages(name).duplicates for name in honest)
    early = []
    for source, payload in zip(sources, payloads, strict=True):
        village.publish(source, payload)
        village.run(4)
        early.append(sum(name in village.reached[payload] for name in honest) / (len(honest) - 1))
    village.run(60)
    reliability = [
        sum(name in village.reached[payload] for name in honest) / (len(honest) - 1) for payload in payloads
    ]
    copies = sum(village.messages(name).duplicates for name in honest) - duplicates
    known = dict.fromkeys([*payloads, *(b"settling %d" % n for n in range(3))])
    false = village.twice + sum(len(village.reached[p]) for p in village.reached if p not in known)
    real = dict.fromkeys(village.names)
    active = [peer in bad or peer not in real for name in honest for peer in village.membership(name).active]
    passive = [
        peer in bad or peer not in real for name in honest for peer in village.membership(name).passive
    ]
    return (
        min(reliability),
        min(early),
        copies / len(honest) / broadcasts,
        sum(active) / max(1, len(active)),
        sum(passive) / max(1, len(passive)),
        false,
    )


SCENARIO = Scenario(
    "broadcast-hostile",
    "Broadcast among hostile members",
    __doc__,
    run,
    small={"nodes": 30, "broadcasts": 2},
    full={"nodes": 200, "broadcasts": 5},
    full_cpu_s=90,
)
