"""The upload core: one copy first, turns by bytes, slots, limits."""

import random
from typing import Any

import pytest

from coterie.content.swarm import upload as u
from coterie.machine import SetTimer, TimerFired

ROOT = b"root"
M = b"manifest"
SIZE = 160_000


class Scene:
    """A core, and what it decides, in order. Everything served is sent at once when `sends`."""

    def __init__(self, *, sends: bool = True, **options: Any) -> None:
        self.core = u.UploadCore(random.Random(1), **options)
        self.now = 0.0
        self.sends = sends
        self.served: list[tuple[Any, Any]] = []
        self.elsewhere: list[tuple[Any, Any]] = []
        self.told: dict[Any, int] = {}
        self.timers: dict[Any, float] = {}

    def feed(self, event: Any) -> None:
        for output in self.core.handle(event, self.now):
            match output:
                case u.Serve(asker, tag):
                    self.served.append((asker, tag))
                    if self.sends:
                        self.feed(u.Served(asker))
                case u.SendElsewhere(asker, tag):
                    self.elsewhere.append((asker, tag))
                case u.TellGiven(asker, _, pieces):
                    self.told[asker] = self.told.get(asker, 0) | pieces
                case SetTimer(key, at):
                    self.timers[key] = at

    def up(self, *names: str, **options: Any) -> "Scene":
        for name in names:
            self.feed(u.AskerUp(name, ROOT, size=100 * SIZE, **options))
        return self

    def ask(self, name: str, piece: int, **options: Any) -> None:
        self.feed(u.Asked(name, piece, (u.Part(M, 1 << piece, SIZE, **options),)))

    def fire(self, key: str) -> None:
        self.now = max(self.now, self.timers.pop(key))
        self.feed(TimerFired(key))


def test_of_a_request_for_several_things_only_what_others_were_given_is_to_be_had_elsewhere() -> None:
    s = Scene().up("a", "b")
    s.ask("a", 7)
    outputs = s.core.handle(
        u.Asked("b", "all", (u.Part(M, 0, 10), u.Part(M, 1 << 7, SIZE), u.Part(M, 1 << 8, SIZE))), 0.0
    )
    assert [o for o in outputs if isinstance(o, u.Serve)] == [u.Serve("b", "all", frozenset({1}))]
    assert s.core.given(ROOT) == 2 * SIZE
    s.feed(u.Served("b"))
    s.feed(u.Asked("b", "insists", (u.Part(M, 1 << 7, SIZE, insist=True), u.Part(M, 1 << 7, SIZE))))
    assert s.served[-1] == ("b", "insists")
    s.feed(u.Asked("a", "none", (u.Part(M, 1 << 8, SIZE), u.Part(M, 1 << 8, SIZE))))
    assert s.elsewhere == [("a", "none")]


def test_a_piece_is_given_to_one_before_any_is_given_twice() -> None:
    s = Scene().up("a", "b")
    s.ask("a", 7)
    s.ask("b", 7)
    s.ask("b", 8)
    assert s.served == [("a", 7), ("b", 8)]
    assert s.elsewhere == [("b", 7)]
    s.fire("tell")
    assert s.told == {"a": 1 << 8, "b": 1 << 7}


def test_who_insists_is_served_and_who_had_it_may_ask_again() -> None:
    s = Scene().up("a", "b")
    s.ask("a", 7)
    s.ask("b", 7, insist=True)
    s.ask("a", 7)
    assert s.served == [("a", 7), ("b", 7), ("a", 7)]


def test_one_asker_alone_is_sent_nowhere() -> None:
    s = Scene().up("a")
    s.ask("a", 7)
    s.feed(u.AskerDown("a"))
    s.up("b")
    s.ask("b", 7)
    assert s.served == [("a", 7), ("b", 7)]
    assert s.elsewhere == []


def test_once_all_is_given_nobody_is_sent_elsewhere() -> None:
    s = Scene().up("a", "b")
    for piece in range(100):
        s.ask("a" if piece % 2 else "b", piece)
    s.ask("a", 0)
    assert s.elsewhere == []
    assert s.core.given(ROOT) == 100 * SIZE


def test_what_went_to_one_that_left_may_be_given_again() -> None:
    s = Scene().up("a", "b", "c")
    s.ask("a", 7)
    s.feed(u.AskerDown("a"))
    s.ask("b", 7)
    s.ask("c", 7)
    assert s.served == [("a", 7), ("b", 7)]
    assert s.elsewhere == [("c", 7)]


def test_a_download_under_way_sends_nobody_elsewhere() -> None:
    s = Scene().up("a", "b", whole=False)
    s.ask("a", 7)
    s.ask("b", 7)
    assert s.served == [("a", 7), ("b", 7)]


