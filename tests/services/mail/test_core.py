"""The core of mail, step by step: its bounds, who it believes, one of several addressees."""

from random import Random
from typing import Any

import msgspec
import pytest

from coterie.identity import PeerId
from coterie.machine import Emit, PeerDown, PeerUp, SetTimer, TimerFired
from coterie.services.mail import limits
from coterie.services.mail.core import MailCore
from coterie.services.mail.events import (
    Answer,
    Answered,
    Arrived,
    Bind,
    Deliver,
    Dial,
    Ended,
    Forget,
    ForgetStream,
    Handled,
    KeepFinished,
    Outgoing,
    Post,
    Posted,
    Transmit,
)
from coterie.services.mail.messages import Letter, Outcome, Receipt
from coterie.services.mail.sealing import Opened, digest
from tests.services.mail.histories import ANNA, BEN, BEN2, MALLORY

NOW = 1_000.0
LATER = 9_000


def core() -> MailCore:
    return MailCore(Random(1))


def post(number: int, *addressees: PeerId, **changes: Any) -> Post:
    body = changes.pop("body", b"%d" % number)
    event = Post(b"%016d" % number, addressees or (BEN,), "", True, False, LATER, body, digest(body))
    return msgspec.structs.replace(event, **changes)


def of(kind: type, outputs: list[Any]) -> list[Any]:
    return [o for o in outputs if isinstance(o, kind)]


def posted(outputs: list[Any]) -> Posted:
    return next(o.event for o in outputs if isinstance(o, Emit) and isinstance(o.event, Posted))


def ended(outputs: list[Any]) -> list[Ended]:
    return [o.event for o in outputs if isinstance(o, Emit) and isinstance(o.event, Ended)]


def receipt(sent: Transmit, outcome: Outcome = Outcome.TAKEN, **changes: Any) -> Receipt:
    letter = sent.letter
    made = Receipt(
        bytes(letter.addressee), bytes(ANNA), letter.id, outcome, sent.head.attempt, letter.digest, bytes(64)
    )
    return msgspec.structs.replace(made, **changes)


def arrived(
    number: int, *, sender: PeerId = ANNA, id_: bytes = b"", expires: int = LATER, **changes: Any
) -> Arrived:
    letter = Letter("app", "", True, b"e" * 8, number, 1, 0, 0, b"%d" % number)
    letter = msgspec.structs.replace(letter, **changes)
    return Arrived(sender, Opened(sender=sender, id=id_ or b"%016d" % number, expires=expires, letter=letter))


def take(machine: MailCore, deliver: Deliver, *done: bool) -> list[Any]:
    epoch = deliver.letters[0].letter.epoch
    return machine.handle(Handled(deliver.key, epoch, done or (True,) * len(deliver.letters)), NOW)


# ---- outgoing


def test_a_letter_is_sent_when_both_meet_and_forgotten_by_the_receipt() -> None:
    machine = core()
    outputs = machine.handle(post(1), NOW)
    assert of(Dial, outputs) == [Dial(BEN)]
    assert not of(Transmit, outputs)
    (sent,) = of(Transmit, machine.handle(PeerUp(BEN), NOW))
    outputs = machine.handle(Answered(BEN, receipt(sent)), NOW)
    assert of(Forget, outputs) == [Forget(sent.letter.id, BEN)]
    assert ended(outputs) == [Ended(sent.letter.id, BEN, True)]
    assert machine.letters == machine.size == 0


def test_what_has_no_answer_is_sent_again_ever_less_often() -> None:
    machine = core()
    machine.handle(PeerUp(BEN), NOW)
    machine.handle(post(1), NOW)
    at, pauses = NOW, []
    for _ in range(10):
        at += limits.RETRY_MAX_S
        outputs = machine.handle(TimerFired(("retry", BEN)), at)
        assert len(of(Transmit, outputs)) == 1
        pauses.append(next(o.at - at for o in of(SetTimer, outputs) if o.key == ("retry", BEN)))
    assert pauses == sorted(pauses)
    assert pauses[-1] == limits.RETRY_MAX_S


