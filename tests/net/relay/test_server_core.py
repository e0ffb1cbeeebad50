"""The relay's machine, and the choice of home relays: in virtual time, with fakes."""

from random import Random
from typing import Any

import pytest

from coterie.identity import PeerId, SecretKey
from coterie.machine import PeerDown, Received, Send, SetTimer, TimerFired
from coterie.net.relay import home_core as home
from coterie.net.relay.server_core import (
    SWEEP,
    Control,
    Drop,
    Malformed,
    Opened,
    Pause,
    Raw,
    RelayCore,
    RelayLimits,
    Upgraded,
)
from coterie.wire import relay as wire


def key(number: int) -> SecretKey:
    return SecretKey(number.to_bytes(32, "big"))


class Relay:
    """A relay core with fake links, numbered."""

    def __init__(self, **limits: Any) -> None:
        self.allowed: set[PeerId] | None = None
        self.backlog: dict[Any, int] = {}
        self.rng = Random(1)
        self.core = RelayCore(
            may_use=lambda peer: self.allowed is None or peer in self.allowed,
            backlog=lambda link: self.backlog.get(link, 0),
            random_bytes=self.rng.randbytes,
            limits=RelayLimits(**limits),
            now=0.0,
        )

    def feed(self, event: Any, now: float = 0.0) -> list[Any]:
        return self.core.handle(event, now)

    def come(self, link: int, number: int | None = None, *, version: int = 2, now: float = 0.0) -> list[Any]:
        """Open, upgrade and authenticate `link` as key `number` (its own number by default)."""
        self.feed(Opened(link), now)
        (sent,) = self.feed(Upgraded(link, version), now)
        return self.feed(Received(link, wire.answer(sent.message, key(number or link))), now)

    def send(self, link: int, to: int, size: int = 100, now: float = 0.0) -> list[Any]:
        return self.feed(Received(link, wire.Outbound(key(to).peer_id, 0, bytes(size))), now)


def test_a_datagram_reaches_its_destination_with_its_true_source() -> None:
    relay = Relay()
    assert relay.come(1) == [Send(1, wire.Confirmed())]
    relay.come(2)
    out = relay.feed(Received(1, wire.Outbound(key(2).peer_id, 3, b"abcdef", 3)))
    assert out == [Send(2, wire.Inbound(key(1).peer_id, 3, b"abcdef", 3))]
    assert relay.core.metrics().forwarded_bytes == 6


def test_a_destination_that_is_not_here_costs_nothing_and_says_nothing() -> None:
    relay = Relay()
    relay.come(1)
    assert relay.send(1, to=9) == []
    assert relay.core.metrics().dropped_no_such_client == 1


def test_a_stranger_is_denied_with_a_reason() -> None:
    relay = Relay()
    relay.allowed = {key(1).peer_id}
    out = relay.come(2)
    assert isinstance(out[0].message, wire.Denied)
    assert isinstance(out[1], Drop)
    assert relay.core.clients == []


def test_a_predicate_that_fails_denies() -> None:
    core = RelayCore(
        may_use=lambda peer: 1 // 0 == 0,
        backlog=lambda link: 0,
        random_bytes=Random(1).randbytes,
        limits=RelayLimits(),
        now=0.0,
    )
    core.handle(Opened(1), 0)
    (sent,) = core.handle(Upgraded(1, 2), 0)
    assert isinstance(core.handle(Received(1, wire.answer(sent.message, key(1))), 0)[0].message, wire.Denied)


def test_a_right_that_is_withdrawn_ends_the_link_at_the_next_check() -> None:
    relay = Relay(ping_s=15)
    relay.come(1)
    relay.allowed = set()
    assert relay.feed(SWEEP, 14) == []
    assert isinstance(relay.feed(SWEEP, 15)[-1], Drop)
    assert relay.core.clients == []


def test_wrong_signature_wrong_challenge_or_no_authentication() -> None:
    relay = Relay()
    other = wire.answer(wire.Challenge(bytes(16)), key(1))
    for link, said in enumerate([other, wire.Authentication(key(1).peer_id, bytes(64)), wire.Ping(bytes(8))]):
        relay.feed(Opened(link))
        relay.feed(Upgraded(link, 2))
        assert isinstance(relay.feed(Received(link, said))[-1], Drop)
    assert relay.core.clients == []
    assert relay.core.metrics().handshakes == 0


