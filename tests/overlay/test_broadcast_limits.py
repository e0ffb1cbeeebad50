"""The memory of one topic at its limits, and what one past them does."""

import tracemalloc
from random import Random

from coterie.identity import PeerId
from coterie.machine import Received
from coterie.overlay.broadcast import Broadcast, OpenTopic
from coterie.overlay.history import History
from coterie.overlay.plumtree import PlumtreeLimits
from coterie.wire.broadcast import Entry, Gossip, Ihave, Join, Shuffle, id_of, signed_part
from tests.overlay.village import TOPIC, is_signed, signature

TOPIC_BYTES_MAX = 12 << 20
"""Of one topic with every table full: measured 7.1 MiB, of which 2 MiB are payloads."""


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def history(**options: int) -> History:
    bounds = {"age_max_ms": 1000, "skew_max_ms": 500, "seen_max": 3, "held_max": 2, "held_bytes_max": 100}
    return History(**(bounds | options))


def put(kept: History, at: int, payload: bytes = b"", *, now: int = 1000, author: int = 1) -> bytes:
    id_ = id_of(signed_part(TOPIC, peer(author), at, payload))
    kept.add(id_, Gossip(TOPIC, peer(author), at, payload, bytes(64)), now)
    return id_


def test_what_was_forgotten_cannot_come_again() -> None:
    kept = history()
    ids = [put(kept, at) for at in (900, 901, 902, 903)]
    assert [id_ in kept for id_ in ids] == [False, True, True, True]
    assert not kept.is_timely(peer(1), 900, 1000)
    assert kept.is_timely(peer(1), 904, 1000)
    assert kept.held == 2


def test_messages_from_the_future_do_not_shut_out_those_of_today() -> None:
    kept = history()
    for number in range(20):
        put(kept, 1500, b"%d" % number)
    assert len(kept) == 3
    assert kept.is_timely(peer(2), 1001, 1000)
    assert kept.is_timely(peer(2), 901, 1000)
    assert not kept.is_timely(peer(2), 1501, 1000)
    assert not kept.is_timely(peer(1), 1500, 1000), "what was forgotten would be taken twice"


def test_who_floods_pushes_out_what_is_its_own() -> None:
    kept = history(seen_max=12, held_max=10)
    honest = [put(kept, at, author=2) for at in (950, 990)]
    for number in range(20):
        put(kept, 980 + number, author=3)
        put(kept, 1001 + 20 * number, author=3)
    assert all(id_ in kept and kept.get(id_) for id_ in honest)
    assert kept.is_timely(peer(2), 940, 1000)
    assert kept.held_since(1000) <= 950, "comparing with others still covers what honest members said"


def test_authors_without_number_shut_out_nobody() -> None:
    kept = history(age_max_ms=900_000, seen_max=10)
    now = 1_000_000
    for number in range(200):
        put(kept, now + number % 400, author=10 + number % 40, payload=b"%d" % number, now=now)
    assert kept.floors <= 10
    assert kept.is_timely(peer(2), now - 1_000, now)


def test_payloads_have_a_bound_in_bytes() -> None:
    kept = history(seen_max=10, held_max=10)
    for at in (900, 901, 902):
        put(kept, at, bytes(40))
    assert (len(kept), kept.held, kept.held_bytes) == (3, 2, 80)
    assert kept.held_since(1000) == 901


def test_a_topic_at_all_its_limits_stays_within_its_memory() -> None:
    limits = PlumtreeLimits(news_per_link_s=1e9, news_per_link_burst=10**9)
    me = peer(1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    core = Broadcast(me, rng=Random(1), sign=lambda m: signature(me, m), verify=is_signed, messages=limits)
    core.handle(OpenTopic(TOPIC, tuple(Entry(peer(n), bytes(900)) for n in range(2, 60))), 1000.0)
    for number in range(100, 140):
        core.handle(Received(peer(number), Join(TOPIC, bytes(900))), 1000.0)
    source = core.membership(TOPIC).active[0]
    for number in range(60):
        entries = [Entry(peer(1000 + 8 * number + n), bytes([n]) * 900) for n in range(8)]
        core.handle(Received(source, Shuffle(TOPIC, entries[0], number, entries, 0)), 1000.0 + 60 * number)
    author = peer(7)
    for number in range(limits.seen_max + 500):
        at = 4_600_000 + number
        payload = b"%06d" % number + bytes(3000)
        signed = signed_part(TOPIC, author, at, payload)
        core.handle(Received(source, Gossip(TOPIC, author, at, payload, signature(author, signed))), 4620.0)
    for number in range(20):
        ids = [id_of(b"%d %d" % (number, n)) for n in range(128)]
        core.handle(Received(source, Ihave(TOPIC, ids)), 4620.0)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    members, messages = core.membership(TOPIC), core.messages(TOPIC)
    assert len(members.active) == 5
    assert len(members.passive) == 30
    assert len(messages.history) == limits.seen_max
    assert messages.history.held_bytes <= limits.held_bytes_max
    assert messages.missing == limits.missing_per_link_max
    assert used < TOPIC_BYTES_MAX