def test_a_receipt_of_who_has_not_read_the_letter_counts_for_nothing() -> None:
    machine = core()
    machine.handle(post(1), NOW)
    (sent,) = of(Transmit, machine.handle(PeerUp(BEN), NOW))
    for lie in (
        receipt(sent, digest=bytes(32)),
        receipt(sent, id=bytes(16)),
        receipt(sent, addressee=bytes(BEN2)),
    ):
        assert machine.handle(Answered(BEN, lie), NOW) == []
    assert machine.letters == 1


def test_away_is_believed_of_the_addressee_itself_only_and_of_this_attempt() -> None:
    machine = core()
    machine.handle(post(1, BEN, BEN2, is_for_first=True), NOW)
    (sent,) = of(Transmit, machine.handle(PeerUp(BEN), NOW))
    assert machine.handle(Answered(MALLORY, receipt(sent, Outcome.AWAY)), NOW) == []
    assert (
        machine.handle(Answered(BEN, receipt(sent, Outcome.AWAY, attempt=sent.head.attempt ^ 1)), NOW) == []
    )
    assert of(Bind, machine.handle(Answered(BEN, receipt(sent, Outcome.AWAY)), NOW))


def test_in_flight_is_bounded() -> None:
    machine = core()
    machine.handle(PeerUp(BEN), NOW)
    sent = [s for n in range(limits.IN_FLIGHT_MAX + 1) for s in of(Transmit, machine.handle(post(n), NOW))]
    assert len(sent) == limits.IN_FLIGHT_MAX
    (last,) = of(Transmit, machine.handle(Answered(BEN, receipt(sent[0])), NOW))
    assert last.letter.number == limits.IN_FLIGHT_MAX + 1


def test_what_waits_for_one_addressee_is_bounded() -> None:
    machine = core()
    for number in range(limits.PENDING_MAX):
        assert not posted(machine.handle(post(number), NOW)).refused
    assert "PENDING_MAX" in posted(machine.handle(post(limits.PENDING_MAX), NOW)).refused
    assert not posted(machine.handle(post(limits.PENDING_MAX, BEN2), NOW)).refused


