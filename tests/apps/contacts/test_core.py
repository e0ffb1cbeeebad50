"""The inviter's and the joiner's core against honest peers, guessers, thieves in the middle, and silence."""

import random
from typing import Any

import pytest

from coterie.apps.contacts.core import (
    ENDED_MAX,
    ENDED_S,
    KNOCKS_BURST,
    KNOCKS_PER_S,
    PARTING_S,
    SESSION_S,
    SESSIONS_MAX,
    TRIES_MAX,
    Card,
    Ended,
    Forget,
    InvitationOver,
    Invite,
    JoinRefused,
    Keep,
    Withdraw,
    WrongTry,
)
from coterie.apps.contacts.meetings import check_word, meeting_purpose
from coterie.apps.contacts.messages import (
    ADDRESSES_MAX,
    ELEMENT_BYTES,
    PROTOCOL,
    RECORD_BYTES_MAX,
    Accept,
    Answer,
    Confirm,
    Done,
    Introduce,
    Knock,
    Over,
    Reason,
    Refused,
    Right,
)
from coterie.errors import CloseCode, PeerError, UsageError
from coterie.machine import PeerDown, Received, Send
from tests.apps.contacts.play import ANNA, BEN, CODE, EVE, LIFE_S, SECRET, Inviter, entropy, joiner, play


def confirm_of(inviter: Inviter, session: int, core: Any) -> Confirm:
    """Knock, and what the joiner says next."""
    (answer,) = inviter.say(session, core.knock())
    (output,) = core.handle(Received(ANNA, answer), inviter.now)
    assert isinstance(output, Send)
    return output.message


def test_the_right_code_makes_both_meet_once() -> None:
    inviter = Inviter()
    assert play(inviter, joiner()) == [Card("anna", ("192.0.2.1:1",)), Done()]
    assert inviter.kept == [BEN]
    assert inviter.emitted == [Ended(7, Reason.USED, BEN)]
    with pytest.raises(InvitationOver, match="used already"):
        play(inviter, joiner(EVE), EVE)
    assert inviter.kept == [BEN]


def test_the_secret_of_the_long_form_is_a_right_of_its_own() -> None:
    inviter = Inviter()
    with pytest.raises(JoinRefused):
        play(inviter, joiner(secret=SECRET, right=Right.CODE))
    with pytest.raises(JoinRefused):
        play(inviter, joiner(right=Right.SECRET))
    assert Done() in play(inviter, joiner(secret=SECRET, right=Right.SECRET))


def test_a_joiner_who_missed_the_last_word_may_come_back() -> None:
    inviter = Inviter()
    play(inviter, joiner())
    assert Done() in play(inviter, joiner(seed=b"again"))
    assert inviter.emitted == [Ended(7, Reason.USED, BEN)]


def test_a_removed_joiner_does_not_come_back_with_what_it_used() -> None:
    inviter = Inviter()
    play(inviter, joiner())
    inviter.feed(Forget(BEN))
    with pytest.raises(InvitationOver, match="used already"):
        play(inviter, joiner(seed=b"again"))
    assert inviter.kept == [BEN]


def test_a_joiner_that_is_removed_while_it_comes_back_stays_out() -> None:
    inviter = Inviter()
    play(inviter, joiner())
    core = joiner(seed=b"again")
    session = inviter.open(BEN)
    (accept,) = inviter.say(session, confirm_of(inviter, session, core))
    (introduce,) = (o.message for o in core.handle(Received(ANNA, accept), 0.0) if isinstance(o, Send))
    inviter.feed(Forget(BEN))
    assert inviter.ended[session] == CloseCode.CANCELLED
    inviter.say(session, introduce)
    assert inviter.kept == [BEN]
    with pytest.raises(InvitationOver, match="used already"):
        play(inviter, joiner(seed=b"once more"))


