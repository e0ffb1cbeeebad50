"""Knocks in the simulator: how long meeting takes, and what loss, liars, replays, floods and churn do to it."""

import secrets
from random import Random

import pytest

from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.machine import Emit, TimerFired
from coterie.net.find import knocks as bounds
from coterie.net.find.knocks import (
    BellRead,
    Heard,
    Knocking,
    KnockingOver,
    Knocks,
    Listen,
    NotKnocked,
    ReadBell,
    Stirred,
    Surroundings,
    WriteBell,
)
from coterie.sim.churn import Churn, exponential
from coterie.wire.knock import (
    ADDRESSES_MAX,
    KNOCKS_MAX,
    LETTER_BYTES,
    SEALED_BYTES,
    SLOT_S,
    Knock,
    KnockKeys,
    KnockKind,
    Right,
    door_bell,
    proof_of,
    read_item,
    read_letter,
    slot_of,
    write_item,
)
from tests.net.find.knock_world import Jammer, Liar, Scene

BEGIN = 1_000.0  # of the world's clock: after the first slot
GOLDEN_DOOR = "f184b81caaa39c51589ed5223ee5af06bd3c44cf931bffc56e199e78c99bb180"
GOLDEN_PAIR = "21dd25b8b255c4f955976d52ace0a03c36c02b33239bd5637f6551875dd3c332"
GOLDEN_SEALED = (
    "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22ef9390eceb33394a6cb468055c3a40e9"
)


def pair(seed: int, **options: float) -> Scene:
    """anna, whom ben knows; ben listens, and has been quiet for long."""
    scene = Scene(seed, **options)  # type: ignore[arg-type]
    scene.home("anna", "ben")
    scene.home("ben", "anna")
    scene.listen("ben")
    scene.world.run(BEGIN)
    return scene


def until_heard(scene: Scene, by: str = "ben", other: str = "anna", *, timeout_s: float = 120.0) -> float:
    """Seconds from now until `by` hears `other`."""
    before = scene.world.now
    begun = len(scene.heard(by, other))
    return scene.world.run_until(lambda: len(scene.heard(by, other)) > begun, timeout_s=timeout_s) - before


# ---- how long it takes


def test_a_knock_is_heard_within_a_look_even_after_long_quiet() -> None:
    times = []
    for seed in range(20):
        scene = pair(seed)
        scene.seek("anna", "ben")
        times.append(until_heard(scene))
    assert max(times) <= bounds.QUIET_S * (1 + bounds.JITTER) + 5, times
    assert sorted(times)[10] < bounds.QUIET_S * 0.75, times


def test_while_people_are_about_it_takes_a_third_of_that() -> None:
    for seed in range(10):
        scene = pair(seed)
        scene.world.feed("ben", Stirred())
        scene.world.run(BEGIN + 30)
        scene.seek("anna", "ben")
        assert until_heard(scene) <= bounds.BUSY_S * (1 + bounds.JITTER) + 5, seed


def test_who_knocked_learns_that_it_was_heard() -> None:
    scene = pair(1)
    scene.seek("anna", "ben")
    until_heard(scene)
    scene.world.run(scene.world.now + bounds.AGAIN_S + 5)
    assert scene.answered("anna", "ben")


@pytest.mark.parametrize("offset_s", [-45.0, 45.0])
def test_clocks_may_differ_by_most_of_a_minute_also_at_the_edge_of_a_slot(offset_s: float) -> None:
    for begin in (BEGIN, 2 * SLOT_S - 20, 2 * SLOT_S + 5):
        scene = Scene(3)
        scene.home("anna", "ben", clock_offset_s=offset_s)
        scene.home("ben", "anna")
        scene.listen("ben")
        scene.world.run(begin)
        scene.seek("anna", "ben")
        assert until_heard(scene) < 90, begin


def test_two_who_knock_at_one_door_at_once_are_both_heard() -> None:
    for seed in range(5):
        scene = pair(seed)
        scene.home("carl", "ben")
        scene.knows["ben"].append("carl")
        scene.seek("anna", "ben")
        scene.seek("carl", "ben")
        scene.world.run(BEGIN + 90)
        assert scene.heard("ben", "anna"), seed
        assert scene.heard("ben", "carl"), seed


# ---- a bad network


def test_a_knock_gets_through_a_table_that_loses_a_fifth_and_comes_and_goes() -> None:
    met = 0
    for seed in range(10):
        scene = pair(seed, loss=0.2)
        Churn(scene.world, scene.nodes, online=exponential(600), offline=exponential(300))
        scene.world.run(BEGIN + 300)
        begun = scene.seek("anna", "ben")
        scene.world.run(begun + 120)
        met += bool(scene.heard("ben", "anna"))
    assert met >= 9, met