def test_bytes_and_streams_and_letters_of_an_app_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, body = core(), bytes(limits.BODY_BYTES_MAX)
    for number in range(limits.PENDING_BYTES_MAX // len(body)):
        assert not posted(machine.handle(post(number, body=body), NOW)).refused
    assert "PENDING_BYTES_MAX" in posted(machine.handle(post(10**6, body=b"x"), NOW)).refused
    for number in range(limits.STREAMS_MAX):
        assert not posted(machine.handle(post(10**7 + number, BEN2, stream=str(number)), NOW)).refused
    assert "STREAMS_MAX" in posted(machine.handle(post(1, BEN2, stream="one more"), NOW)).refused
    monkeypatch.setattr("coterie.services.mail.outbox.APP_LETTERS_MAX", machine.letters)
    assert "APP_LETTERS_MAX" in posted(machine.handle(post(1, ANNA), NOW)).refused


def test_an_expired_letter_is_told_and_the_next_ones_say_so() -> None:
    machine = core()
    machine.handle(post(1, expires=int(NOW) + 5), NOW)
    machine.handle(post(2), NOW)
    outputs = machine.handle(TimerFired(("end",)), NOW + 5)
    assert [(e.is_taken, bool(e.reason)) for e in ended(outputs)] == [(False, True)]
    (sent,) = of(Transmit, machine.handle(PeerUp(BEN), NOW + 6))
    assert (sent.head.number, sent.head.floor) == (2, 2)


def test_the_first_of_several_has_it_alone() -> None:
    machine = core()
    machine.handle(post(1, BEN, BEN2, is_for_first=True), NOW)
    outputs = machine.handle(PeerUp(BEN), NOW)
    (sent,) = of(Transmit, outputs)
    assert outputs.index(Bind(sent.letter)) < outputs.index(sent)
    assert not of(Transmit, machine.handle(PeerUp(BEN2), NOW))
    machine.handle(PeerDown(BEN), NOW)
    assert not of(Transmit, machine.handle(PeerUp(BEN2), NOW)), "nobody knows what ben has"
    machine.handle(PeerUp(BEN), NOW)
    outputs = machine.handle(Answered(BEN, receipt(sent)), NOW)
    assert {f.addressee for f in of(Forget, outputs)} == {BEN, BEN2}
    assert machine.letters == 0


@pytest.mark.parametrize("outcome", [Outcome.AWAY, Outcome.LATE])
def test_another_has_it_where_the_first_says_no(outcome: Outcome) -> None:
    machine = core()
    machine.handle(post(1, BEN, BEN2, is_for_first=True), NOW)
    machine.handle(PeerUp(BEN2), NOW)
    machine.handle(PeerUp(BEN), NOW)
    sent = next(iter(machine._out._to[BEN2].flying.values()))
    answer = receipt(
        Transmit(sent.letter, Letter("", "", True, b"e" * 8, 1, 1, 0, sent.attempt, b"")), outcome
    )
    outputs = machine.handle(Answered(BEN2, answer), NOW)
    assert [t.letter.addressee for t in of(Transmit, outputs)] == [BEN]


def test_after_a_second_attempt_away_frees_nothing() -> None:
    """The first may have been taken, and its receipt lost."""
    machine = core()
    machine.handle(post(1, BEN, BEN2, is_for_first=True), NOW)
    machine.handle(PeerUp(BEN), NOW)
    (again,) = of(Transmit, machine.handle(TimerFired(("retry", BEN)), NOW + limits.RETRY_MIN_S))
    machine.handle(Answered(BEN, receipt(again, Outcome.AWAY)), NOW + 6)
    assert not of(Transmit, machine.handle(PeerUp(BEN2), NOW + 7))


def test_what_was_on_disk_goes_on() -> None:
    machine = core()
    letters = [
        Outgoing(b"%016d" % n, BEN, "", True, n, LATER, 1, digest(b"x"), epoch=b"e" * 8) for n in (7, 4)
    ]
    outputs = machine.load(letters, {}, NOW)
    assert of(Dial, outputs) == [Dial(BEN)]
    machine.handle(post(1), NOW)
    machine.handle(post(2, stream="other"), NOW)
    first, second, other = of(Transmit, machine.handle(PeerUp(BEN), NOW))
    assert [(s.head.number, s.head.floor, s.head.epoch) for s in (first, second)] == [
        (n, 4, b"e" * 8) for n in (7, 4)
    ]
    assert (other.head.number, other.head.stream) == (1, "other")
    assert not of(Transmit, machine.handle(Answered(BEN, receipt(first)), NOW))
    (later,) = of(Transmit, machine.handle(Answered(BEN, receipt(second)), NOW))  # in order over the start
    assert (later.head.number, later.head.floor) == (1, 1)
    assert later.head.epoch not in (b"e" * 8, other.head.epoch)


def test_letters_without_an_order_wait_for_none_of_an_earlier_start() -> None:
    machine = core()
    old = Outgoing(b"%016d" % 4, BEN, "", False, 4, LATER, 1, digest(b"x"), epoch=b"e" * 8)
    machine.load([old], {}, NOW)
    machine.handle(post(1, is_ordered=False), NOW)
    assert [s.head.number for s in of(Transmit, machine.handle(PeerUp(BEN), NOW))] == [4, 1]


def test_what_waits_for_an_earlier_start_goes_when_that_is_over_or_somebody_elses() -> None:
    machine = core()
    old = Outgoing(b"%016d" % 4, BEN, "", True, 4, int(NOW) + 5, 1, digest(b"x"), epoch=b"e" * 8)
    machine.load([old], {}, NOW)
    machine.handle(post(1), NOW)
    machine.handle(PeerUp(BEN), NOW)
    (sent,) = of(Transmit, machine.handle(TimerFired(("end",)), NOW + 6))
    assert sent.head.number == 1

    machine = core()
    both = [
        Outgoing(b"%016d" % 4, p, "", True, 4, LATER, 1, digest(b"x"), is_for_first=True, epoch=b"e" * 8)
        for p in (BEN, BEN2)
    ]
    machine.load(both, {}, NOW)
    machine.handle(post(1, BEN2), NOW)
    machine.handle(PeerUp(BEN2), NOW)  # it gets the old one
    machine = core()
    machine.load(both, {}, NOW)
    machine.handle(post(1, BEN2), NOW)
    machine.handle(PeerUp(BEN), NOW)  # the old one is bound to the other
    (sent,) = of(Transmit, machine.handle(PeerUp(BEN2), NOW))
    assert sent.letter.id == post(1).id


def test_a_home_from_a_backup_and_its_other_life_lose_no_letter() -> None:
    """Both go on from the same disk, use the same numbers, and write to the same computer in turns."""
    inbox, got = MailCore(Random(9)), list[bytes]()
    waiting = [
        Outgoing(b"%016d" % 4, BEN, "", True, 4, LATER, 1, digest(b"x"), epoch=b"e" * 8),
    ]
    lives = [MailCore(Random(seed)) for seed in (1, 2)]
    for life in lives:
        life.load(waiting, {}, NOW)
        life.handle(PeerUp(BEN), NOW)

    def give(life: MailCore, outputs: list[Any]) -> None:
        for sent in of(Transmit, outputs):
            letter = msgspec.structs.replace(sent.head, app="app", body=sent.letter.digest)
            opened = Opened(sender=ANNA, id=sent.letter.id, expires=LATER, letter=letter)
            answers = inbox.handle(Arrived(ANNA, opened), NOW)
            for deliver in of(Deliver, answers):
                got.extend(one.id for one in deliver.letters)
                answers += take(inbox, deliver)
            for answer in of(Answer, answers):
                ends = life.handle(Answered(BEN, receipt(sent, answer.outcome)), NOW)
                assert all(end.is_taken for end in ended(ends))
                give(life, ends)

    for life in lives:
        give(life, of(Transmit, life.handle(TimerFired(("retry", BEN)), NOW + limits.RETRY_MIN_S)))
    for number in range(20):
        for turn, life in enumerate(lives):
            give(life, life.handle(post(100 + 2 * number + turn), NOW))
    assert got[0] == waiting[0].id
    assert got[1:] == [b"%016d" % n for n in range(100, 140)]  # each once, each life in order


# ---- incoming


def test_an_earlier_letter_is_waited_for() -> None:
    machine = core()
    assert not of(Deliver, machine.handle(arrived(2, gap_until=LATER), NOW))
    (deliver,) = of(Deliver, machine.handle(arrived(1), NOW))
    assert [opened.letter.number for opened in deliver.letters] == [1, 2]
    answers = of(Answer, take(machine, deliver))
    assert [a.outcome for a in answers] == [Outcome.TAKEN] * 2


def test_unordered_letters_do_not_wait() -> None:
    machine = core()
    assert of(Deliver, machine.handle(arrived(2, is_ordered=False, gap_until=LATER), NOW))


def test_a_letter_comes_again_and_is_not_given_again() -> None:
    machine = core()
    (deliver,) = of(Deliver, machine.handle(arrived(1), NOW))
    assert not machine.handle(arrived(1), NOW), "while the app has it"
    take(machine, deliver)
    outputs = machine.handle(arrived(1), NOW)
    assert [a.outcome for a in of(Answer, outputs)] == [Outcome.TAKEN]
    assert not of(Deliver, outputs)


def test_another_letter_under_a_known_number_is_not_told_to_be_taken() -> None:
    """Its sender lost its count, as from an old backup: it is to hear that this letter did not arrive."""
    machine = core()
    take(machine, *of(Deliver, machine.handle(arrived(1), NOW)))
    (answer,) = of(Answer, machine.handle(arrived(1, id_=b"another" + bytes(9)), NOW))
    assert answer.outcome is Outcome.LATE


def test_a_gap_is_let_past_when_all_in_it_has_expired() -> None:
    machine = core()
    outputs = machine.handle(arrived(3, gap_until=int(NOW) + 10), NOW)
    (timer,) = of(SetTimer, outputs)
    assert timer.at == NOW + 10
    outputs = machine.handle(TimerFired(timer.key), NOW + 10)
    assert of(KeepFinished, outputs)[0].late == (1, 2)
    take(machine, *of(Deliver, outputs))
    (answer,) = of(Answer, machine.handle(arrived(2), NOW + 11))
    assert answer.outcome is Outcome.LATE


def test_an_expired_letter_is_not_given() -> None:
    machine = core()
    outputs = machine.handle(arrived(1, expires=int(NOW)), NOW)
    assert [a.outcome for a in of(Answer, outputs)] == [Outcome.LATE]


def test_a_letter_that_the_app_fails_at_holds_its_stream_until_it_expires() -> None:
    machine = core()
    (deliver,) = of(Deliver, machine.handle(arrived(1, expires=int(NOW) + 100), NOW))
    machine.handle(arrived(2), NOW)
    outputs = take(machine, deliver, False)
    (timer,) = of(SetTimer, outputs)
    assert timer.at == NOW + limits.HANDLER_RETRY_S
    assert not of(Deliver, outputs)
    outputs = machine.handle(TimerFired(timer.key), NOW + 100)
    assert [o.letter.number for o in of(Deliver, outputs)[0].letters] == [2]
    assert [a.outcome for a in of(Answer, outputs)] == [Outcome.LATE]


def test_numbers_far_ahead_are_dropped() -> None:
    machine = core()
    machine.handle(arrived(1), NOW)
    assert not machine.handle(arrived(limits.RANGE_MAX + 1), NOW)


def test_held_letters_of_a_sender_are_bounded_and_keep_the_next_one_not_out() -> None:
    machine = core()
    for number in range(2, limits.HELD_MAX + 4):
        machine.handle(arrived(number, gap_until=LATER), NOW)
    assert of(Deliver, machine.handle(arrived(1, stream="another"), NOW))
    outputs, given = machine.handle(arrived(1), NOW), 0
    while delivers := of(Deliver, outputs):
        given += len(delivers[0].letters)
        assert len(delivers[0].letters) <= limits.RUN_MAX
        outputs = take(machine, delivers[0])
    assert given == limits.HELD_MAX - 1, "one place has the other stream"


def test_held_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.services.mail.inbox.HELD_BYTES_MAX", 3)
    machine = core()
    for number in range(2, 8):
        machine.handle(arrived(number, body=b"x", gap_until=LATER), NOW)
    (deliver,) = of(Deliver, machine.handle(arrived(1, body=b"x"), NOW))
    assert [opened.letter.number for opened in deliver.letters] == [1, 2, 3]


def test_streams_of_a_sender_are_bounded_and_give_way_when_their_letters_have_expired() -> None:
    machine = core()
    for number in range(limits.EPOCHS_MAX):
        epoch = b"%08d" % number
        take(machine, *of(Deliver, machine.handle(arrived(1, stream=str(number % 64), epoch=epoch), NOW)))
    assert machine.handle(arrived(1, stream="one more"), NOW) == []
    assert of(Deliver, machine.handle(arrived(1, sender=BEN2, stream="of another"), NOW))
    outputs = machine.handle(arrived(1, stream="one more", expires=LATER + 9), LATER + 1)
    assert len(of(ForgetStream, outputs)) == limits.EPOCHS_MAX
    assert of(Deliver, outputs)
    late = machine.handle(arrived(1, stream="0", epoch=b"%08d" % 0), LATER + 1)
    assert [answer.outcome for answer in of(Answer, late)] == [Outcome.LATE]  # forgotten, and not given twice


def test_ids_remembered_of_a_sender_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.services.mail.inbox.FINISHED_MAX", 5)
    machine = core()
    for number in range(1, 6):
        take(machine, *of(Deliver, machine.handle(arrived(number), NOW)))
    assert machine.handle(arrived(6), NOW) == []
    assert of(Deliver, machine.handle(arrived(6, floor=3), NOW))  # the sender knows of some
