"""Computers that lie about offers: message by message at the core."""

from coterie.apps.send import core as c
from coterie.apps.send import events as e
from coterie.apps.send.messages import Item, Key, Offer, Said, Stands
from coterie.identity import SecretKey
from tests.apps.send.test_core import ANNA, BEN, BEN2, DAY_S, Computer

FLOOD = 4 * c.KEPT_MAX
KEY = Key(bytes(32), bytes(16))


def offer(number: int, *, until: int = int(1_000 + DAY_S), name: str = "a", items: int = 1) -> Offer:
    """An offer as a client that lies makes it."""
    return Offer(number.to_bytes(16, "big"), [Item(name, 1, 1, 10)] * items, until)


def test_offers_that_end_at_once_leave_no_more_than_so_many() -> None:
    for is_stranger in (False, True):
        ben = Computer(BEN)
        for number in range(1, FLOOD):
            now = 1_000.0 + number
            ben.feed(e.Heard(ANNA, offer(number, until=int(now) + 1), is_stranger=is_stranger), now)
            ben.feed(c.TimerFired(c.DUE), now + 0.9999)
        assert len(ben.core.inbox) <= c.INBOX_OF_ONE_MAX + c.KEPT_MAX + c.UNHEARD_MAX
        assert len(ben.disk) == len(ben.core.inbox)


def test_keys_that_do_not_fit_the_offer_open_nothing() -> None:
    for count in (0, 1, 3):
        ben = Computer(BEN)
        ben.feed(e.Heard(ANNA, offer(1, items=2)))
        ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 2, "granted", 90_000, [KEY] * count)))
        ben.feed(e.Accept(ben.got().id, "/home"))
        assert (ben.word(), ben.core.wanted()) == ("accepted", [])
        ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 3, "granted", 90_000, [KEY] * 2)))
        assert len(ben.core.wanted()) == 1
        ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 4, "granted", 90_000, [KEY] * count)))
        (got,) = ben.core.wanted()
        assert len(got.keys) == len(got.items)


def test_what_is_granted_keeps_the_content_that_it_was_granted_with() -> None:
    ben = Computer(BEN)
    ben.feed(e.Heard(ANNA, offer(1)))
    ben.feed(e.Accept(ben.got().id, "/home"))
    ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 2, "granted", 90_000, [KEY])))
    other = Key(b"\1" * 32, bytes(16))
    ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 3, "granted", 90_000, [other])))
    assert ben.got().keys == [KEY]


def test_what_its_sender_ended_does_not_begin_again() -> None:
    for end in ("cancelled", "taken elsewhere", "declined"):
        ben = Computer(BEN)
        ben.feed(e.Heard(ANNA, offer(1)))
        ben.feed(e.Accept(ben.got().id, "/home"))
        stand = {"taken elsewhere": "elsewhere"}.get(end, end)
        ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 2, stand, 90_000, [])))
        assert ben.word() == end
        ben.feed(e.Heard(ANNA, Stands(bytes(15) + b"\1", 3, "granted", 90_000, [KEY])))
        assert (ben.word(), ben.core.wanted()) == (end, [])


def test_one_stranger_does_not_keep_the_next_out() -> None:
    ben = Computer(BEN)
    for number in range(1, 20):
        ben.feed(e.Heard(ANNA, offer(number), is_stranger=True))
    ben.feed(e.Heard(BEN2, offer(1), is_stranger=True))
    assert [got.sender for got in ben.core.inbox.values()].count(str(BEN2)) == 1
    assert not any(isinstance(reply, Said) and reply.id == bytes(15) + b"\1" for reply in ben.replies)


def test_who_was_asked_by_a_code_has_a_place_in_an_inbox_that_strangers_filled() -> None:
    ben = Computer(BEN)
    for number in range(2 * c.INBOX_OF_STRANGERS_MAX):
        sender = SecretKey(bytes([100 + number]) * 32).peer_id
        ben.feed(e.Heard(sender, offer(number + 1), is_stranger=True))
    assert len(ben.core.inbox) == c.INBOX_OF_STRANGERS_MAX
    ben.feed(e.Heard(BEN2, offer(99), is_stranger=True, dials=True))
    assert ben.core.find(BEN2, (99).to_bytes(16, "big")) is not None