def test_only_the_first_time_is_it_told_to_what_an_invitation_was() -> None:
    inviter = Inviter()
    keeps: list[Keep] = []
    for seed in (b"ben", b"again"):
        core, session = joiner(seed=seed), inviter.open(BEN)
        (accept,) = inviter.say(session, confirm_of(inviter, session, core))
        (introduce,) = (o.message for o in core.handle(Received(ANNA, accept), 0.0) if isinstance(o, Send))
        keeps += [o for o in inviter.feed(Received(session, introduce)) if isinstance(o, Keep)]
        inviter.feed(PeerDown(session))
    assert [keep.is_again for keep in keeps] == [False, True]


def test_three_wrong_tries_burn_the_code_and_not_the_secret() -> None:
    inviter = Inviter()
    for left in reversed(range(TRIES_MAX)):
        with pytest.raises(JoinRefused):
            play(inviter, joiner(EVE, secret=b"wrong"), EVE)
        assert inviter.emitted[-1] == WrongTry(7, EVE, left)
    with pytest.raises(JoinRefused):
        play(inviter, joiner())
    assert len(inviter.emitted) == TRIES_MAX
    assert inviter.kept == []
    assert Done() in play(inviter, joiner(secret=SECRET, right=Right.SECRET))


def test_guesses_side_by_side_are_counted_as_well() -> None:
    inviter = Inviter()
    cores = [joiner(EVE, secret=b"wrong"), joiner(EVE, secret=b"no"), joiner(EVE, secret=b"bad"), joiner()]
    sessions = [inviter.open(peer) for peer in (EVE, EVE, EVE, BEN)]
    confirms = [confirm_of(inviter, s, core) for s, core in zip(sessions, cores, strict=True)]
    for session, confirm in zip(sessions, confirms, strict=True):
        assert inviter.say(session, confirm) == [Refused()]  # the last one is right, and too late
    assert inviter.kept == []


def test_a_guesser_loop_never_comes_in_and_sees_the_same_always() -> None:
    inviter = Inviter()
    seen = set()
    for guess in range(30):
        inviter.wait(1.0)
        session = inviter.open(EVE)
        core = joiner(EVE, secret=b"%d" % guess, seed=b"%d" % guess)
        inviter.say(session, confirm_of(inviter, session, core))
        seen.add((*(type(m) for m in inviter.sent[session]), inviter.ended[session]))
    assert seen == {(Answer, Refused, CloseCode.NORMAL)}
    assert [e.tries_left for e in inviter.emitted] == [2, 1, 0]


@pytest.mark.parametrize("number", [8, 0, 65535, 1 << 40, -1])
def test_a_number_that_never_was_looks_like_a_wrong_code(number: int) -> None:
    inviter = Inviter()
    session = inviter.open(EVE)
    core = joiner(EVE)
    knock = Knock(number, Right.CODE, core.knock().element)
    (answer,) = inviter.say(session, knock)
    assert len(answer.element) == ELEMENT_BYTES
    assert inviter.say(session, Confirm(bytes(32))) == [Refused()]
    assert inviter.emitted == []


def test_an_attempt_that_proves_nothing_learns_nothing_and_costs_no_try() -> None:
    inviter = Inviter()
    for _ in range(20):
        inviter.wait(1.0)
        session = inviter.open(EVE)
        inviter.say(session, joiner(EVE).knock())
        inviter.feed(PeerDown(session))
        assert [type(m) for m in inviter.sent[session]] == [Answer]
    assert inviter.emitted == []
    assert Done() in play(inviter, joiner())


def test_a_thief_in_the_middle_with_a_key_of_its_own_makes_both_fail() -> None:
    """Eve has connections to both and passes every message on, word for word."""
    inviter, ben = Inviter(), joiner(inviter=EVE)
    session = inviter.open(EVE)
    confirm = confirm_of(inviter, session, ben)
    assert inviter.say(session, confirm) == [Refused()]
    assert inviter.emitted == [WrongTry(7, EVE, 2)]
    with pytest.raises(PeerError, match="does not know the code"):
        ben.handle(Received(EVE, Accept(bytes(32), "anna", [])), 0.0)


