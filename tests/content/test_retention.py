"""What expires when, and what gives way: never what is young."""

import random

import pytest

from coterie.content import retention
from coterie.content.retention import KEPT_S, YOUNG_S, Held, Plan, expired, make_room

NOW = 1_800_000_000.0


def held(*ages_s: float, size: int = 10) -> list[Held]:
    return [Held(str(number), NOW - age_s, size) for number, age_s in enumerate(ages_s)]


def test_what_was_kept_for_its_whole_time_expires() -> None:
    assert expired(held(KEPT_S, KEPT_S - 1), NOW) == ("0",)


def test_the_oldest_give_way_and_no_more_than_needed() -> None:
    found = held(YOUNG_S + 1, YOUNG_S + 3, YOUNG_S + 2, 0)
    assert make_room(found, NOW, room_bytes=50, more_bytes=25, more=1) == Plan(("1", "2"))
    assert make_room(found, NOW, room_bytes=50, more_bytes=10, more=1) == Plan(())


def test_what_is_young_never_gives_way() -> None:
    found = held(YOUNG_S - 1, YOUNG_S + 1)
    plan = make_room(found, NOW, room_bytes=20, more_bytes=11, more=1)
    assert plan == Plan((), short_bytes=1)
    assert make_room(found, NOW, room_bytes=20, more_bytes=10, more=1) == Plan(("1",))


def test_the_number_of_versions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "VERSIONS_MAX", 3)
    assert make_room(held(0, 0, 0), NOW, room_bytes=1000, more_bytes=1, more=1) == Plan((), 0, 1)
    assert make_room(held(0, 0, YOUNG_S), NOW, room_bytes=1000, more_bytes=1, more=1) == Plan(("2",))


def test_random_stores_keep_their_bounds() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        found = [
            Held(str(n), NOW - rng.uniform(0, 1.3 * KEPT_S), rng.randrange(100))
            for n in range(rng.randrange(30))
        ]
        more, room = rng.randrange(300), rng.randrange(1500)
        plan = make_room(found, NOW, room_bytes=room, more_bytes=more, more=1)
        left = [one for one in found if one.id not in plan.drop]
        assert all(NOW - one.at >= YOUNG_S for one in found if one.id in plan.drop), seed
        if plan.short_bytes:
            assert plan.drop == expired(found, NOW), seed
        else:
            assert sum(one.bytes for one in left) + more <= room, seed
