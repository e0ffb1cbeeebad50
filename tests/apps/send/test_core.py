"""The states of offers on both sides, message by message and in random histories with loss, doubles and crashes."""

from random import Random
from typing import Any

import msgspec
import pytest

from coterie.apps.send import core as c
from coterie.apps.send import events as e
from coterie.apps.send.messages import Gone, Item, Key, Offer, Said, Stands, check, pack, unpack
from coterie.apps.send.records import InboxRecord, Part, SentItem, SentRecord
from coterie.errors import LimitExceeded, NotFound, PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.machine import TimerFired

ANNA, BEN, BEN2 = (SecretKey(bytes([number]) * 32).peer_id for number in (1, 2, 3))
DAY_S = 86_400.0
HISTORIES = 350  # for each seed


def offer(*peers: PeerId, number: int = 1, lasts_s: float = 7 * DAY_S, first: bool = True) -> SentRecord:
    """An offer of one file, made at the time 1,000."""
    item = SentItem("a.txt", "/a.txt", 1, 1, 10, bytes(32), bytes(16))
    parts = [Part(str(peer), 1_000 + lasts_s) for peer in peers]
    return SentRecord(
        f"s{number}", 1_000.0, number.to_bytes(16, "big"), str(peers[0]), [item], parts, lasts_s, first
    )