def test_a_false_inviter_with_a_key_and_no_code_is_found_out() -> None:
    ben = joiner(inviter=EVE)
    false = joiner(BEN, inviter=EVE, secret=b"guess")  # any element of the group will do
    element = b"A" + false.knock().element[1:]
    (output,) = ben.handle(Received(EVE, Answer(element)), 0.0)
    assert isinstance(output.message, Confirm)
    with pytest.raises(PeerError, match="does not know the code"):
        ben.handle(Received(EVE, Accept(output.message.proof, "anna", [])), 0.0)  # not even its own proof


def test_what_was_said_once_is_worth_nothing_again() -> None:
    inviter = Inviter()
    ben = joiner()
    session = inviter.open(BEN)
    knock, confirm = ben.knock(), confirm_of(inviter, session, ben)
    inviter.feed(PeerDown(session))
    for peer in (BEN, EVE):
        replayed = inviter.open(peer)
        inviter.say(replayed, knock)
        assert inviter.say(replayed, confirm) == [Refused()]
    assert inviter.kept == []


def test_elements_that_cannot_be_are_refused() -> None:
    good = joiner().knock().element
    order_eight = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    bad = [b"", b"B", good[:-1], good + b"x", b"A" + good[1:], b"S" + good[1:], b"B" + bytes([1]) + bytes(31)]
    bad += [b"B" + bytes(32), b"B" + b"\xff" * 32, b"B" + order_eight, b"B" + bytes([2]) + bytes(31)]
    for element in bad:
        inviter = Inviter()
        session = inviter.open(EVE)
        assert inviter.say(session, Knock(7, Right.CODE, element)) == []
        assert inviter.ended[session] == CloseCode.PROTOCOL_VIOLATION
        assert inviter.emitted == []
    with pytest.raises(PeerError):
        joiner().handle(Received(ANNA, Answer(good)), 0.0)  # its own element sent back


MESSAGES = [
    Knock(7, 1, bytes(33)),
    Knock(7, 9, joiner().knock().element),
    Answer(bytes(33)),
    Confirm(b""),
    Confirm(bytes(1000)),
    Accept(bytes(32), "x", []),
    Introduce("x", []),
    Done(),
    Refused(),
    Over(1),
    joiner().knock(),
]


@pytest.mark.parametrize("seed", range(40))
def test_any_messages_in_any_order_let_nobody_in(seed: int) -> None:
    rng = random.Random(seed)
    inviter = Inviter()
    for _ in range(30):
        inviter.wait(rng.uniform(0, 2))
        session = inviter.open(EVE)
        for message in rng.choices(MESSAGES, k=6):
            inviter.say(session, message)
        if rng.random() < 0.5:
            inviter.feed(PeerDown(session))
    inviter.wait(SESSION_S)
    assert (inviter.kept, [t for t in inviter.timers if t[0] == "session"]) == ([], []), seed
    if inviter.emitted.count(WrongTry(7, EVE, 0)) == 0:
        assert Done() in play(inviter, joiner()), seed


@pytest.mark.parametrize("seed", range(20))
def test_a_joiner_takes_nothing_out_of_turn(seed: int) -> None:
    rng = random.Random(seed)
    ben = joiner()
    for message in rng.choices(MESSAGES, k=10):
        try:
            outputs = ben.handle(Received(ANNA, message), 0.0)
        except (PeerError, JoinRefused, InvitationOver):
            return
        assert not [o for o in outputs if not isinstance(o, Send)], seed


def test_silence_ends_at_every_step() -> None:
    for steps in range(3):
        inviter = Inviter()
        ben, session = joiner(), inviter.open(BEN)
        if steps:
            confirm = confirm_of(inviter, session, ben)
            if steps > 1:
                (accept,) = inviter.say(session, confirm)
                assert isinstance(accept, Accept)
        inviter.wait(SESSION_S)
        assert inviter.ended[session] == CloseCode.TIMEOUT
        assert Done() in play(inviter, joiner(EVE), EVE)  # the claim of the silent one is void


def test_many_at_once_are_bounded_and_the_rest_is_sent_away() -> None:
    inviter = Inviter()
    sessions = [inviter.open(BEN) for _ in range(SESSIONS_MAX + 1)]
    assert inviter.ended == {sessions[-1]: CloseCode.LIMIT}
    assert inviter.say(sessions[-1], joiner().knock()) == []
    inviter.feed(PeerDown(sessions[0]))
    assert inviter.open(BEN) not in inviter.ended