def test_half_of_the_table_lies_and_repeats_what_is_old() -> None:
    for seed in range(5):
        scene = pair(seed)
        for name in scene.nodes[::2]:
            scene.world.corrupt(name, lambda core, random: Liar())
        scene.seek("anna", "ben")
        assert until_heard(scene) < 90, seed
        scene.end("anna", "ben")
        heard = len(scene.heard("ben", "anna"))
        scene.world.run(scene.world.now + 1_000)
        assert len(scene.heard("ben", "anna")) <= heard + 1, "old knocks are heard again and again"


# ---- who may knock


def test_a_stranger_is_heard_with_a_ticket_only() -> None:
    right, forged = Right(bytes(32), b"s" * 16), Right(bytes(32), b"x" * 16)
    for shown, is_heard in ((None, False), (forged, False), (right, True)):
        scene = pair(4)
        scene.home("zoe")
        scene.secrets["ben"][right.reference] = right.secret
        scene.seek("zoe", "ben", right=shown)
        scene.world.run(BEGIN + 100)
        assert bool(scene.heard("ben", "zoe")) is is_heard, shown
        assert bool(scene.knocks("ben").counts.refused) is not is_heard


def test_a_proof_is_for_one_sender_and_one_addressee() -> None:
    anna, ben = KnockKeys(new_key()), KnockKeys(new_key())
    stolen = proof_of(b"s" * 16, anna.peer_id, ben.peer_id)
    knock = Knock(sender=ben.peer_id, kind=KnockKind.CALL, at=1, proof=stolen)
    assert not knock.proves(b"s" * 16, ben.peer_id)
    assert Knock(sender=anna.peer_id, kind=KnockKind.CALL, at=1, proof=stolen).proves(b"s" * 16, ben.peer_id)
    assert not knock.proves(b"s" * 16, anna.peer_id)


def test_who_is_blocked_is_not_heard() -> None:
    anna, machine = KnockKeys(new_key()), listener(is_known=lambda peer: True, is_blocked=lambda peer: True)
    assert not heard(machine, sealed_for(machine, anna))


# ---- liars at the door


def rubbish(seen: bytes) -> bytes:
    return b"\xff" * SEALED_BYTES


def replayed(seen: bytes) -> bytes:
    return seen


def no_item(seen: bytes) -> bytes:
    return b"x"


@pytest.mark.parametrize("make", [rubbish, replayed, no_item])
def test_who_fills_the_door_cannot_keep_a_contact_out(make: object) -> None:
    for seed in range(3):
        scene = pair(seed)
        scene.seek("anna", "ben")  # something to replay
        until_heard(scene)
        scene.end("anna", "ben")
        scene.world.add("jam", lambda random, s=scene: Jammer(s.id("ben"), s.nodes, make))  # type: ignore[arg-type,misc]
        scene.world.connect("jam", "anna")
        scene.world.run(scene.world.now + 3 * SLOT_S)
        scene.seek("anna", "ben")
        assert until_heard(scene) < 100, (make, seed)


def test_a_flood_at_the_door_costs_a_bounded_number_of_reads() -> None:
    scene = pair(5)
    for number in range(40):
        scene.home(f"contact {number}", "ben")
        scene.knows["ben"].append(f"contact {number}")
    scene.world.add("jam", lambda random: Jammer(scene.id("ben"), scene.nodes, rubbish))
    scene.world.connect("jam", "anna")
    scene.world.run(BEGIN + 600)
    before, looks = scene.world.sent_by_kind.copy(), scene.knocks("ben").counts.looks
    scene.world.run(BEGIN + 600 + 3_600)
    looks = scene.knocks("ben").counts.looks - looks
    assert looks <= 3_600 / (bounds.QUIET_S * (1 - bounds.JITTER)) + 1, (
        "a jam does not make ben look more often"
    )
    from tests.net.find.knock_world import CLOSEST, Get

    jammer = 2 * CLOSEST * 3_600 / 5
    reads = (scene.world.sent_by_kind[Get] - before[Get] - jammer) / CLOSEST
    assert reads <= 2 * looks * (1 + bounds.PAIRS_PER_LOOK), reads


def test_a_knock_shown_again_is_not_heard_again() -> None:
    anna, machine = KnockKeys(new_key()), listener(is_known=lambda peer: True)
    sealed = sealed_for(machine, anna)
    assert heard(machine, sealed)
    assert not heard(machine, sealed, now=BEGIN + 30)


def test_a_knock_shown_again_with_its_key_written_in_another_way_is_not_heard_again() -> None:
    """X25519 ignores the highest bit of a public key: the box opens as before."""
    anna, machine = KnockKeys(new_key()), listener(is_known=lambda peer: True)
    sealed = sealed_for(machine, anna)
    other = sealed[:31] + bytes([sealed[31] ^ 0x80]) + sealed[32:]
    assert _KEYS[id(machine)].open(other) == _KEYS[id(machine)].open(sealed)
    assert heard(machine, sealed)
    assert not heard(machine, other, now=BEGIN + 30)


