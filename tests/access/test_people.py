"""Names: unique, readable, and what a person means by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from coterie.access.names import distinct
from coterie.access.people import SOURCES_MAX, Known, KnownCircle, People, Source
from coterie.access.policy import ANYONE, CONTACT, Standing, of_circle, of_peer
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId, SecretKey

ONE, TWO, THREE = (SecretKey(bytes([number]) * 32).peer_id for number in (1, 2, 3))
FAMILY = KnownCircle("circleid", "family")


def people(*known: Known, circles: tuple[KnownCircle, ...] = (FAMILY,)) -> People:
    """One source for contacts and for each circle that somebody is known from."""
    made = People()
    sources: dict[tuple[bool, int], dict[PeerId, Known]] = {}
    for one in known:
        place = next(n for n in range(len(known)) if one.peer not in sources.get((one.contact, n), {}))
        sources.setdefault((one.contact, place), {})[one.peer] = one
    for (is_chosen, _), those in sources.items():
        made.register(
            Source(
                of=next(iter(those.values())).of,
                is_chosen=is_chosen,
                names=lambda those=those: {peer: one.name for peer, one in those.items()},  # type: ignore[misc]
                standing=lambda peer, those=those: Standing(  # type: ignore[misc]
                    persons=(those[peer].person,) if peer in those and those[peer].person else ()
                ),
            )
        )
    made.register(Source(of="circle", names=dict, circles=lambda: circles))
    return made


def test_a_name_that_only_one_has_is_bare() -> None:
    names = people(Known(ONE, "anna"), Known(TWO, "ben")).names()
    assert {name: known.peer for name, known in names.items()} == {"anna": ONE, "ben": TWO}


def test_two_people_called_anna_are_both_reachable() -> None:
    here = people(Known(ONE, "anna", contact=False), Known(TWO, "Anna", contact=False))
    names = list(here.names())
    assert names == [f"anna~{str(ONE)[:3]}", f"Anna~{str(TWO)[:3]}"]
    assert [here.find(name) for name in names] == [ONE, TWO]
    with pytest.raises(UsageError, match="may be any of"):
        here.find("anna")


def test_a_contact_keeps_the_bare_name_before_a_member_of_a_circle() -> None:
    here = people(Known(ONE, "anna", contact=False, of="circle"), Known(TWO, "anna"))
    assert here.find("anna") == TWO
    assert here.find(f"anna~{str(ONE)[:3]}") == ONE


def test_one_who_is_known_twice_is_one() -> None:
    here = people(Known(ONE, "anna b", contact=False), Known(ONE, "anna"))
    assert list(here.names()) == ["anna"]


def test_what_somebody_is_called_in_a_circle_finds_them_beside_the_name_here() -> None:
    here = people(Known(ONE, "carl"), Known(ONE, "karl", contact=False), Known(TWO, "anna"))
    assert here.find("carl") == here.find("Karl") == ONE
    assert here.name_of(ONE) == "carl"


def test_a_name_in_a_circle_finds_nobody_when_it_may_mean_two() -> None:
    here = people(
        Known(ONE, "carl"),
        Known(TWO, "dora"),
        Known(ONE, "karl", contact=False),
        Known(TWO, "karl", contact=False),
        Known(THREE, "eve"),
        Known(TWO, "eve", contact=False),
    )
    with pytest.raises(UsageError, match="any of carl, dora"):
        here.find("karl")
    assert here.find("eve") == THREE  # her own name goes before what another is called somewhere


def test_an_id_or_its_beginning_will_do() -> None:
    here = people(Known(ONE, "anna"))
    assert here.find(str(ONE)) == here.find(str(ONE)[:6]) == ONE
    assert here.find(str(THREE)) == THREE  # nobody known, but a whole id
    assert (
        here.find("\u201c" + THREE.words.replace(" ", "\u2011") + "\u201d.") == THREE
    )  # as a letter has its words
    with pytest.raises(NotFound, match="nobody called 'carl'"):
        here.find("carl")
    assert here.name_of(THREE) == THREE.short


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("anyone", ANYONE),
        ("contacts", CONTACT),
        ("ticket", "ticket"),
        ("family", of_circle("circleid")),
        ("FAMILY:guest", of_circle("circleid", "guest")),
        ("family:owner", of_circle("circleid", "owner")),
        ("anna", of_peer(ONE)),
    ],
)
def test_what_is_meant(text: str, subject: str) -> None:
    assert people(Known(ONE, "anna")).subject(text) == subject


@pytest.mark.parametrize(
    ("said", "subject"),
    [
        ("anyone", ANYONE),
        ("family", of_circle("circleid")),
        ("family:guest", of_circle("circleid", "guest")),
        ("anna", of_peer(ONE)),
        ("another", "another"),
    ],
)
def test_what_is_said(said: str, subject: str) -> None:
    assert people(Known(ONE, "anna")).say(subject) == said


def test_a_circle_and_a_person_of_one_name_are_told_apart_by_the_person() -> None:
    here = people(Known(ONE, "family"))
    with pytest.raises(UsageError, match="a circle and a person"):
        here.subject("family")
    assert here.subject("family:member") == of_circle("circleid")


def test_two_circles_of_one_name_need_an_id() -> None:
    here = people(circles=(FAMILY, KnownCircle("other", "family")))
    with pytest.raises(UsageError, match="2 circles"):
        here.subject("family")
    assert here.subject("other") == of_circle("other")
    with pytest.raises(UsageError, match="family~cir or family~oth"):
        here.subject("family")
    assert here.subject("family~oth:guest") == of_circle("other", "guest")
    assert here.say(of_circle("other")) == "family~oth"


def test_who_is_unknown_gets_a_grant_and_no_share() -> None:
    with pytest.raises(UsageError, match="give it a grant"):
        people().subject(str(THREE))
    with pytest.raises(NotFound, match="no circle and nobody"):
        people().subject("the moon")


@given(
    some.lists(
        some.tuples(some.integers(0, 255), some.sampled_from(["anna", "Anna", "ben"]), some.booleans()),
        max_size=12,
        unique_by=lambda item: item[0],
    )
)
def test_labels_are_never_alike(drawn: list[tuple[int, str, bool]]) -> None:
    items = [(str(PeerId(bytes([n]) * 32)), name, first) for n, name, first in drawn]
    labels = distinct(items)
    assert len({label.casefold() for label in labels}) == len(items)
    assert all(label.startswith(name) for label, (_, name, _) in zip(labels, items, strict=True))


def test_a_name_means_all_computers_of_a_person() -> None:
    laptop = Known(ONE, "anna", contact=False)
    phone = Known(TWO, "anna", contact=False, person=ONE)
    assert people(laptop, phone).subject("anna") == of_peer(ONE)
    assert people(laptop, phone).subject(str(TWO)) == of_peer(ONE)
    assert people(phone).subject("anna") == of_peer(ONE)  # the laptop is gone
    with pytest.raises(UsageError, match="any of"):
        people(laptop, phone, Known(THREE, "anna", contact=False)).subject("anna")


def test_what_sources_say_of_a_peer_adds_up() -> None:
    here = People()
    assert here.standing(ONE) == Standing()
    here.register(
        Source(
            of="circle",
            names=lambda: {ONE: "karl", TWO: "ben"},
            standing=lambda peer: Standing(circles=(("circleid", "member"),), persons=(TWO,)),
            addresses=lambda peer: ["10.0.0.1:1", "10.0.0.2:2"],
        )
    )
    assert here.is_known(ONE)
    assert not here.contacts()
    here.register(
        Source(
            of="contact",
            is_chosen=True,
            names=lambda: {ONE: "carl"},
            standing=lambda peer: Standing(contact=peer == ONE, persons=(TWO,)),
            addresses=lambda peer: ["10.0.0.3:3", "10.0.0.1:1"],
            records=lambda: [b"record"],
        )
    )
    assert here.standing(ONE) == Standing(True, (("circleid", "member"),), "", (TWO,))
    assert dict(here.known()) == {ONE: "carl", TWO: "ben"}
    assert dict(here.contacts()) == {ONE: "carl"}
    assert here.addresses(ONE) == ["10.0.0.3:3", "10.0.0.1:1", "10.0.0.2:2"]
    assert list(here.records()) == [b"record"]


def test_who_is_here_is_known_where_somebody_says_so() -> None:
    here = people(Known(ONE, "anna"))
    assert here.here() is None
    assert here.is_here(ONE) is None
    here.watch_presence(lambda: [ONE])
    assert here.is_here(ONE) is True
    assert here.is_here(TWO) is False


def test_text_says_names_instead_of_short_ids() -> None:
    here = people(Known(ONE, "anna"), Known(TWO, "Anna", contact=False))
    said = f"{ONE.short} did not answer; {TWO.short}, {THREE.short} and {ONE} neither"
    other = f"Anna~{str(TWO)[:3]}"
    assert here.in_names(said) == f"anna did not answer; {other}, {THREE.short} and {ONE} neither"


def test_who_is_blocked_by_one_source_is_not_known() -> None:
    here = People()
    here.register(Source(of="contact", names=dict, standing=lambda peer: Standing(contact=True)))
    here.register(Source(of="circle", names=dict, standing=lambda peer: Standing(blocked="it is lost")))
    assert here.standing(ONE).blocked == "it is lost"
    assert not here.is_known(ONE)


def test_sources_are_bounded() -> None:
    here = People()
    for _ in range(SOURCES_MAX):
        here.register(Source(of="app", names=dict))
    with pytest.raises(LimitExceeded):
        here.register(Source(of="app", names=dict))


def test_a_blocked_contact_is_not_among_those_whom_a_node_dials() -> None:
    blocked: dict[PeerId, str] = {}
    here = People()
    here.register(
        Source(
            of="contact",
            is_chosen=True,
            names=lambda: {ONE: "carl", TWO: "ben"},
            standing=lambda peer: Standing(contact=True, blocked=blocked.get(peer, "")),
        )
    )
    view = here.contacts()
    assert dict(view) == {ONE: "carl", TWO: "ben"}
    blocked[ONE] = "it is lost"
    assert dict(view) == {TWO: "ben"}
    assert len(view) == 1
    assert ONE not in view
    assert dict(here.known()) == {ONE: "carl", TWO: "ben"}  # lists still show it under its name


def test_a_person_is_called_by_her_other_computers_where_the_first_has_no_name_here() -> None:
    """Like one's own first computer, which is this one."""
    here = people(Known(TWO, "tower", person=ONE), Known(THREE, "phone", person=ONE))
    assert here.say(here.subject("tower")) == "tower, phone"


