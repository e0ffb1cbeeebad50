"""The states of offers on both sides: `handle(event, now) -> list[Output]`. `now` is in unix seconds.

Each side owns its half of an offer and knows a copy of the other's (`messages.py`); `word` reads off both what people
are shown, so that both sides say the same as soon as the last message has arrived.

    the sender's half, for each computer     open -> granted; open -> taken elsewhere, declined
                                             open, granted -> cancelled, expired
    the other half                           delivered -> accepted -> fetching -> received
                                             accepted, fetching -> failed -> accepted, fetching; any -> declined

What follows from the states is asked for, not told: `unsent`, `given`, `wanted`. So whoever runs the core keeps the
records and nothing else, and a restart begins with the same questions.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from coterie.apps.send.events import (
    Accept,
    Broke,
    Call,
    Cancel,
    Decline,
    Drop,
    Fetching,
    Heard,
    ItemHere,
    Keep,
    Make,
    News,
    Placed,
    Reply,
    StreamOpened,
    Told,
    Unsent,
)
from coterie.apps.send.messages import Gone, Item, Key, Offer, Said, Stands, Take
from coterie.apps.send.records import InboxItem, InboxRecord, Part, SentRecord
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit, SetTimer, TimerFired
from coterie.rate import Rate
from coterie.texts import tr
from coterie.wire.frames import Message

SENT_MAX = 256  # offers of ours that are open; guess
INBOX_MAX = 256  # offers of others that are open; guess
INBOX_OF_ONE_MAX = 16  # of one computer; guess: nobody looks through more
INBOX_OF_STRANGERS_MAX = 8  # of all strangers together whom nobody here asked; guess
INBOX_OF_ONE_STRANGER_MAX = 2  # guess: who has more to send has a folder
KEPT_MAX = 100  # of those that are over, in each list; the oldest leave
UNHEARD_MAX = 256  # of those that are over and whose other side has not heard it yet, in each list; guess
ANSWERS_PER_S = 0.1  # to offers that are refused unseen, and questions about offers that are not there; guess
ANSWERS_BURST = 32
UNTIL_MAX_S = 31 * 86_400.0  # from now: what others say of the end of their offers is cut to it
LINGER_S = 86_400.0  # strangers are called for so long after the end, to hear of it; guess
FULL = "the inbox there is full"
DUE = ("due",)  # the only timer: when the next offer expires


class Stand(StrEnum):
    """Whether an offer still holds for one computer: the sender's half."""

    OPEN = "open"
    GRANTED = "granted"  # this computer may fetch it
    ELSEWHERE = "elsewhere"  # another computer of the same person took it
    DECLINED = "declined"  # on another computer of the same person
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Answer(StrEnum):
    """The other half."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    FETCHING = "fetching"
    RECEIVED = "received"
    DECLINED = "declined"
    FAILED = "failed"


OFFERED = "offered"
_STAND_WORDS = {
    Stand.ELSEWHERE: "taken elsewhere",
    Stand.DECLINED: "declined",
    Stand.CANCELLED: "cancelled",
    Stand.EXPIRED: "expired",
}
OVER = frozenset({*_STAND_WORDS.values(), "received"})  # words after which nothing comes any more
_GOES_ON = frozenset({Answer.DELIVERED, Answer.ACCEPTED, Answer.FETCHING, Answer.FAILED})


def word(half: Part | InboxRecord) -> str:
    """What both sides show of an offer to one computer."""
    if half.answer in (Answer.RECEIVED, Answer.DECLINED):
        return str(half.answer)
    ended = _STAND_WORDS.get(half.stand)  # type: ignore[call-overload]  # others than these are open
    return ended or str(half.answer) or OFFERED


def is_over(half: Part | InboxRecord) -> bool:
    """Whether nothing changes any more, but for what the other side has not heard."""
    return word(half) in OVER


def state(half: Part | InboxRecord) -> str:
    """The word, and how far it is."""
    said = word(half)
    return f"{said} {half.percent} %" if said == Answer.FETCHING else said


_WEIGHTS = ("", "delivered", "failed", "accepted", "fetching", "declined", "received")


def weight(part: Part) -> tuple[bool, int]:
    """Which computer's answer counts for its person: one that may have it, then the furthest."""
    return part.stand not in (Stand.ELSEWHERE, Stand.DECLINED), _WEIGHTS.index(part.answer)