@pytest.mark.parametrize("age_s", [bounds.FRESH_S + 1, -bounds.SKEW_S - 1])
def test_a_knock_of_another_time_is_not_heard(age_s: float) -> None:
    anna, machine = KnockKeys(new_key()), listener(is_known=lambda peer: True)
    assert not heard(machine, sealed_for(machine, anna, at=BEGIN - age_s))
    assert heard(machine, sealed_for(machine, anna, at=BEGIN - age_s * 0.9))


def test_nobody_can_knock_in_the_name_of_another_or_pass_a_knock_on() -> None:
    anna, ben, carl = (KnockKeys(new_key()) for _ in range(3))
    knock = Knock(sender=carl.peer_id, kind=KnockKind.CALL, at=int(BEGIN))
    with pytest.raises(PeerError, match="forged"):
        ben.open(anna.seal(knock, ben.peer_id, secrets.token_bytes(32)))
    mine = Knock(sender=anna.peer_id, kind=KnockKind.CALL, at=int(BEGIN))
    with pytest.raises(PeerError, match="opened"):
        carl.open(anna.seal(mine, ben.peer_id, secrets.token_bytes(32)))


def test_a_contact_who_knocks_without_end_is_dialled_at_a_bounded_rate() -> None:
    anna, machine = KnockKeys(new_key()), listener(is_known=lambda peer: True)
    times = sum(heard(machine, sealed_for(machine, anna, at=BEGIN + s), now=BEGIN + s) for s in range(300))
    assert times <= 300 / bounds.HEARD_EVERY_S + 1


def test_many_contacts_and_many_strangers_are_dialled_at_a_bounded_rate() -> None:
    for is_known, burst in ((True, bounds.HEARD_BURST), (False, bounds.STRANGERS_BURST)):
        machine = listener(is_known=lambda peer, known=is_known: known, secrets=lambda reference: [b"s" * 16])
        right = Right(bytes(32), b"s" * 16)
        times = 0
        for _ in range(burst + 5):
            times += heard(machine, sealed_for(machine, KnockKeys(new_key()), right=right))
        assert times == burst


# ---- bounds of the one who knocks


def test_one_seeker_knocks_a_bounded_number_of_times() -> None:
    scene = pair(6)
    scene.world.crash("ben")
    scene.seek("anna", "ben")
    scene.world.run(BEGIN + 3_600)
    from tests.net.find.knock_world import CLOSEST, Put

    assert scene.world.sent_by_kind[Put] <= 2 * CLOSEST * bounds.ROUNDS_MAX


def test_one_more_than_may_be_knocked_for_is_told_so() -> None:
    machine = Knocks(KnockKeys(new_key()), Surroundings(addresses=tuple, is_known=bool), Random(1))
    refused = []
    for _ in range(bounds.KNOCKS_BURST + 1):
        outputs = machine.handle(Knocking(new_key().peer_id), BEGIN)
        refused += [o.event for o in outputs if isinstance(o, Emit) and isinstance(o.event, NotKnocked)]
    assert len(refused) == 1


def test_two_seekers_of_one_peer_are_one_and_it_ends_with_the_last() -> None:
    machine, peer = (
        Knocks(KnockKeys(new_key()), Surroundings(addresses=tuple, is_known=bool), Random(1)),
        new_key(),
    )
    assert any(isinstance(o, ReadBell) for o in machine.handle(Knocking(peer.peer_id), BEGIN))
    assert not machine.handle(Knocking(peer.peer_id), BEGIN)
    assert not machine.handle(KnockingOver(peer.peer_id), BEGIN)
    assert machine.handle(KnockingOver(peer.peer_id), BEGIN)
    assert not machine.handle(TimerFired(peer.peer_id), BEGIN + bounds.AGAIN_S)


def test_an_id_that_nothing_can_be_sealed_to_is_not_knocked_for() -> None:
    neutral = PeerId(b"\x01" + bytes(31))
    machine = Knocks(KnockKeys(new_key()), Surroundings(addresses=tuple, is_known=bool), Random(1))
    (read, _) = machine.handle(Knocking(neutral), BEGIN)
    assert isinstance(read, ReadBell)
    assert not machine.handle(BellRead(read.bell, b"", True), BEGIN)


def test_who_does_not_listen_does_not_look() -> None:
    machine = listener()
    machine.handle(Listen(False), BEGIN)
    assert not machine.is_listening
    assert not machine.handle(Stirred(), BEGIN)


# ---- the form