class Computer:
    """A core with its disk and its mail; `crash` loses what is not on disk."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.disk: dict[str, Any] = {}
        self.mail: list[tuple[PeerId, bytes]] = []
        self.words: list[str] = []
        self.replies: list[Any] = []
        self.start(1_000.0)

    def start(self, now: float) -> None:
        """Begin with what is on disk."""
        self.core = c.SendCore()
        records = [msgspec.json.decode(raw, type=kind) for kind, raw in self.disk.values()]
        sent = [record for record in records if isinstance(record, SentRecord)]
        self.do(self.core.load(sent, [record for record in records if isinstance(record, InboxRecord)], now))

    def do(self, outputs: list[Any]) -> None:
        for output in outputs:
            match output:
                case e.Keep(record):
                    self.disk[record.id] = type(record), msgspec.json.encode(record)
                case e.Drop(record):
                    del self.disk[record.id]
                case e.Reply(peer, message):
                    self.replies.append(message)
                    self.mail.append((peer, pack(message)))
                case c.Emit(e.News(_, _, word)):
                    self.words.append(word)

    def feed(self, event: Any, now: float = 1_000.0) -> None:
        self.do(self.core.handle(event, now))

    def post(self, now: float = 1_000.0, *, is_kept: bool = True) -> None:
        """Put what is to be told into the mail; not `is_kept`: and die before that is on disk."""
        for unsent in list(self.core.unsent()):
            self.mail += [(unsent.peer, pack(message)) for message in unsent.messages]
            if is_kept:
                self.feed(e.Told(unsent.id, unsent.peer, unsent.serial), now)

    def word(self) -> str:
        """Of the only offer."""
        (record,) = [*self.core.sent.values(), *self.core.inbox.values()]
        return c.word(record if isinstance(record, InboxRecord) else record.parts[0])

    def got(self) -> InboxRecord:
        (record,) = self.core.inbox.values()
        return record


class Pair:
    """anna and ben, whose mail arrives when `carry` says so."""

    def __init__(self, *others: PeerId) -> None:
        self.now = 1_000.0
        self.at = {peer: Computer(peer) for peer in (ANNA, BEN, *others)}
        self.anna, self.ben = self.at[ANNA], self.at[BEN]

    def carry(self) -> None:
        """All letters, until none is left."""
        while True:
            for computer in self.at.values():
                computer.post(self.now)
            letters = [(one.peer, *letter) for one in self.at.values() for letter in one.mail]
            for one in self.at.values():
                one.mail.clear()
            if not letters:
                return
            for sender, to, body in letters:
                self.at[to].feed(e.Heard(sender, unpack(body)), self.now)  # type: ignore[arg-type]

    def offered(self, **options: Any) -> "Pair":
        self.anna.feed(e.Make(offer(*[p for p in self.at if p != ANNA], **options)))
        self.carry()
        return self

    def words(self) -> tuple[str, str]:
        return self.anna.word(), self.ben.word()


def fetch_some(computer: Computer, now: float, *, percent: int = 0) -> None:
    """The shell of a computer: go on with what is wanted, to the end unless `percent`."""
    for got in computer.core.wanted():
        computer.feed(e.Fetching(got.id, percent or 50), now)
        if not percent:
            computer.feed(e.ItemHere(got.id, 0, "/home/a.txt"), now)


def test_the_way_of_an_offer_that_is_taken() -> None:
    pair = Pair()
    pair.anna.feed(e.Make(offer(BEN)))
    assert pair.anna.word() == "offered"
    pair.carry()
    assert pair.words() == ("delivered", "delivered")
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    assert pair.ben.word() == "accepted"
    assert [parts for _, parts in pair.anna.core.given()] == [[]]
    pair.carry()
    assert pair.words() == ("fetching", "fetching")
    assert [len(parts) for _, parts in pair.anna.core.given()] == [1]
    fetch_some(pair.ben, 1_000.0, percent=40)
    pair.carry()
    assert (pair.anna.core.sent["s1"].parts[0].percent, pair.ben.got().percent) == (40, 40)
    fetch_some(pair.ben, 1_000.0)
    pair.carry()
    assert pair.words() == ("received", "received")
    assert list(pair.anna.core.given()) == []
    assert pair.ben.core.wanted() == []


def test_both_sides_say_declined_cancelled_failed_and_expired() -> None:
    pair = Pair().offered()
    pair.ben.feed(e.Decline(pair.ben.got().id))
    pair.carry()
    assert pair.words() == ("declined", "declined")

    pair = Pair().offered()
    pair.anna.feed(e.Cancel("s1"))
    pair.carry()
    assert pair.words() == ("cancelled", "cancelled")

    pair = Pair().offered()
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    pair.carry()
    pair.ben.feed(e.Broke(pair.ben.got().id, "the disk of the receiver is full"))
    pair.carry()
    assert pair.words() == ("failed", "failed")
    assert pair.anna.core.sent["s1"].parts[0].reason == "the disk of the receiver is full"
    pair.ben.feed(e.Accept(pair.ben.got().id, ""))
    pair.carry()
    assert pair.words() == ("fetching", "fetching")
    fetch_some(pair.ben, 1_000.0)
    pair.carry()
    assert pair.words() == ("received", "received")

    pair = Pair().offered()
    pair.now += 7 * DAY_S + 1
    pair.anna.feed(TimerFired(c.DUE), pair.now)
    pair.ben.feed(TimerFired(c.DUE), pair.now)
    assert pair.words() == ("expired", "expired")
    with pytest.raises(UsageError, match="over already: expired"):
        pair.ben.feed(e.Accept(pair.ben.got().id, "/home"), pair.now)


def test_what_was_accepted_in_time_is_fetched_after_the_time_to_answer() -> None:
    pair = Pair().offered()
    pair.now += 6 * DAY_S
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"), pair.now)
    pair.carry()
    pair.now += 3 * DAY_S
    for computer in (pair.anna, pair.ben):
        computer.feed(TimerFired(c.DUE), pair.now)
    assert pair.words() == ("fetching", "fetching")
    fetch_some(pair.ben, pair.now)
    pair.carry()
    assert pair.words() == ("received", "received")


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    pair = Pair().offered()
    pair.anna.feed(e.Cancel("s1"))
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    pair.carry()
    assert pair.words() == ("cancelled", "cancelled")
    assert pair.ben.core.wanted() == []
    with pytest.raises(UsageError, match="over already: cancelled"):
        pair.anna.feed(e.Cancel("s1"))


def test_what_is_here_already_stays_received_when_the_sender_cancels() -> None:
    pair = Pair().offered()
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    pair.carry()
    fetch_some(pair.ben, 1_000.0)
    pair.anna.feed(e.Cancel("s1"))
    pair.carry()
    assert pair.words() == ("received", "received")


def test_the_first_computer_of_a_person_takes_it_and_the_other_is_told() -> None:
    pair = Pair(BEN2).offered()
    second = pair.at[BEN2]
    second.feed(e.Accept(second.got().id, "/home"))
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    pair.carry()
    states = {part.peer: c.word(part) for part in pair.anna.core.sent["s1"].parts}
    assert sorted(states.values()) == ["fetching", "taken elsewhere"]
    assert {str(p): pair.at[p].word() for p in (BEN, BEN2)} == states


def test_one_computer_declines_for_its_person_and_each_for_itself() -> None:
    pair = Pair(BEN2).offered()
    pair.ben.feed(e.Decline(pair.ben.got().id))
    pair.carry()
    assert pair.at[BEN2].word() == "declined"

    pair = Pair(BEN2).offered(first=False)
    pair.ben.feed(e.Decline(pair.ben.got().id))
    pair.at[BEN2].feed(e.Accept(pair.at[BEN2].got().id, "/home"))
    pair.carry()
    assert (pair.ben.word(), pair.at[BEN2].word()) == ("declined", "fetching")


def test_a_computer_that_was_off_finds_what_was_taken_elsewhere() -> None:
    pair = Pair(BEN2)
    pair.anna.feed(e.Make(offer(BEN, BEN2)))
    away = pair.at.pop(BEN2)
    pair.at[BEN2] = Computer(BEN2)  # hears nothing that the one that is off does not hear later
    pair.anna.post()
    letters = [body for to, body in pair.anna.mail if to == BEN2]
    pair.anna.mail = [letter for letter in pair.anna.mail if letter[0] != BEN2]
    pair.carry()
    pair.ben.feed(e.Accept(pair.ben.got().id, "/home"))
    pair.anna.post()
    pair.carry()
    fetch_some(pair.ben, 1_000.0)
    for computer in (pair.anna, pair.ben):
        computer.post()
    letters += [body for to, body in pair.anna.mail if to == BEN2]
    for body in letters:
        away.feed(e.Heard(ANNA, unpack(body)))  # type: ignore[arg-type]
    away.feed(e.Heard(ANNA, pair_stands(pair, BEN2)))
    assert away.word() == "taken elsewhere"


def pair_stands(pair: Pair, peer: PeerId) -> Stands:
    record = pair.anna.core.sent["s1"]
    return c.stands_of(record, next(part for part in record.parts if part.peer == str(peer)))


def test_an_inbox_has_room_for_so_many_offers_of_one_and_of_all_strangers() -> None:
    ben = Computer(BEN)

    def come(number: int, sender: PeerId, *, is_stranger: bool = False) -> None:
        record = offer(BEN, number=number)
        ben.feed(e.Heard(sender, c.offer_of(record), is_stranger))

    for number in range(c.INBOX_OF_ONE_MAX + 1):
        come(number + 1, ANNA)
    assert len(ben.core.inbox) == c.INBOX_OF_ONE_MAX
    assert [(r.answer, r.reason) for r in ben.replies] == [("declined", c.FULL)]
    for number in range(c.INBOX_OF_STRANGERS_MAX + 1):
        come(100 + number, SecretKey(bytes([100 + number]) * 32).peer_id, is_stranger=True)
    assert len(ben.core.inbox) == c.INBOX_OF_ONE_MAX + c.INBOX_OF_STRANGERS_MAX
    for number in range(2 * c.INBOX_MAX):
        come(1_000 + number, SecretKey(number.to_bytes(4, "big") * 8).peer_id)
    assert len(ben.core.inbox) == c.INBOX_MAX
    assert len(ben.replies) <= c.ANSWERS_BURST  # a flood is not answered one by one


def test_so_many_offers_of_our_own_and_those_that_are_over_leave() -> None:
    anna = Computer(ANNA)
    for number in range(c.SENT_MAX):
        anna.feed(e.Make(offer(BEN, number=number + 1)))
    with pytest.raises(LimitExceeded):
        anna.feed(e.Make(offer(BEN, number=9_999)))
    for number in range(c.SENT_MAX):
        anna.feed(e.Cancel(f"s{number + 1}"))
    assert len(anna.core.sent) == c.SENT_MAX  # ben is still to be told
    anna.post()
    anna.feed(e.Make(offer(BEN, number=9_999)))
    assert len(anna.core.sent) == c.KEPT_MAX + 1
    assert len(anna.disk) == c.KEPT_MAX + 1


def test_an_offer_of_somebody_else_ends_in_a_month_at_most() -> None:
    ben = Computer(BEN)
    ben.feed(e.Heard(ANNA, c.offer_of(offer(BEN, lasts_s=10**9))))
    assert ben.got().until == 1_000 + c.UNTIL_MAX_S
    ben.feed(e.Heard(ANNA, Stands((1).to_bytes(16, "big"), 2, "open", 2**40, [])), 2_000)
    assert ben.got().until == 2_000 + c.UNTIL_MAX_S


def test_offers_that_are_not_there() -> None:
    ben = Computer(BEN)
    for event in (e.Accept("x", ""), e.Decline("x"), e.Cancel("x")):
        with pytest.raises(NotFound):
            ben.feed(event)
    ben.feed(e.Heard(ANNA, Said(bytes(16), 1, "accepted")))
    assert ben.replies == [Gone(bytes(16))]
    ben.feed(e.Heard(ANNA, Stands(bytes(16), 1, "granted", 9_999, [])))
    pair = Pair().offered()
    pair.ben.feed(e.Heard(ANNA, Gone(pair.ben.got().offer)))
    assert pair.ben.word() == "expired"


def test_another_than_the_one_it_is_for_gets_nothing_by_an_answer() -> None:
    pair = Pair(BEN2)
    pair.anna.feed(e.Make(offer(BEN)))
    pair.anna.feed(e.Heard(BEN2, Said((1).to_bytes(16, "big"), 1, "accepted")))
    assert [parts for _, parts in pair.anna.core.given()] == [[]]


@pytest.mark.parametrize(
    "message",
    [
        Offer(bytes(15), [Item("a", 1, 1, 1)], 1),
        Offer(bytes(16), [], 1),
        Offer(bytes(16), [Item("a", 1, 1, 1)] * 65, 1),
        Offer(bytes(16), [Item("../a", 1, 1, 1)], 1),
        Offer(bytes(16), [Item("a", 3, 1, 1)], 1),
        Offer(bytes(16), [Item("a", 1, -1, 1)], 1),
        Offer(bytes(16), [Item("a", 1, 1, 2**63)], 1),
        Offer(bytes(16), [Item("a", 1, 1, 1)], 0),
        Offer(bytes(16), [Item("a", 1, 1, 1)], 1, "n" * 201),
        Offer(bytes(16), [Item("a", 1, 1, 1)], 1, "", "n" * 65),
        Stands(bytes(16), 0, "open", 1, []),
        Stands(bytes(16), 1, "open", 2**41, []),
        Stands(bytes(16), 1, "open", 1, [Key(bytes(31), bytes(16))]),
        Stands(bytes(16), 1, "open", 1, [Key(bytes(32), bytes(16))] * 65),
        Said(bytes(16), 2**33, "declined"),
        Said(bytes(16), 1, "fetching", 101),
        Said(bytes(16), 1, "failed", 1, "r" * 301),
        Gone(b""),
    ],
)
def test_messages_past_their_bounds_are_refused(message: Any) -> None:
    with pytest.raises(PeerError):
        check(message)
    with pytest.raises(PeerError):
        unpack(pack(message))


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_end_with_one_word_on_both_sides(seed: int) -> None:
    """Letters are doubled, late and out of order; each computer dies before or after what it writes is told."""
    random = Random(seed)
    for number in range(HISTORIES):
        ends = history(random)
        assert ends[0] == ends[1], f"seed {seed}, history {number}"


def history(random: Random) -> tuple[list[str], list[str]]:
    """The words of anna and of each computer of ben, after all letters have come."""
    pair = Pair(*([BEN2] if random.random() < 0.5 else []))
    others = [peer for peer in pair.at if peer != ANNA]
    pair.anna.feed(e.Make(offer(*others, first=random.random() < 0.5)))
    air: list[tuple[PeerId, PeerId, bytes]] = []
    for _ in range(random.randrange(60)):
        pair.now += random.random() * DAY_S / 4
        one = pair.at[random.choice([ANNA, *others])]
        match random.randrange(8):
            case 0 | 1:
                one.post(pair.now, is_kept=random.random() < 0.8)
                air += [(one.peer, *letter) for letter in one.mail]
                one.mail.clear()
                one.start(pair.now) if random.random() < 0.3 else None
            case 2 | 3 if air:
                at = random.randrange(len(air)) if random.random() < 0.3 else 0
                sender, to, body = air[at] if random.random() < 0.3 else air.pop(at)
                pair.at[to].feed(e.Heard(sender, unpack(body)), pair.now)  # type: ignore[arg-type]
            case 4:
                one.start(pair.now)
            case 5 | 6:
                act(one, random, pair.now)
            case _:
                one.feed(TimerFired(c.DUE), pair.now)
    for sender, to, body in air:  # nothing is lost for good: that is what mail promises
        pair.at[to].feed(e.Heard(sender, unpack(body)), pair.now)  # type: ignore[arg-type]
    for one in pair.at.values():
        one.feed(TimerFired(c.DUE), pair.now)
    pair.carry()
    record = pair.anna.core.sent["s1"]
    told = {g.sender: c.word(g) for peer in others for g in pair.at[peer].core.inbox.values()}
    assert set(told) <= {str(ANNA)}
    there = [c.word(g) for peer in others for g in pair.at[peer].core.inbox.values()]
    here = [
        c.word(part) for part in record.parts for g in pair.at[PeerId.parse(part.peer)].core.inbox.values()
    ]
    return here, there


def act(one: Computer, random: Random, now: float) -> None:
    """Something that the owner or the disk of a computer does."""
    for got in list(one.core.inbox.values()):
        try:
            match random.randrange(6):
                case 0 | 1:
                    one.feed(e.Accept(got.id, "/home"), now)
                case 2 if random.random() < 0.3:
                    one.feed(e.Decline(got.id), now)
                case 3:
                    one.feed(e.Broke(got.id, "the disk of the receiver is full"), now)
                case _:
                    fetch_some(one, now, percent=random.randrange(100))
        except UsageError:
            continue
    if one.core.sent and random.random() < 0.1:
        try:
            one.feed(e.Cancel("s1"), now)
        except UsageError:
            return
