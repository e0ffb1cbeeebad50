"""Observed addresses: several independent peers are believed, one is not, liars change nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coterie.machine import Emit, PeerDown, SetTimer, TimerFired
from coterie.net.find.observed import (
    CONFIRMED_MAX,
    AddExternal,
    ObservedAddresses,
    OwnAddresses,
    RemoveExternal,
    Reported,
)

OURS = "203.0.113.5:4433"
LIE = "203.0.113.66:1"
A, B, C, D = "198.51.100.1:9", "192.0.2.1:9", "198.51.100.77:9", "[2001:db8:1::1]:9"


def events(outputs: list[Any]) -> list[Any]:
    return [output.event for output in outputs if isinstance(output, Emit)]


def tell(
    core: ObservedAddresses, peer: str, address: str, via: str, *, chosen: bool, now: float = 0.0
) -> list[Any]:
    return events(core.handle(Reported(peer, address, via, chosen), now))


def test_two_peers_of_different_networks_confirm() -> None:
    core = ObservedAddresses()
    assert tell(core, "a", OURS, A, chosen=False) == []
    assert tell(core, "b", OURS, B, chosen=False) == [AddExternal(OURS, True)]
    assert core.believed == {OURS: True}
    assert core.observers(OURS) == 2


def test_strangers_of_one_network_are_one() -> None:
    core = ObservedAddresses()
    for number in range(20):
        assert tell(core, f"s{number}", LIE, f"198.51.100.{number + 1}:9", chosen=False) == []
    assert core.believed == {}


def test_one_ipv6_site_is_one_network() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, "[2001:db8:1::1]:9", chosen=False)
    tell(core, "b", OURS, "[2001:db8:1:ffff::1]:9", chosen=False)
    assert core.believed == {}
    tell(core, "c", OURS, "[2001:db8:2::1]:9", chosen=False)
    assert core.believed == {OURS: True}


def test_the_only_peer_we_chose_is_believed_for_now() -> None:
    core = ObservedAddresses()
    assert tell(core, "a", OURS, A, chosen=True) == [AddExternal(OURS, False)]
    assert tell(core, "b", OURS, B, chosen=True) == [AddExternal(OURS, True)]


def test_a_stranger_alone_is_not() -> None:
    core = ObservedAddresses()
    assert tell(core, "a", LIE, A, chosen=False) == []
    assert core.mapping() == "same"


def test_a_lying_stranger_neither_adds_nor_removes() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, A, chosen=True)
    assert tell(core, "liar", LIE, B, chosen=False) == []
    assert core.believed == {OURS: False}
    tell(core, "b", OURS, B, chosen=True)
    assert tell(core, "liar", LIE, C, chosen=False) == []
    assert core.believed == {OURS: True}


def test_strangers_who_agree_add_a_bounded_number_and_remove_nothing() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, A, chosen=True)
    for number in range(1, 40):
        for network in range(2):
            tell(
                core,
                f"{number}.{network}",
                f"203.0.113.66:{number}",
                f"10.{network}.{number}.1:9",
                chosen=False,
            )
    assert core.believed[OURS] is False
    assert len(core.believed) == CONFIRMED_MAX + 1


def test_a_peer_has_one_word_in_each_family() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, A, chosen=True)
    tell(core, "a", OURS, B, chosen=True)
    assert core.believed == {OURS: False}, "the same peer twice, now from elsewhere"
    assert tell(core, "a", "203.0.113.5:5555", A, chosen=True) == [
        RemoveExternal(OURS),
        AddExternal("203.0.113.5:5555", False),
    ]
    tell(core, "a", "[2001:db8::5]:1", D, chosen=True)
    assert core.believed == {"203.0.113.5:5555": False, "[2001:db8::5]:1": False}


def test_a_symmetric_nat_gives_nothing_to_add() -> None:
    core = ObservedAddresses()
    tell(core, "a", "203.0.113.5:1", A, chosen=True)
    assert tell(core, "b", "203.0.113.5:2", B, chosen=True) == [RemoveExternal("203.0.113.5:1")]
    assert core.mapping() == "varies"


def test_an_address_of_this_machine_is_nothing_to_learn() -> None:
    core = ObservedAddresses()
    core.handle(OwnAddresses((OURS,)), 0.0)
    assert tell(core, "a", OURS, A, chosen=True) == []
    assert tell(core, "b", OURS, B, chosen=True) == []
    assert core.mapping() == "none"
    assert core.mapping(6) == "unknown"


def test_what_the_transport_repeats_to_us_stays_external() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, A, chosen=True)
    assert events(core.handle(OwnAddresses(("10.0.0.2:4433", OURS)), 1.0)) == []
    assert core.believed == {OURS: False}


def test_when_an_address_becomes_the_machines_own_it_leaves() -> None:
    core = ObservedAddresses()
    tell(core, "a", OURS, A, chosen=False)
    core.handle(OwnAddresses((OURS,)), 1.0)
    assert tell(core, "b", OURS, B, chosen=False) == []


def test_what_nobody_vouches_for_any_more_is_removed() -> None:
    core = ObservedAddresses(stale_s=600)
    tell(core, "a", OURS, A, chosen=True)
    outputs = core.handle(PeerDown("a"), 100.0)
    assert events(outputs) == []
    assert SetTimer("stale", 700.0) in outputs
    assert events(core.handle(TimerFired("stale"), 699.0)) == []
    assert events(core.handle(TimerFired("stale"), 700.0)) == [RemoveExternal(OURS)]
    assert core.mapping() == "unknown"


def test_a_peer_that_comes_back_keeps_it() -> None:
    core = ObservedAddresses(stale_s=600)
    tell(core, "a", OURS, A, chosen=True)
    core.handle(PeerDown("a"), 100.0)
    tell(core, "a", OURS, A, chosen=True, now=200.0)
    assert events(core.handle(TimerFired("stale"), 700.0)) == []
    assert core.believed == {OURS: False}


def test_nonsense_is_ignored() -> None:
    core = ObservedAddresses()
    for address in (
        "",
        "x",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "127.0.0.1:1",
        "[fe80::1]:1",
        "http://a:1",
        "1.2.3.4:0",
    ):
        assert tell(core, "a", address, A, chosen=True) == []
    assert tell(core, "a", OURS, "relay", chosen=True) == []
    assert core.believed == {}


def test_on_loopback_loopback_counts() -> None:
    core = ObservedAddresses()
    assert tell(core, "a", "127.0.0.1:1", "127.0.0.1:2", chosen=True) == [AddExternal("127.0.0.1:1", False)]


def test_reports_are_bounded_and_strangers_leave_first() -> None:
    core = ObservedAddresses(reports_max=3)
    tell(core, "a", OURS, A, chosen=True)
    for number in range(50):
        tell(core, f"s{number}", f"203.0.113.66:{number + 1}", f"10.0.{number}.1:9", chosen=False)
    assert core.believed == {OURS: False}
    assert core.observers("203.0.113.66:1") == 0
    assert core.observers("203.0.113.66:50") == 1


reports = st.builds(
    Reported,
    st.sampled_from("abcd"),
    st.sampled_from([OURS, LIE, "[2001:db8::5]:1", "junk"]),
    st.sampled_from([A, B, C, D, ""]),
    st.booleans(),
)
steps = st.one_of(
    reports,
    st.builds(PeerDown, st.sampled_from("abcd")),
    st.just(TimerFired("stale")),
    st.builds(OwnAddresses, st.sampled_from([(), (OURS,)])),
)


@given(st.lists(steps, max_size=40))
def test_what_was_said_always_adds_up_to_what_is_believed(script: list[Any]) -> None:
    core, told = ObservedAddresses(stale_s=3), {}
    for now, step in enumerate(script):
        for event in events(core.handle(step, float(now))):
            match event:
                case AddExternal(address, confirmed):
                    assert told.get(address) is not confirmed
                    told[address] = confirmed
                case RemoveExternal(address):
                    del told[address]
    assert told == core.believed