def test_every_knock_has_one_size_and_the_most_fit_the_table() -> None:
    anna, ben = KnockKeys(new_key()), KnockKeys(new_key())
    addresses = ("192.0.2.1:1", "[2001:db8::1]:65535", "[2001:db8:1:2:3:4:5:6]:65535")
    for some in ((), addresses, (*addresses, "192.0.2.2:2")):
        knock = Knock(sender=anna.peer_id, kind=KnockKind.CALL, at=7, addresses=some)
        sealed = anna.seal(knock, ben.peer_id, secrets.token_bytes(32))
        assert len(sealed) == SEALED_BYTES
        assert ben.open(sealed).addresses == some[:ADDRESSES_MAX]
    item = write_item([b"a" * SEALED_BYTES] * (KNOCKS_MAX + 1))
    assert len(item) == KNOCKS_MAX * SEALED_BYTES <= 996
    assert len(read_item(item)) == KNOCKS_MAX
    with pytest.raises(PeerError):
        read_item(item + b"a" * SEALED_BYTES)


def test_both_of_a_pair_find_the_same_bell_and_a_third_another() -> None:
    anna, ben, carl = (KnockKeys(new_key()) for _ in range(3))
    there = anna.pair_bell(anna.peer_id, ben.peer_id, 5)
    assert there == ben.pair_bell(anna.peer_id, ben.peer_id, 5)
    others = [
        anna.pair_bell(ben.peer_id, anna.peer_id, 5),
        anna.pair_bell(anna.peer_id, ben.peer_id, 6),
        carl.pair_bell(carl.peer_id, ben.peer_id, 5),
        door_bell(ben.peer_id, 5),
    ]
    assert len({there, *others}) == 5


def test_golden_values() -> None:
    anna, ben = KnockKeys(SecretKey(b"\x01" * 32)), KnockKeys(SecretKey(b"\x02" * 32))
    assert door_bell(ben.peer_id, 7).seed.hex() == GOLDEN_DOOR
    assert anna.pair_bell(anna.peer_id, ben.peer_id, 7).seed.hex() == GOLDEN_PAIR
    knock = Knock(sender=anna.peer_id, kind=KnockKind.CALL, at=1_700_000_000, addresses=("192.0.2.1:4433",))
    assert anna.seal(knock, ben.peer_id, b"\x03" * 32)[:48].hex() == GOLDEN_SEALED
    assert slot_of(1_700_000_000) == 1_888_888


def test_a_letter_with_anything_behind_its_end_or_of_another_version_is_refused() -> None:
    key, ben = new_key(), new_key().peer_id
    for body in (b"\x02\x01" + bytes(118), b"\x01\x07" + bytes(118), b"\x01\x01" + bytes(117) + b"x"):
        letter = bytes(key.peer_id) + key.sign(b"coterie knock\x00" + bytes(ben) + body) + body
        assert len(letter) == LETTER_BYTES
        with pytest.raises(PeerError):
            read_letter(letter, ben)


def test_an_address_that_is_none_is_the_callers_mistake() -> None:
    anna = KnockKeys(new_key())
    knock = Knock(sender=anna.peer_id, kind=KnockKind.CALL, at=1, addresses=("nowhere",))
    with pytest.raises(UsageError):
        anna.seal(knock, new_key().peer_id, bytes(32))


# ---- what the tests above are made of


def new_key() -> SecretKey:
    return SecretKey(secrets.token_bytes(32))


_KEYS: dict[int, KnockKeys] = {}


def listener(**around: object) -> Knocks:
    """A machine that listens."""
    keys = KnockKeys(new_key())
    whole = {"addresses": tuple, "is_known": lambda peer: False} | around
    machine = Knocks(keys, Surroundings(**whole), Random(1))  # type: ignore[arg-type]
    _KEYS[id(machine)] = keys
    machine.handle(Listen(True), BEGIN)
    return machine


def sealed_for(machine: Knocks, sender: KnockKeys, *, at: float = BEGIN, right: Right | None = None) -> bytes:
    us = _KEYS[id(machine)].peer_id
    proof = proof_of(right.secret, sender.peer_id, us) if right else bytes(16)
    knock = Knock(sender=sender.peer_id, kind=KnockKind.CALL, at=int(at), addresses=(), proof=proof)
    return sender.seal(knock, us, secrets.token_bytes(32))


def heard(machine: Knocks, sealed: bytes, now: float = BEGIN) -> bool:
    """Whether the machine, which looks now and finds `sealed` at its door, wants to dial."""
    outputs = machine.handle(TimerFired("look"), now)
    bells = [o.bell for o in outputs if isinstance(o, ReadBell)]
    said = machine.handle(BellRead(bells[0], sealed, False), now)
    for bell in bells:
        said += machine.handle(BellRead(bell, b"", True), now)
    assert not any(isinstance(o, WriteBell) for o in said) or any(isinstance(o, Emit) for o in said)
    return any(isinstance(o, Emit) and isinstance(o.event, Heard) for o in said)
