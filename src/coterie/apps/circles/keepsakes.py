"""What several deposits for one phrase say together. Pure.

Anybody may have deposited rubbish, and a stolen computer of the person seals what it likes: nothing rests on one
deposit. Each that opens is taken whose log of computers the paper key itself agreed to, which ties it to the person;
then the logs, the circles and the contacts of all of them are added up.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice, zip_longest

import msgspec

from coterie.access.circle import Circle
from coterie.access.circle_ops import ID_BYTES, Kind, OpRefused, SignedOp, read_op
from coterie.access.names import fit
from coterie.apps.circles.recovery import (
    CARDS_MAX,
    CIRCLES_MAX,
    HOSTS_MAX,
    Card,
    Keepsake,
    Membership,
    PhraseKeys,
    unseal,
)
from coterie.errors import CoterieError, PeerError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES


class Recovered(msgspec.Struct, frozen=True):
    """Who comes back: the person, the log of its computers, its circles and contacts."""

    person: bytes
    own: Circle
    memberships: list[Membership]
    cards: list[Card]

    def is_in(self, paper: PeerId) -> bool:
        """Whether the paper key may still act in the log: the person is in it, and lists the key."""
        member = self.own.state.member(PeerId(self.person))
        return member is not None and paper in member.papers

    def is_replaced(self, paper: PeerId) -> bool:
        """Whether other words took the place of these: only a paper key removes a paper key."""
        return any(one.op.kind == Kind.REMOVE_DEVICE and one.op.device == paper for one in self.own.log.ops)


def add_up(deposits: Iterable[tuple[int, bytes]], keys: PhraseKeys) -> Recovered | None:
    """All that `deposits` (version, sealed) bring back; None when there is nothing real among them."""
    read: dict[bytes, SignedOp] = {}
    opened: list[tuple[int, Keepsake, Circle]] = []
    for version, sealed in sorted(dict.fromkeys(deposits), reverse=True):
        with suppress(CoterieError):
            keepsake = unseal(sealed, keys.sealing)
            opened.append((version, keepsake, _own_log(keepsake, keys, read)))
    if not opened:
        return None
    own = _merged([circle for _, _, circle in opened], keys.paper.peer_id, PeerId(opened[0][1].person))
    keepsakes = [keepsake for _, keepsake, _ in opened]
    return Recovered(keepsakes[0].person, own, _memberships(keepsakes), _cards(keepsakes))


def _own_log(keepsake: Keepsake, keys: PhraseKeys, read: dict[bytes, SignedOp]) -> Circle:
    """The log of the person's computers. Raises `CoterieError` unless it is whole, and the paper key agreed to it."""
    if len(keepsake.person) != KEY_BYTES or not keepsake.own_ops:
        raise PeerError("a deposit without a person")
    for raw in keepsake.own_ops:
        if raw not in read:
            read[raw] = read_op(raw)
    first, *others = (read[raw] for raw in keepsake.own_ops)
    circle = Circle(first)
    for signed in others:
        circle.add(signed)
    paper = keys.paper.peer_id
    is_of = any(
        one.op.kind == Kind.ADD_DEVICE and one.op.device == paper and one.op.person == keepsake.person
        for one in circle.log.ops
    )
    if circle.id != keepsake.own_circle or not is_of:
        raise OpRefused("a deposit with the log of somebody else")
    return circle


def _merged(circles: Sequence[Circle], paper: PeerId, person: PeerId) -> Circle:
    """One log: of several, the one where the paper key may act, then the one that most deposits hold."""
    same: dict[bytes, list[Circle]] = {}
    for circle in circles:
        same.setdefault(circle.id, []).append(circle)
    for first, *others in same.values():
        for signed in chain.from_iterable(islice(other.log.ops, 1, None) for other in others):
            with suppress(CoterieError):
                first.add(signed)

    def rank(group: list[Circle]) -> tuple[bool, int]:
        member = group[0].state.member(person)
        return member is not None and paper in member.papers, len(group)

    return max(same.values(), key=rank)[0]


def _memberships(keepsakes: Sequence[Keepsake]) -> list[Membership]:
    """Every circle once, with hosts by turns of each deposit: none crowds out what another says."""
    by_turns = chain.from_iterable(zip_longest(*(keepsake.memberships for keepsake in keepsakes)))
    found: dict[bytes, list[Membership]] = {}
    for one in by_turns:
        if one is not None and len(one.circle) == ID_BYTES:
            found.setdefault(one.circle, []).append(one)
    return [
        Membership(circle, fit(said[0].title), _by_turns([one.hosts for one in said], HOSTS_MAX))
        for circle, said in list(found.items())[:CIRCLES_MAX]
    ]


def _by_turns(lists: Sequence[list[bytes]], most: int) -> list[bytes]:
    hosts = chain.from_iterable(zip_longest(*lists))
    return list(dict.fromkeys(host for host in hosts if host is not None and len(host) == KEY_BYTES))[:most]


def _cards(keepsakes: Sequence[Keepsake]) -> list[Card]:
    found: dict[bytes, Card] = {}
    for card in chain.from_iterable(zip_longest(*(keepsake.cards[:CARDS_MAX] for keepsake in keepsakes))):
        if card is not None:
            found.setdefault(card.peer, card)
    return list(found.values())
