"""Who has a place, who goes for whom, and what a network is."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.net.admission import Admission, network_of, network_of_path
from coterie.net.interfaces import PathInfo


def table(**options: int) -> Admission[str]:
    bounds = {"places_max": 6, "strangers_max": 4, "network_max": 2}
    return Admission(**(bounds | options))


def test_one_more_of_a_network_pushes_out_its_own_oldest() -> None:
    places = table()
    assert [places.enter(who, "net", is_known=False) for who in "abc"] == [(), (), ("a",)]
    assert places.enter("d", "other", is_known=False) == ()
    assert len(places) == 3


def test_one_more_of_a_network_gets_no_place_while_none_of_its_own_may_go() -> None:
    done: set[str] = set()
    places: Admission[str] = Admission(places_max=3, strangers_max=3, network_max=2, may_go=done.__contains__)
    assert [places.enter(who, "net", is_known=False) for who in "abc"] == [(), (), None]
    done.add("a")
    assert places.enter("c", "net", is_known=False) == ("a",)
    assert places.enter("d", "other", is_known=False) == ()
    assert places.enter("e", "third", is_known=False) == ("b",), (
        "a newcomer of another network is not kept out by it"
    )


def test_one_stranger_more_pushes_out_the_oldest_of_the_network_that_has_most() -> None:
    places = table()
    for who, network in (("lone", "1"), ("b1", "2"), ("b2", "2"), ("c", "3")):
        assert places.enter(who, network, is_known=False) == ()
    assert places.enter("d", "4", is_known=False) == ("b1",)
    assert "lone" in places


def test_who_is_known_has_room_until_all_places_are_had_by_those_who_are() -> None:
    places = table()
    for who in "abcd":
        places.enter(who, who, is_known=False)
    assert [places.enter(who, "home", is_known=True) for who in "efgh"] == [(), (), ("a",), ("b",)]
    assert [places.enter(who, "home", is_known=True) for who in "ij"] == [("c",), ("d",)]
    assert places.enter("k", "home", is_known=True) is None
    assert places.enter("stranger", "away", is_known=False) is None
    places.leave("e")
    assert places.enter("k", "home", is_known=True) == ()
    assert len(places) == 6


def test_who_has_a_place_gets_no_second_and_who_became_known_does_not_go() -> None:
    friends: set[str] = set()
    places: Admission[str] = Admission(
        places_max=3, strangers_max=3, network_max=3, is_known=friends.__contains__
    )
    for who in "aab":
        places.enter(who, "net", is_known=False)
    assert len(places) == 2
    friends.add("a")
    assert places.enter("c", "net", is_known=False) == ()
    assert places.enter("d", "net", is_known=False) == ("b",)
    assert ("a" in places, places.strangers) == (True, 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_no_storm_of_strangers_pushes_out_who_is_known(seed: int) -> None:
    rng, places, known = random.Random(seed), table(places_max=20, strangers_max=12, network_max=4), set()
    for number in range(300):
        is_known = rng.random() < 0.1
        going = places.enter(f"{number}", rng.choice("abcdefg"), is_known=is_known)
        if is_known and going is not None:
            known.add(f"{number}")
        assert not known.intersection(going or ())
        assert places.strangers <= 12
        assert len(places) <= 20
    assert all(who in places for who in known)


def test_networks() -> None:
    assert network_of("192.0.2.7:1234") == network_of("192.0.2.7:9") != network_of("192.0.2.8:9")
    assert network_of("[2001:db8::1]:5") == network_of("[2001:db8::2:0:0:9]:6") == "2001:db8::/64"
    assert network_of("[2001:db8:0:1::1]:5") != network_of("[2001:db8::1]:5")
    assert network_of("[::ffff:192.0.2.7]:5") == network_of("192.0.2.7:1234")
    assert network_of("[fe80::1%eth0]:5") == "fe80::/64"
    assert network_of("somewhere") == "somewhere"
    assert network_of_path(PathInfo("relay", "http://192.0.2.7:80"), "ann") == "ann"
    assert network_of_path(PathInfo("direct", "192.0.2.7:80"), "ann") == "192.0.2.7"