def test_knocks_are_paced_for_all_peers_together() -> None:
    inviter = Inviter()
    taken = 0
    for _ in range(KNOCKS_BURST + 5):
        session = inviter.open(EVE)
        taken += session not in inviter.ended
        inviter.feed(PeerDown(session))
    assert taken == KNOCKS_BURST
    inviter.wait(1 / KNOCKS_PER_S)
    assert inviter.open(BEN) not in inviter.ended


def test_one_who_claims_is_not_overtaken_but_by_itself() -> None:
    inviter = Inviter()
    first, second, third = (inviter.open(peer) for peer in (BEN, EVE, BEN))
    ben, eve, again = joiner(), joiner(EVE), joiner(seed=b"again")
    (accept,) = inviter.say(first, confirm_of(inviter, first, ben))
    assert isinstance(accept, Accept)
    assert inviter.say(second, confirm_of(inviter, second, eve)) == [Over(Reason.USED)]
    (accept,) = inviter.say(third, confirm_of(inviter, third, again))
    assert inviter.ended[first] == CloseCode.CANCELLED
    assert inviter.say(third, Introduce("ben", [])) == [Done()]
    assert inviter.say(first, Introduce("ben", [])) == []
    assert inviter.kept == [BEN]


def test_the_end_is_told_when_the_joiner_has_read_the_last_word_or_never_will() -> None:
    for leaves in (True, False):
        inviter, ben = Inviter(), joiner()
        session = inviter.open(BEN)
        inviter.say(session, confirm_of(inviter, session, ben))
        assert inviter.say(session, Introduce("ben", [])) == [Done()]
        assert (inviter.emitted, inviter.ended, inviter.core.open_numbers) == ([], {}, [])
        if leaves:
            inviter.feed(PeerDown(session))
        else:
            inviter.wait(PARTING_S)
            assert inviter.ended == {session: CloseCode.NORMAL}
        assert inviter.emitted == [Ended(7, Reason.USED, BEN)]
        assert inviter.say(session, Introduce("ben", [])) == []


def test_a_contact_that_cannot_be_stored_leaves_the_invitation_open() -> None:
    inviter = Inviter(stores=False)
    session, ben = inviter.open(BEN), joiner()
    inviter.say(session, confirm_of(inviter, session, ben))
    assert inviter.say(session, Introduce("ben", [])) == []
    assert inviter.ended[session] == CloseCode.INTERNAL
    inviter.stores = True
    assert Done() in play(inviter, joiner())


def test_time_is_up() -> None:
    inviter = Inviter()
    inviter.wait(LIFE_S - 1)
    session, ben = inviter.open(BEN), joiner()
    inviter.say(session, confirm_of(inviter, session, ben))
    inviter.wait(2)
    assert inviter.emitted == []  # somebody stands in the door
    assert inviter.say(session, Introduce("ben", [])) == [Done()]
    late = Inviter()
    late.wait(LIFE_S)
    assert late.emitted == [Ended(7, Reason.EXPIRED)]
    with pytest.raises(InvitationOver, match="expired"):
        play(late, joiner())
    with pytest.raises(JoinRefused):
        play(late, joiner(secret=b"wrong"))
    late.wait(ENDED_S)
    assert late.core.numbers == []
    with pytest.raises(JoinRefused):
        play(late, joiner())


def test_one_who_claimed_and_left_after_the_time_leaves_it_expired() -> None:
    inviter = Inviter()
    inviter.wait(LIFE_S - 1)
    session, ben = inviter.open(BEN), joiner()
    inviter.say(session, confirm_of(inviter, session, ben))
    inviter.wait(2)
    inviter.feed(PeerDown(session))
    assert inviter.emitted == [Ended(7, Reason.EXPIRED)]