def is_coming(got: InboxRecord) -> bool:
    """Whether it was accepted and is not all here: the disk still has room for it, which it will take."""
    return not is_over(got) and got.answer in (Answer.ACCEPTED, Answer.FETCHING)


class SendCore:
    """Both lists of one computer."""

    def __init__(self, name: str = "") -> None:
        """`name`: what this computer calls itself, for those who do not know it."""
        self._name = name
        self.sent: dict[str, SentRecord] = {}
        self.inbox: dict[str, InboxRecord] = {}
        self._replies = Rate(ANSWERS_PER_S, ANSWERS_BURST)
        self._due = 0.0
        self._serial = 0

    def load(self, sent: list[SentRecord], inbox: list[InboxRecord], now: float) -> list[Any]:
        """Go on from what is on disk, before the first event."""
        self.sent = {record.id: record for record in sent}
        self.inbox = {record.id: record for record in inbox}
        return self._expire(now)

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at `now`.

        Raises:
            UsageError, NotFound, LimitExceeded: a command that cannot be obeyed; nothing has changed.
        """
        match event:
            case Heard(peer, Offer() as offer):
                out = self._offered(event, peer, offer, now)
            case Heard(peer, Stands() | Gone() as message):
                out = self._stands(peer, message, now)
            case Heard(peer, Said() as said):
                out = self._said(peer, said, now)
            case Make() | Cancel() | Accept() | Decline():
                out = self._obey(event, now)
            case StreamOpened(peer, offer_id):
                out = self._stream_opened(peer, offer_id)
            case Told(id_, peer, serial):
                out = self._told(id_, peer, serial)
            case Fetching() | Placed() | ItemHere() | Broke():
                out = self._progressed(event, now)
            case TimerFired(("due",)):
                self._due = 0.0
                out = self._expire(now)
            case _:
                out = []
        return out + self._plan(now)

    # ---- questions

    def unsent(self) -> Iterator[Unsent]:
        """What is to be told to others, those of one offer in order."""
        for record in self.sent.values():
            for part in record.parts:
                if part.told < part.serial:
                    stands = stands_of(record, part)
                    messages = (offer_of(record, self._name), stands) if not part.told else (stands,)
                    lasts_s = record.lasts_s if not part.told else 2 * record.lasts_s
                    peer = PeerId.parse(part.peer)
                    yield Unsent(
                        record.id, record.offer, peer, part.serial, part.is_stranger, messages, lasts_s
                    )
        for got in self.inbox.values():
            if got.told < got.serial:
                peer = PeerId.parse(got.sender)
                yield Unsent(got.id, got.offer, peer, got.serial, got.is_stranger, (said_of(got),), 0.0)

    def given(self) -> Iterator[tuple[SentRecord, list[Part]]]:
        """Each offer of ours that is not over, with the computers that may fetch it now."""
        for record in self.sent.values():
            if not record.ended:
                yield record, [p for p in record.parts if p.stand == Stand.GRANTED and not is_over(p)]

    def calls(self, now: float) -> Iterator[Call]:
        """The offers to and from strangers for which we open a stream, until both sides know how they ended."""
        for record in self.sent.values():
            for part in record.parts:
                is_done = is_over(part) and part.told >= part.serial
                if part.dials and not is_done and now < part.until + LINGER_S:
                    first = offer_of(record, self._name)
                    yield Call(PeerId.parse(part.peer), record.offer, first, tuple(part.addresses))
        for got in self.inbox.values():
            is_done = is_over(got) and got.settled >= got.serial
            if got.dials and not is_done and now < got.until + LINGER_S:
                yield Call(PeerId.parse(got.sender), got.offer, Take(got.offer), tuple(got.addresses))

    def is_for(self, peer: PeerId, offer: bytes) -> bool:
        """Whether the stranger `peer` was offered this by us."""
        return any(
            part.is_stranger and part.peer == str(peer)
            for record in self.sent.values()
            if record.offer == offer
            for part in record.parts
        )

    def wanted(self) -> list[InboxRecord]:
        """The offers of others that are to be fetched now."""
        return [got for got in self.inbox.values() if got.answer == Answer.FETCHING and not is_over(got)]

    # ---- commands

    def _obey(self, event: Any, now: float) -> list[Any]:
        match event:
            case Make(record):
                if sum(not old.ended for old in self.sent.values()) >= SENT_MAX:
                    raise LimitExceeded(
                        tr(
                            "{sent_max} offers are open already: cancel some (`coterie sent`)",
                            sent_max=SENT_MAX,
                        )
                    )
                self.sent[record.id] = record
                return [Keep(record), *self._prune(self.sent)]
            case Cancel(id_):
                offer = self._sent(id_)
                if offer.ended:
                    raise UsageError(
                        tr(
                            "{id} is over already: {value}",
                            id=id_,
                            value=", ".join(sorted({word(p) for p in offer.parts})),
                        )
                    )
                out: list[Any] = []
                for part in offer.parts:
                    out += self._end(offer, part, Stand.CANCELLED)
                return [*out, *self._settle(offer, now)]
            case Accept(id_, folder):
                return self._accept(self._got(id_), folder)
            case Decline(id_):
                got = self._got(id_)
                if is_over(got):
                    raise UsageError(tr("{id} is over already: {word}", id=id_, word=word(got)))
                return self._answer(got, Answer.DECLINED, now)
        return []

    def _accept(self, got: InboxRecord, folder: str) -> list[Any]:
        if is_over(got):
            raise UsageError(tr("{got_id} is over already: {word}", got_id=got.id, word=word(got)))
        if got.answer not in (Answer.DELIVERED, Answer.FAILED):
            raise UsageError(tr("{got_id} is accepted already", got_id=got.id))
        got.folder = folder or got.folder
        is_granted = got.stand == Stand.GRANTED and bool(got.keys)
        return self._answer(got, Answer.FETCHING if is_granted else Answer.ACCEPTED, 0.0)

    # ---- the sender's side

    def _said(self, peer: PeerId, said: Said, now: float) -> list[Any]:
        record = next((r for r in self.sent.values() if r.offer == said.id), None)
        part = next((p for p in record.parts if p.peer == str(peer)), None) if record is not None else None
        if record is None or part is None:
            return self._reply(peer, Gone(said.id), now) if said.answer in _GOES_ON else []
        is_final = part.answer in (Answer.RECEIVED, Answer.DECLINED)
        if said.serial <= part.heard or is_final or said.answer not in set(Answer):
            return []
        before = word(part)
        part.heard, part.percent, part.reason = said.serial, said.percent, said.reason
        part.answer = Answer(said.answer)
        out: list[Any] = []
        if part.answer == Answer.ACCEPTED and part.stand == Stand.OPEN:
            self._change(part, Stand.GRANTED)
            part.until = now + record.lasts_s
        if record.is_for_first and part.answer in (Answer.ACCEPTED, Answer.DECLINED):
            others = Stand.DECLINED if part.answer == Answer.DECLINED else Stand.ELSEWHERE
            for other in record.parts:
                if other is not part and other.stand == Stand.OPEN:
                    out += self._end(record, other, others)
        if word(part) != before:
            out.append(Emit(News(record, part, word(part))))
        if is_over(part) and said.answer in _GOES_ON and said.heard < part.serial:
            part.told = 0  # the other side does not know that it is over: tell it again
        if part.is_stranger and is_over(part):
            part.serial += 1  # it is waiting to hear that we know
        return [*out, *self._settle(record, now)]

    def _end(self, record: SentRecord, part: Part, stand: Stand) -> list[Any]:
        """The offer no longer holds for this computer, unless that is over already."""
        if is_over(part):
            return []
        self._change(part, stand)
        return [Emit(News(record, part, word(part)))]

    @staticmethod
    def _change(part: Part, stand: Stand) -> None:
        part.stand = stand
        part.serial += 1

    def _settle(self, record: SentRecord, now: float) -> list[Any]:
        if not record.ended and all(map(is_over, record.parts)):
            record.ended = now
        return [Keep(record), *self._prune(self.sent)]

    # ---- the other side

    def _offered(self, event: Heard, peer: PeerId, offer: Offer, now: float) -> list[Any]:
        if self.find(peer, offer.id) is not None or offer.until <= now:
            return []
        is_open = [got for got in self.inbox.values() if not is_over(got)]
        of_one = sum(got.sender == str(peer) for got in is_open)
        is_unasked = event.is_stranger and not event.dials
        unasked = sum(got.is_stranger and not got.dials for got in is_open)
        if (
            len(is_open) >= INBOX_MAX
            or of_one >= (INBOX_OF_ONE_STRANGER_MAX if is_unasked else INBOX_OF_ONE_MAX)
            or (is_unasked and unasked >= INBOX_OF_STRANGERS_MAX)
        ):
            return self._reply(peer, Said(offer.id, 1, Answer.DECLINED, reason=FULL), now)
        got = InboxRecord(
            id=self._new_id(offer.id),
            created=now,
            offer=offer.id,
            sender=str(peer),
            items=[InboxItem(item.name, item.kind, item.files, item.size) for item in offer.items],
            until=min(float(offer.until), now + UNTIL_MAX_S),
            note=offer.note,
            is_stranger=event.is_stranger,
            dials=event.dials,
            addresses=list(event.addresses),
            name=offer.name,
        )
        self.inbox[got.id] = got
        return [Keep(got), *self._prune(self.inbox), Emit(News(got, None, word(got)))]

    def _stands(self, peer: PeerId, message: Stands | Gone, now: float) -> list[Any]:
        got = self.find(peer, message.id)
        if got is None:
            return []
        before = word(got)
        if isinstance(message, Gone):
            got.settled = got.serial
            if not got.is_closed:
                got.stand, got.is_closed = Stand.EXPIRED, True
        else:
            got.settled = max(got.settled, message.heard)
            is_granted = message.stand == Stand.GRANTED
            if message.serial <= got.heard or message.stand not in set(Stand):
                return [Keep(got)]
            if is_granted and len(message.keys) != len(got.items):
                return [Keep(got)]  # they cannot be those of this offer
            got.heard = message.serial
            if got.is_closed:
                return [Keep(got)]
            got.stand, got.is_closed = Stand(message.stand), message.stand in _STAND_WORDS
            got.until = min(float(message.until), now + UNTIL_MAX_S)
            if is_granted and not got.keys:  # what was granted first is what is fetched, to the end
                got.keys = list(message.keys)
        out: list[Any] = []
        got.ended = (got.ended or now) if is_over(got) else 0.0
        if word(got) != before:
            out.append(Emit(News(got, None, word(got))))
        if got.stand == Stand.GRANTED and got.answer == Answer.ACCEPTED:
            return out + self._answer(got, Answer.FETCHING, now)
        return [*out, Keep(got)]

    def _answer(self, got: InboxRecord, answer: Answer, now: float, reason: str = "") -> list[Any]:
        before = word(got)
        got.answer, got.reason = answer, reason
        got.serial += 1
        if is_over(got) and not got.ended:
            got.ended = now or got.created
        news = [Emit(News(got, None, word(got)))] if word(got) != before else []
        return [Keep(got), *news]

    def _progressed(self, event: Fetching | Placed | ItemHere | Broke, now: float) -> list[Any]:
        got = self.inbox.get(event.id)
        if got is None or got.answer != Answer.FETCHING or is_over(got):
            return []
        match event:
            case Fetching(_, percent):
                if percent <= got.percent:
                    return []
                got.percent = percent
                got.serial += 1
                return [Keep(got)]
            case Placed(_, number, path, transfer):
                got.items[number].path, got.items[number].transfer = path, transfer
                return [Keep(got)]
            case ItemHere(_, number, path):
                got.items[number].is_here, got.items[number].path = True, path
                if not all(item.is_here for item in got.items):
                    return [Keep(got)]
                got.percent = 100
                return self._answer(got, Answer.RECEIVED, now)
            case Broke(_, reason):
                return self._answer(got, Answer.FAILED, now, reason)

    # ---- both

    def _stream_opened(self, peer: PeerId, offer: bytes) -> list[Any]:
        for record in self.sent.values():
            for part in record.parts:
                if record.offer == offer and part.peer == str(peer):
                    part.told = 0
        if (got := self.find(peer, offer)) is not None:
            got.told = got.serial - 1
        return []

    def _told(self, id_: str, peer: PeerId, serial: int) -> list[Any]:
        if (got := self.inbox.get(id_)) is not None and got.sender == str(peer):
            got.told = max(got.told, serial)
            return [Keep(got)]
        if (record := self.sent.get(id_)) is None:
            return []
        for part in record.parts:
            if part.peer == str(peer):
                part.told = max(part.told, serial)
        return [Keep(record)]

    def _expire(self, now: float) -> list[Any]:
        out: list[Any] = []
        for record in list(self.sent.values()):
            late = [p for p in record.parts if not is_over(p) and p.until <= now]
            for part in late:
                out += self._end(record, part, Stand.EXPIRED)
            if late:
                out += self._settle(record, now)
        for got in list(self.inbox.values()):
            if not is_over(got) and got.until <= now:
                got.stand, got.ended = Stand.EXPIRED, now
                out += [Keep(got), Emit(News(got, None, word(got)))]
        return out

    def _plan(self, now: float) -> list[Any]:
        """The timer, for what expires first."""
        untils = [p.until for r in self.sent.values() if not r.ended for p in r.parts if not is_over(p)]
        untils += [got.until for got in self.inbox.values() if not is_over(got)]
        due = min(untils, default=0.0)
        if not due or due == self._due:
            return []
        self._due = due
        return [SetTimer(DUE, max(due, now))]

    def _reply(self, peer: PeerId, message: Message, now: float) -> list[Any]:
        return [Reply(peer, message)] if self._replies.take(now) else []

    @staticmethod
    def _prune(records: "dict[str, Any]") -> list[Any]:
        """The oldest of those that are over leave; while the other side is to hear of it, only beyond a bound."""
        over = [r for r in records.values() if r.ended]
        heard = sorted((r for r in over if not _has_news(r)), key=lambda r: r.ended)
        unheard = sorted((r for r in over if _has_news(r)), key=lambda r: (_is_answered(r), r.ended))
        gone = heard[: max(0, len(heard) - KEPT_MAX)] + unheard[: max(0, len(unheard) - UNHEARD_MAX)]
        for record in gone:
            del records[record.id]
        return [Drop(record) for record in gone]

    def find(self, peer: PeerId, offer: bytes) -> InboxRecord | None:
        return next((g for g in self.inbox.values() if g.offer == offer and g.sender == str(peer)), None)

    def _sent(self, text: str) -> SentRecord:
        if text not in self.sent:
            raise NotFound(tr("there is no offer '{text}'; `coterie sent` lists them", text=text))
        return self.sent[text]

    def _got(self, text: str) -> InboxRecord:
        if text not in self.inbox:
            raise NotFound(
                tr("there is no offer '{text}' in the inbox; `coterie inbox` lists them", text=text)
            )
        return self.inbox[text]

    def _new_id(self, offer: bytes) -> str:
        """A short one, from the offer's own random id."""
        letters = "abcdefghjkmnpqrstuvwxyz23456789"
        number, size = int.from_bytes(offer, "big"), 4
        while True:
            rest, text = number, ""
            for _ in range(size):
                rest, digit = divmod(rest, len(letters))
                text += letters[digit]
            if text not in self.inbox:
                return text
            size += 1


