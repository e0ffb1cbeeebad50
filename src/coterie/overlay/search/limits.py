"""Bounds of searches: how far they go, how long they take, what each peer may make us do."""

import msgspec

from coterie.overlay.search.messages import FLOOD_HOPS_MAX, WALK_HOPS_MAX, WALKERS_MAX

CHECK_EVERY_HOPS = 4  # Lv et al. 2002, section 4.2: checking every fourth step balances cost and use
FANOUT = 4  # neighbours a flood is passed on to: an active view of 5 (HyParView) less the one it came from


class Flood(msgspec.Struct, frozen=True):
    """Ask everybody within `hops`."""

    hops: int = FLOOD_HOPS_MAX


class ExpandingRing(msgspec.Struct, frozen=True):
    """Floods of more and more hops until enough is found: Lv et al. 2002, section 4.1, from 1 by 2."""

    first_hops: int = 1
    step_hops: int = 2
    last_hops: int = FLOOD_HOPS_MAX


class Walks(msgspec.Struct, frozen=True):
    """Random walks beside each other, which ask the asker every few steps whether to go on."""

    walkers: int = 32  # Lv et al. 2002, section 4.2: 32 where we measured 10,000 nodes too, docs/scenarios
    hops: int = 256  # 32 walkers take 8,192 steps together: 99.97 % of what stands on 0.1 % of the nodes


Strategy = Flood | ExpandingRing | Walks


class SearchLimits(msgspec.Struct, frozen=True):
    """What a node does for others and for itself at most.

    Attributes:
        seen_max: questions remembered, so that each is answered and passed on once; the oldest is forgotten.
        searches_max: own searches under way.
        answers_max: peers whose answers one own search takes, whatever it wanted.
        relayed_max: answers to one question that are passed back along its way.
        parked_max: walkers that wait here for their asker's word.
        parked_per_peer_max: of these, those that came from one peer.
        neighbours_max: to whom a flood is passed on.
        peers_max: peers whose budgets are remembered.
        budget_per_s, budget_burst: messages that one peer may make the network send through us, see `cost`.
        lifetime_max_s: of a question; beyond it, or past it, it is dropped.
        skew_s: how wrong clocks may be.
        hop_wait_s: after a ring of h hops the next waits h + 1 times this.
        verdict_wait_s: for the asker's word; then the walker dies.
        walker_silent_s: a walker not heard of for so long is replaced by the asker.
        unchecked_hops: of a walker whose asker cannot be asked.
    """

    seen_max: int = 4096  # guess: 4 MB at most; a minute of 68 questions a second
    searches_max: int = 64  # guess
    answers_max: int = 256  # one more than can be wanted
    relayed_max: int = 32  # guess
    parked_max: int = 1024  # guess: 1 MB at most
    parked_per_peer_max: int = 256  # guess: nobody takes the room of four others
    neighbours_max: int = 16  # guess: three active views
    peers_max: int = 1024  # guess: connections of a large node
    budget_per_s: float = 512.0  # guess: two fresh walkers a second, or a flood of 7 hops every 8 s
    budget_burst: float = 32_768.0  # guess: 8 floods of 7 hops, or 4 times the default walks through one link
    lifetime_max_s: float = 120.0  # guess: nobody waits longer
    skew_s: float = 60.0  # guess: machines without a time service; kept synchronised they are within 1 s
    hop_wait_s: float = (
        0.4  # the 99th percentile of one way in the King map, 0.18 s, and a connection's start
    )
    verdict_wait_s: float = 5.0  # guess: a dial and an answer
    walker_silent_s: float = 15.0  # guess: four hops, two dials and what is slow there
    unchecked_hops: int = 64  # guess: nobody can stop it


def flood_cost(hops_left: int) -> float:
    """Messages that a flood with so many hops left may still cause: what its sender is charged for it."""
    return float(FANOUT**hops_left)


def walk_cost(hops_left: int) -> float:
    """The same of a walker; with a fresh one's hundreds of hops it is charged where it enters the network."""
    return 1.0 + hops_left


assert Walks().walkers <= WALKERS_MAX  # noqa: S101 - two constants that must fit each other
assert Walks().hops <= WALK_HOPS_MAX  # noqa: S101