def test_withdrawn_even_in_the_middle() -> None:
    inviter = Inviter()
    session, ben = inviter.open(BEN), joiner()
    inviter.say(session, confirm_of(inviter, session, ben))
    inviter.feed(Withdraw(7))
    assert inviter.ended[session] == CloseCode.CANCELLED
    assert inviter.say(session, Introduce("ben", [])) == []
    assert (inviter.kept, inviter.core.open_numbers) == ([], [])
    with pytest.raises(InvitationOver, match="withdrawn"):
        play(inviter, joiner())
    inviter.feed(Withdraw(7))
    inviter.feed(Withdraw(50))
    assert inviter.emitted == [Ended(7, Reason.WITHDRAWN)]


def test_only_so_many_ends_are_remembered() -> None:
    inviter = Inviter(None)
    for number in range(1, ENDED_MAX + 4):
        inviter.invite(number)
        inviter.feed(Withdraw(number))
    assert inviter.core.numbers == list(range(4, ENDED_MAX + 4))
    assert len(inviter.timers) == ENDED_MAX


@pytest.mark.parametrize(
    "card",
    [
        Introduce("x" * 65, []),
        Introduce("x", ["192.0.2.1:1"] * (ADDRESSES_MAX + 1)),
        Introduce("x", ["1" * 65]),
        Introduce("x", [], bytes(RECORD_BYTES_MAX + 1)),
    ],
)
def test_an_introduction_over_its_bounds_is_refused(card: Introduce) -> None:
    inviter, ben = Inviter(), joiner()
    session = inviter.open(BEN)
    (accept,) = inviter.say(session, confirm_of(inviter, session, ben))
    assert inviter.say(session, card) == []
    assert inviter.ended[session] == CloseCode.LIMIT
    with pytest.raises(PeerError, match="bounds"):
        ben.handle(Received(ANNA, Accept(accept.proof, card.name, card.addresses, card.record)), 0.0)
    assert Done() in play(inviter, joiner())


def test_a_card_at_all_its_bounds_fits_a_frame() -> None:
    card = Accept(bytes(32), "\U0001f600" * 64, ["1" * 64] * ADDRESSES_MAX, bytes(RECORD_BYTES_MAX))
    assert len(PROTOCOL.encode(card)) < PROTOCOL.frame_bytes_max


def test_the_same_entropy_gives_the_same_messages() -> None:
    assert joiner().knock() == joiner().knock()
    assert joiner().knock() != joiner(seed=b"other").knock()
    assert entropy(b"x")(4) == entropy(b"x")(4)


def test_a_wrong_try_burns_the_code_of_a_meeting_and_nobody_becomes_a_contact() -> None:
    inviter = Inviter(None)
    card = Card("anna", purpose=meeting_purpose("receive", b"offer"))
    inviter.feed(Invite(7, CODE.secret, SECRET, card, LIFE_S, tries=1, is_contact=False))
    with pytest.raises(JoinRefused):
        play(inviter, joiner(EVE, secret=b"wrong"), EVE)
    assert inviter.emitted == [WrongTry(7, EVE, 0)]
    with pytest.raises(JoinRefused):
        play(inviter, joiner())
    for _ in range(2):  # the second time it says that it missed the last word
        session, core = inviter.open(BEN), joiner(secret=SECRET, right=Right.SECRET)
        (answer,) = inviter.say(session, core.knock())
        (confirm,) = core.handle(Received(ANNA, answer), inviter.now)
        (accept,) = inviter.say(session, confirm.message)
        _, introduce = core.handle(Received(ANNA, accept), inviter.now)
        (keep,) = [o for o in inviter.feed(Received(session, introduce.message)) if isinstance(o, Keep)]
        assert not keep.is_contact
        inviter.feed(PeerDown(session))


@pytest.mark.parametrize(
    ("purpose", "word", "is_right"),
    [
        (b"", "", True),
        (b"\x93circle", "", True),
        (meeting_purpose("receive", b"x"), "receive", True),
        (meeting_purpose("receive", b"x"), "", False),
        (meeting_purpose("receive", b"x"), "play", False),
        (b"", "receive", False),
        (b"\0meet \xff\0", "", False),
    ],
)
def test_a_code_is_for_one_command(purpose: bytes, word: str, is_right: bool) -> None:
    if is_right:
        check_word(purpose, word)
    else:
        with pytest.raises(UsageError, match="another command"):
            check_word(purpose, word)