def _has_news(record: SentRecord | InboxRecord) -> bool:
    """Whether the other side is still to be told something."""
    if isinstance(record, InboxRecord):
        return record.told < record.serial
    return any(part.told < part.serial for part in record.parts)


def _is_answered(record: SentRecord | InboxRecord) -> bool:
    """Whether more is to be told than that an offer came."""
    return not isinstance(record, InboxRecord) or record.answer != Answer.DELIVERED


def offer_of(record: SentRecord, name: str = "") -> Offer:
    """The offer as others get it."""
    items = [Item(item.name, item.kind, item.files, item.size) for item in record.items]
    return Offer(record.offer, items, round(record.created + record.lasts_s), record.note, name)


def stands_of(record: SentRecord, part: Part) -> Stands:
    """Our half of an offer, for one computer."""
    is_given = part.stand == Stand.GRANTED
    keys = [Key(item.root, item.secret) for item in record.items] if is_given else []
    return Stands(record.offer, part.serial, part.stand, max(1, round(part.until)), keys, part.heard)


def said_of(got: InboxRecord) -> Said:
    """Our half of an offer of somebody else."""
    return Said(got.offer, got.serial, got.answer, got.percent, got.reason, got.heard)


def size_of(items: list[Any]) -> int:
    """Bytes of all."""
    return sum(item.size for item in items)