def test_a_role_that_no_circle_has_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'king' is no role: say family:guest, family:member, family:owner"):
        people().subject("family:king")


def test_who_names_this_computer_itself_is_told_so() -> None:
    here = People(ONE, "laptop")
    here.register(
        Source(
            of="circle",
            names=lambda: {TWO: "desk"},
            standing=lambda peer: Standing(circles=(("c", "owner"),), persons=(THREE,)),
        )
    )
    for text in ("Laptop", str(ONE), ONE.short):
        with pytest.raises(NotFound, match="this computer itself; your other computers are desk"):
            here.subject(text)
    with pytest.raises(NotFound, match="this computer itself"):
        here.find("laptop")
    assert here.find(str(ONE)) == ONE
    alone = People(ONE, "laptop")
    with pytest.raises(NotFound, match="yours already"):
        alone.subject("laptop")
    alone.register(Source(of="contact", is_chosen=True, names=lambda: {TWO: "laptop"}))
    assert alone.subject("laptop") == of_peer(TWO)


def test_who_is_not_known_is_called_by_its_own_word_with_a_mark() -> None:
    here = people(Known(ONE, "anna"))
    here.hear_names(lambda: {ONE: "queen", TWO: "anna", THREE: ""})
    assert here.called(ONE) == "anna"
    assert here.called(TWO) == f"anna~{str(TWO)[:3]}"
    assert here.called(THREE) == ""
    assert here.in_names(f"from {TWO.short}") == f"from anna~{str(TWO)[:3]}"