def test_the_newest_link_of_a_key_replaces_the_older() -> None:
    relay = Relay()
    relay.come(1)
    relay.come(2)
    out = relay.come(11, 1)
    assert out[:2] == [Send(1, wire.Status(wire.StatusCode.REPLACED)), out[1]]
    assert isinstance(out[1], Drop)
    assert relay.send(2, to=1)[0].peer == 11
    assert relay.feed(PeerDown(1)) == []
    assert relay.core.metrics().clients == 2


def test_version_one_gets_no_status() -> None:
    relay = Relay()
    relay.come(1, version=1)
    assert not any(isinstance(o, Send) and isinstance(o.message, wire.Status) for o in relay.come(11, 1))


def test_those_who_were_sent_to_hear_that_the_sender_left() -> None:
    relay = Relay(destinations_max=2)
    for link in (1, 2, 3, 4):
        relay.come(link)
    for to in (2, 3, 4):
        relay.send(1, to=to)
    told = relay.feed(PeerDown(1))
    assert told == [Send(n, wire.PeerGone(key(1).peer_id)) for n in (3, 4)]


def test_one_client_over_the_table_is_denied() -> None:
    relay = Relay(clients_max=2)
    relay.come(1)
    relay.come(2)
    assert isinstance(relay.come(3)[0].message, wire.Denied)
    assert isinstance(relay.come(11, 1)[-1].message, wire.Confirmed), "an old client comes back"


def test_a_million_links_that_say_nothing_hold_no_more_than_the_bound() -> None:
    relay = Relay(handshakes_max=8)
    dropped = sum(len(relay.feed(Opened(link))) for link in range(1, 100_001))
    assert dropped == 100_000 - 8
    assert relay.core.metrics().handshakes == 8
    assert isinstance(relay.come(200_000)[0].message, wire.Confirmed), "the newest has its chance"


def test_a_handshake_has_a_time() -> None:
    relay = Relay(handshake_s=5)
    relay.feed(Opened(1), 0)
    assert relay.feed(SWEEP, 4.9) == []
    assert isinstance(relay.feed(SWEEP, 5)[0], Drop)


def test_a_full_queue_drops_and_a_stalled_client_goes() -> None:
    relay = Relay(queue_bytes_max=1000, stall_s=10)
    relay.come(1)
    relay.come(2)
    relay.backlog[2] = 950
    assert relay.send(1, to=2, size=50, now=1)
    assert relay.send(1, to=2, size=51, now=1) == []
    assert relay.core.metrics().dropped_queue_full == 1
    assert not any(isinstance(o, Drop) for o in relay.feed(SWEEP, 10.9))
    relay.send(1, to=2, size=51, now=10.9)
    assert next(o for o in relay.feed(SWEEP, 11) if isinstance(o, Drop)).link == 2
    assert relay.core.clients == [key(1).peer_id]


