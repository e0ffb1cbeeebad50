"""What of the apps' offers a peer sees: what it may list, in order, in bounded answers."""

import pytest

from coterie.access.enforcer import Enforcer
from coterie.access.policy import CONTACT, Standing, of_peer
from coterie.access.resource import ResourceKind, Verb
from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.services.directory import core
from coterie.services.directory.core import Catalogue, Offered
from coterie.services.directory.messages import NOTE_CHARS_MAX, OFFERS_MAX, Ask

OWN, ANNA, EVE = (SecretKey(bytes([number]) * 32).peer_id for number in (1, 2, 4))


class Scene:
    """A catalogue of two kinds: boxes are listed, bells are used."""

    def __init__(self) -> None:
        self.access = Enforcer(OWN, self._standing)
        self.access.declare(ResourceKind("box", Verb.LIST | Verb.READ, "a box"))
        self.access.declare(ResourceKind("bell", Verb.USE, "a bell"))
        self.catalogue = Catalogue(self.access)
        self.boxes: list[Offered] = []
        self.asked: list[PeerId] = []
        self.catalogue.add("box", self._offers)
        self.catalogue.add("bell", lambda peer: [Offered(resource="bell/1", name="door", note="loud")])

    def _standing(self, peer: PeerId) -> Standing:
        return Standing(contact=peer == ANNA)

    def _offers(self, peer: PeerId) -> list[Offered]:
        self.asked.append(peer)
        return self.boxes

    def names(self, peer: PeerId, ask: Ask | None = None) -> list[tuple[str, str]]:
        return [(offer.kind, offer.name) for offer in self.catalogue.answer(peer, ask or Ask()).offers]


def box(name: str) -> Offered:
    return Offered(resource=f"box/{name}", name=name, form="chest", size=7)


def test_a_peer_sees_what_the_policy_lets_it_list_whatever_the_app_says() -> None:
    s = Scene()
    s.boxes = [box("b"), box("a")]
    assert s.names(ANNA) == []
    s.access.policy.permit(of_peer(ANNA), Verb.READ, "box/a")  # who may read and not list knows its name
    assert s.names(ANNA) == []
    s.access.policy.permit(CONTACT, Verb.LIST, "box/b")
    s.access.policy.permit(CONTACT, Verb.USE, "bell/1")
    assert s.names(ANNA) == [("bell", "door"), ("box", "b")]
    assert s.names(EVE) == []
    assert s.names(OWN) == [("bell", "door"), ("box", "a"), ("box", "b")]
    s.access.policy.withdraw("bell/1")
    assert s.names(ANNA) == [("box", "b")]
    offer = s.catalogue.answer(ANNA, Ask()).offers[0]
    assert (offer.form, offer.size, offer.files) == ("chest", 7, None)


def test_it_is_asked_for_each_peer_and_each_request_and_no_more_when_the_app_has_ended() -> None:
    s = Scene()
    s.names(ANNA)
    s.names(EVE)
    assert s.asked == [ANNA, EVE]
    s.catalogue.remove("box")
    s.names(ANNA)
    assert s.asked == [ANNA, EVE]


def test_long_lists_come_in_parts_and_whole() -> None:
    s = Scene()
    s.access.policy.permit(CONTACT, Verb.LIST, "box")
    s.access.policy.permit(CONTACT, Verb.USE, "bell")
    s.boxes = [
        box(f"{number:04}") for number in range(OFFERS_MAX)
    ]  # with the bell one more than an answer has
    first = s.catalogue.answer(ANNA, Ask())
    assert (len(first.offers), first.more) == (OFFERS_MAX, True)
    rest = s.catalogue.answer(ANNA, Ask("box", first.offers[-1].name))
    assert ([o.name for o in rest.offers], rest.more) == ([f"{OFFERS_MAX - 1:04}"], False)
    assert s.names(ANNA, Ask("zzz", "")) == []


def test_what_an_app_offers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Scene()
    s.access.policy.permit(CONTACT, Verb.LIST, "box")
    monkeypatch.setattr(core, "OFFERED_MAX", 3)
    s.boxes = [box(name) for name in "abcd"]
    assert s.names(ANNA) == [("box", "a"), ("box", "b"), ("box", "c")]
    s.boxes = [Offered(resource="box/a", name="a", note="n" * (NOTE_CHARS_MAX + 1))]
    assert len(s.catalogue.answer(ANNA, Ask()).offers[0].note) == NOTE_CHARS_MAX


def test_a_kind_is_offered_by_one_app_that_declared_it() -> None:
    s = Scene()
    with pytest.raises(UsageError, match="'box' is no kind"):
        s.catalogue.add("box", lambda peer: [])
    with pytest.raises(UsageError, match="'car' is no kind"):
        s.catalogue.add("car", lambda peer: [])