def test_askers_take_turns_by_bytes() -> None:
    s = Scene(sends=False).up("greedy", "modest")
    for piece in range(40):
        s.ask("greedy", piece)
    for piece in range(50, 60):
        s.ask("modest", piece)
    for _ in range(18):
        for name in ("greedy", "modest"):
            s.feed(u.Served(name))
    modest = [n for n, (name, _) in enumerate(s.served) if name == "modest"]
    assert len(modest) == 10
    assert modest[-1] < 30, "ten of one are served among as many of the other"
    assert [tag for name, tag in s.served if name == "greedy"] == sorted(
        tag for name, tag in s.served if name == "greedy"
    )


def test_at_most_so_many_are_served_at_once_contacts_first_then_who_gave_most() -> None:
    s = Scene(sends=False, slots=3)
    for n in range(8):
        s.feed(u.AskerUp(n, ROOT, is_contact=n == 7))
    for n in range(8):
        s.feed(u.Asked(n, "x", (u.Part(M, 1 << n, SIZE),)))
        s.feed(u.Asked(n, "y", (u.Part(M, 1 << (n + 10), SIZE),)))
        s.feed(u.Asked(n, "z", (u.Part(M, 1 << (n + 20), SIZE),)))
    assert {name for name, _ in s.served} == {0, 1, 2}
    s.feed(u.Gave(5, 10**6))
    s.served.clear()
    s.fire("slots")
    served = {name for name, _ in s.served}
    assert {7, 5} <= served, "a contact, and who gave most"
    assert len(served) == 3, "and one by turns"


@pytest.mark.parametrize(("whole", "slots"), [(True, u.SLOTS), (False, u.SLOTS_FETCHING)])
def test_one_more_than_the_slots_waits_and_more_are_served_what_is_whole_here(
    whole: bool, slots: int
) -> None:
    s = Scene(sends=False)
    for n in range(slots + 1):
        s.feed(u.AskerUp(n, ROOT, whole=whole))
        s.feed(u.Asked(n, "x", (u.Part(M, 1 << n, SIZE),)))
    assert [name for name, _ in s.served] == list(range(slots))


def test_askers_of_what_is_whole_here_take_no_slot_of_what_is_being_fetched() -> None:
    s = Scene(sends=False)
    for n in range(u.SLOTS + u.SLOTS_FETCHING):
        is_whole = n < u.SLOTS
        s.feed(u.AskerUp(n, b"whole" if is_whole else b"part", whole=is_whole))
        s.feed(u.Asked(n, "x", (u.Part(M, 1 << n, SIZE),)))
    assert len(s.served) == u.SLOTS + u.SLOTS_FETCHING


def test_who_gives_nothing_is_served_by_turns_all_the_same() -> None:
    s = Scene(sends=False, slots=2)
    for n in range(6):
        s.feed(u.AskerUp(n, ROOT))
        for piece in range(40):
            s.feed(u.Asked(n, piece, (u.Part(M, 0, SIZE),)))
    s.feed(u.Gave(0, 10**9))
    for _ in range(60):
        s.fire("slots")
        for n in range(6):
            s.feed(u.Served(n))
    counts = [sum(name == n for name, _ in s.served) for n in range(6)]
    assert min(counts) > 0, counts
    assert counts[0] > max(counts[1:]), counts


def test_an_idle_slot_is_free() -> None:
    s = Scene(slots=2).up("a", "b", "c")
    s.ask("a", 1)
    s.ask("b", 2)
    s.ask("c", 3)
    assert [name for name, _ in s.served] == ["a", "b", "c"]


def test_the_limit_of_one_content_does_not_hold_up_another() -> None:
    s = Scene()
    s.feed(u.AskerUp("a", b"limited", size=SIZE))
    s.feed(u.AskerUp("b", b"free", size=SIZE))
    s.feed(u.Limit(b"limited", 100_000))
    for piece in range(5):
        s.ask("a", piece)
    for piece in range(5):
        s.ask("b", piece)
    assert [name for name, _ in s.served].count("b") == 5
    assert [name for name, _ in s.served].count("a") == 1
    while len(s.served) < 10:
        s.fire("rate")
    assert 4 * 1.5 < s.now < 4 * 1.7


def test_nobody_asks_and_nothing_happens() -> None:
    """A thousand shares cost nothing while nobody asks: there is no timer."""
    s = Scene().up("a")
    s.ask("a", 1)
    s.feed(u.AskerDown("a"))
    for key in list(s.timers):
        s.fire(key)
    assert s.timers == {}
    assert s.core.given(ROOT) == 0