def test_over_its_rate_a_client_is_dropped_told_once_and_then_not_read() -> None:
    relay = Relay(bytes_per_s_max=10_000, frame_bytes_max=1_000, burst_s=0.5, excess=2.0)
    relay.come(1)
    relay.come(2)
    out = [o for _ in range(30) for o in relay.send(1, to=2, size=1_000)]
    forwarded = [o for o in out if isinstance(o, Send) and isinstance(o.message, wire.Inbound)]
    assert len(forwarded) == 5
    assert [o for o in out if isinstance(o, Send) and isinstance(o.message, wire.Status)] == [
        Send(1, wire.Status(wire.StatusCode.RATE_LIMITED))
    ]
    pauses = [o.for_s for o in out if isinstance(o, Pause)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(30 * 0.05 - 0.5, abs=0.01), "what was read too much, at twice the rate"
    assert relay.send(1, to=2, size=1_000, now=2)[0].peer == 2


def test_all_clients_together_have_a_rate() -> None:
    relay = Relay(total_bytes_per_s_max=1_000, frame_bytes_max=500, burst_s=0.5)
    for link in (1, 2, 3):
        relay.come(link)
    assert relay.send(1, to=3, size=400)
    assert not [o for o in relay.send(2, to=3, size=400) if isinstance(o, Send) and o.peer == 3]


def test_many_tiny_frames_cost_reading_time_too() -> None:
    relay = Relay(frames_per_s_max=100, burst_s=0.25)
    relay.come(1)
    out = [o for _ in range(100) for o in relay.send(1, to=9, size=1)]
    assert out[-1] == Pause(1, pytest.approx(0.75, abs=0.01))


def test_pings_are_answered_and_silence_ends() -> None:
    relay = Relay(ping_s=15, pong_s=5)
    relay.come(1)
    assert relay.feed(Received(1, wire.Ping(b"12345678")), 1) == [Send(1, wire.Pong(b"12345678"))]
    assert relay.feed(SWEEP, 15.9) == []
    (ping,) = relay.feed(SWEEP, 16)
    relay.feed(Received(1, wire.Pong(ping.message.echo)), 17)
    assert relay.feed(SWEEP, 31) == []
    assert isinstance(relay.feed(SWEEP, 32)[0].message, wire.Ping)
    assert isinstance(relay.feed(SWEEP, 37)[0], Drop)
    assert relay.core.clients == []


def test_pongs_for_one_who_does_not_read_are_dropped() -> None:
    relay = Relay(queue_bytes_max=100)
    relay.come(1)
    relay.backlog[1] = 101
    assert relay.feed(Received(1, wire.Ping(bytes(8)))) == []


def test_every_control_frame_is_paid_for_and_its_answer_waits_within_the_bound() -> None:
    relay = Relay(queue_bytes_max=1000, control_frames_per_s_max=50, burst_s=0.25, stall_s=10)
    relay.come(1)
    assert relay.feed(Control(1, 10, 60, bytes(20))) == [Raw(1, bytes(20))]
    paused, _ = relay.feed(Control(1, 10, 60, bytes(20)))
    assert paused == Pause(1, pytest.approx(0.15, abs=0.01))
    relay.backlog[1] = 981
    assert relay.feed(Control(1, 1, 6, bytes(20)), 5.0) == [], "an answer that has no room is dropped"
    assert relay.core.metrics().dropped_queue_full == 1
    relay.feed(SWEEP, 14.0)
    assert relay.core.clients
    assert any(isinstance(output, Drop) for output in relay.feed(SWEEP, 15.0)), "it takes nothing"


def test_control_frames_before_the_authentication_have_a_bound() -> None:
    relay = Relay(handshake_bytes_max=100)
    relay.feed(Opened(1))
    relay.feed(Upgraded(1, 2))
    assert relay.feed(Control(1, 1, 50, bytes(50))) == [Raw(1, bytes(50))]
    (out,) = relay.feed(Control(1, 1, 1))
    assert isinstance(out, Drop)
    assert relay.feed(Control(1, 1, 1)) == []


def test_what_is_malformed_ends_the_link_and_only_that() -> None:
    relay = Relay()
    relay.come(1)
    relay.come(2)
    assert relay.feed(Malformed(1, "why"))[-1] == Drop(1, "why")
    out = relay.feed(Received(2, wire.answer(wire.Challenge(bytes(16)), key(2))))
    assert isinstance(out[-1], Drop), "authenticated twice"
    assert relay.core.clients == []


# ---- home relays


def chooser(**limits: Any) -> home.HomeRelayCore:
    return home.HomeRelayCore(home.HomeRelayLimits(**limits), Random(7))


def asked(outputs: list[Any]) -> list[str]:
    return [o.url for o in outputs if isinstance(o, home.Probe)]


def used(outputs: list[Any]) -> list[tuple[str, ...]]:
    return [o.urls for o in outputs if isinstance(o, home.UseHomes)]


def test_the_nearest_that_answer_become_homes() -> None:
    core = chooser()
    assert asked(core.handle(home.Candidates(("a", "b", "c", "d", "e")), 0)) == ["a", "b", "c", "d"]
    assert asked(core.handle(home.Probed("a", None), 0)) == ["e"], "four at once, then the next"
    core.handle(home.Probed("b", 0.030), 0)
    core.handle(home.Probed("c", 0.010), 0)
    core.handle(home.Probed("d", 0.020), 0)
    core.handle(home.Probed("e", 0.040), 0)
    assert core.homes == ("c", "d", "b")


def test_another_takes_over_when_the_one_in_use_fails_twice() -> None:
    core = chooser()
    core.handle(home.Candidates(("a", "b")), 0)
    core.handle(home.Probed("a", 0.010), 0)
    core.handle(home.Probed("b", 0.020), 0)
    core.handle(TimerFired("a"), 8)
    out = core.handle(home.Probed("a", None), 8)
    assert not used(out)
    (timer,) = [o for o in out if isinstance(o, SetTimer)]
    assert timer.at < 9.2
    core.handle(TimerFired("a"), 9)
    assert used(core.handle(home.Probed("a", None), 9)) == [("b",)]


def test_a_relay_seen_dead_is_replaced_at_once() -> None:
    core = chooser()
    core.handle(home.Candidates(("a", "b")), 0)
    core.handle(home.Probed("a", 0.010), 0)
    core.handle(home.Probed("b", 0.020), 0)
    out = core.handle(home.Lost("a"), 1)
    assert used(out) == [("b",)]
    assert asked(out) == ["a", "b"]
    assert core.handle(home.Lost("unknown"), 1) == []


def test_a_little_nearer_is_no_reason_to_move_and_much_nearer_is() -> None:
    core = chooser()
    core.handle(home.Candidates(("a", "b")), 0)
    core.handle(home.Probed("a", 0.010), 0)
    core.handle(home.Probed("b", 0.009), 0)
    assert core.homes == ("a", "b")
    core.handle(TimerFired("b"), 1)
    assert used(core.handle(home.Probed("b", 0.002), 1)) == [("b", "a")]


def test_with_the_network_gone_each_is_asked_once_a_minute() -> None:
    core = chooser()
    core.handle(home.Candidates(("a",)), 0)
    core.handle(home.Probed("a", 0.010), 0)
    waits = []
    for _ in range(12):
        core.handle(TimerFired("a"), 0)
        waits += [o.at for o in core.handle(home.Probed("a", None), 0) if isinstance(o, SetTimer)]
    assert waits[0] < 1.2
    assert all(54 <= wait <= 66 for wait in waits[-4:])
    assert core.homes == ()


def test_candidates_that_are_gone_are_forgotten_and_their_number_is_bounded() -> None:
    core = chooser(candidates_max=2, probes_max=2)
    assert asked(core.handle(home.Candidates(("a", "b", "c")), 0)) == ["a", "b"]
    assert asked(core.handle(home.Candidates(("c",)), 0)) == ["c"]
    assert core.handle(home.Probed("a", 0.010), 0) == []
    assert used(core.handle(home.Probed("c", 0.010), 0)) == [("c",)]
    assert used(core.handle(home.Candidates(()), 0)) == [()]


def test_a_guest_exchanges_with_those_whom_the_owner_knows_and_with_no_other_guest() -> None:
    relay = Relay(guests_max=2)
    relay.allowed = {key(1).peer_id}
    for number in (1, 2, 3):
        assert relay.come(number) == [Send(number, wire.Confirmed())]
    assert [out.link if isinstance(out, Drop) else out.peer for out in relay.send(2, to=1)] == [1]
    assert [out.peer for out in relay.send(1, to=2)] == [2]
    assert relay.send(2, to=3) == []
    assert relay.core.metrics().guests == 2


def test_one_guest_too_many_takes_the_place_of_a_guest_and_of_nobody_else() -> None:
    relay = Relay(guests_max=2, clients_max=1)
    relay.allowed = {key(1).peer_id}
    relay.come(2)
    relay.come(3)
    assert relay.come(1) == [Send(1, wire.Confirmed())]
    out = relay.come(4)
    assert [o.link for o in out if isinstance(o, Drop)] == [2]
    assert relay.core.clients == [key(n).peer_id for n in (3, 1, 4)]


def test_guests_of_one_network_push_out_each_other_only() -> None:
    relay = Relay(guests_max=8, guests_network_max=1)
    relay.allowed = set()
    for link, network in ((1, "192.0.2.1"), (2, "192.0.2.2"), (3, "192.0.2.2")):
        relay.feed(Opened(link, network))
        (sent,) = relay.feed(Upgraded(link, 2))
        relay.feed(Received(link, wire.answer(sent.message, key(link))))
    assert relay.core.clients == [key(1).peer_id, key(3).peer_id]


def test_what_goes_to_a_guest_counts_against_its_rate_too() -> None:
    relay = Relay(guests_max=2, guest_bytes_per_s_max=1_000.0, guests_bytes_per_s_max=1e9)
    relay.allowed = {key(1).peer_id, key(4).peer_id}
    for number in (1, 2, 4):
        relay.come(number)
    sent = sum(bool(relay.send(1, to=2, size=1_000)) for _ in range(200))
    assert sent < 200
    assert relay.core.metrics().dropped_over_rate > 0
    assert all(relay.send(1, to=4, size=1_000) for _ in range(100))


def test_a_guest_whom_the_owner_comes_to_know_is_one_no_longer() -> None:
    relay = Relay(guests_max=1)
    relay.allowed = {key(1).peer_id}
    relay.come(2)
    relay.allowed.add(key(2).peer_id)
    relay.feed(SWEEP, 1.0)
    assert relay.core.metrics().guests == 0
    relay.come(3, now=1.0)
    assert key(2).peer_id in relay.core.clients
