"""What keepers have: they can neither read nor make it up; what merges there merges as where it can be read."""

from random import Random

import msgspec
import pytest

from coterie.apps.folders import folder_keys, kept
from coterie.apps.folders.folder_keys import (
    FolderKeys,
    kept_id,
    kept_record,
    kept_replica,
    needs_new_key,
    open_keys,
)
from coterie.apps.folders.membership import FolderRecord, Role, to_sign
from coterie.apps.folders.register import NOTHING, Kind, Register, Value, merge, pack, unpack, written
from coterie.apps.folders.sealing import Sealing
from coterie.apps.folders.signed_body import packed
from coterie.errors import PeerError
from coterie.identity import SecretKey

ANNA, BEN, CARL = (SecretKey(letter * 32) for letter in (b"a", b"b", b"c"))
FOLDER = b"f" * 16
NAMES = {key: f"peer:{key.peer_id}" for key in (ANNA, BEN, CARL)}


def everybody(by: bytes) -> bool:
    return True


def keys_of(*keys: tuple[int, bytes], owner: SecretKey = ANNA, seq: int = 1) -> FolderKeys:
    record = kept_record(FolderRecord(FOLDER, "Projects", bytes(owner.peer_id), seq, 5))
    return FolderKeys(FOLDER, seq, keys, packed(record, owner.sign(to_sign(record))))


def sealing_of(key: SecretKey, *keys: tuple[int, bytes]) -> Sealing:
    return Sealing(keys_of(*(keys or ((1, b"k" * 32),))), bytes(key.peer_id), key.sign)


def a_file(number: int) -> Value:
    return Value(Kind.FILE, number.to_bytes(32), 10, 5, by=bytes(ANNA.peer_id), at_ms=1)


def only(sealing: Sealing, path: str, register: Register) -> tuple[str, kept.Entry]:
    name, raw = sealing.entry(path, pack(register))
    (entry,) = kept.read_entries(raw)
    return name, entry


@pytest.mark.parametrize("seed", range(60))
def test_a_keeper_loses_nothing_that_merging_would_keep(seed: int) -> None:
    """Writers who meet now and then push to a keeper; whoever opens all has what merging all would give."""
    random = Random(seed)
    seals = [sealing_of(key) for key in (ANNA, BEN, CARL)]
    registers = [NOTHING] * 3
    counters = [0] * 3
    keeper: tuple[kept.Entry, ...] = ()
    pushed = NOTHING
    for _ in range(random.randint(5, 60)):
        one, other = random.sample(range(3), 2)
        match random.randrange(3):
            case 0:
                counters[one] += 1
                seen = [dot for dot, _ in registers[one].siblings if random.random() < 0.7]
                dot = (bytes([one + 1]) * 16, counters[one])
                registers[one] = written(registers[one], seen, dot, a_file(random.randrange(5)))
            case 1:
                registers[one] = merge(registers[one], registers[other])
            case 2 if registers[one].context:
                _, entry = only(seals[one], "a.txt", registers[one])
                keeper = kept.merge(keeper, [entry])
                pushed = merge(pushed, registers[one])
    found = NOTHING
    for entry in keeper:
        for _, raw in seals[0].opened(seals[0].name("a.txt"), kept.pack_entries([entry]), everybody):
            found = merge(found, unpack(raw))
    assert found == pushed, f"seed {seed}"
    assert len(keeper) <= 3


@pytest.mark.parametrize("seed", range(20))
def test_entries_merge_alike_in_every_order(seed: int) -> None:
    random = Random(seed)
    entries = [
        kept.Entry(
            1,
            tuple(sorted((bytes([r]) * 16, random.randint(1, 3)) for r in random.sample(range(3), 2))),
            (),
            b"x",
            bytes([random.randrange(3)]) * 32,
            bytes([number]) * 64,
        )
        for number in range(6)
    ]
    whole = kept.merge((), entries)
    random.shuffle(entries)
    one_by_one: tuple[kept.Entry, ...] = ()
    for entry in entries:
        one_by_one = kept.merge(one_by_one, [entry])
    assert set(one_by_one) == set(whole), f"seed {seed}"
    assert kept.merge(whole, whole) == whole


def test_what_a_keeper_changes_is_refused() -> None:
    anna = sealing_of(ANNA)
    register = written(NOTHING, (), (b"r" * 16, 1), a_file(1))
    name, entry = only(anna, "secret/plan.txt", register)
    assert anna.opened(name, kept.pack_entries([entry]), everybody) == [("secret/plan.txt", pack(register))]
    other_name, _ = only(anna, "other.txt", register)
    changed = {
        "context": ((b"r" * 16, 9),),
        "epoch": 2,
        "contents": (b"t" * 32,),
        "record": entry.record[:-1] + bytes([entry.record[-1] ^ 1]),
        "by": bytes(CARL.peer_id),
    }
    for field, value in changed.items():
        forged = msgspec.structs.replace(entry, **{field: value})
        with pytest.raises(PeerError, match="nobody has signed"):
            anna.opened(name, kept.pack_entries([forged]), everybody)
    with pytest.raises(PeerError, match="nobody has signed"):
        anna.opened(other_name, kept.pack_entries([entry]), everybody)


def test_a_reader_who_helps_a_keeper_changes_nothing() -> None:
    """Ben may read, so he has the key; what he seals counts nowhere."""
    anna, ben = sealing_of(ANNA), sealing_of(BEN)
    name, raw = ben.entry("plan.txt", pack(written(NOTHING, (), (b"b" * 16, 1), a_file(7))))
    writers = {bytes(ANNA.peer_id)}
    assert anna.opened(name, raw, lambda by: by in writers) == []
    (entry,) = kept.read_entries(raw)
    said = kept.to_sign(anna.kept, name, entry.epoch, entry.context, entry.contents, entry.record)
    as_anna = msgspec.structs.replace(entry, by=bytes(ANNA.peer_id), signature=BEN.sign(said))
    with pytest.raises(PeerError, match="nobody has signed"):
        anna.opened(name, kept.pack_entries([as_anna]), lambda by: by in writers)


def test_nothing_of_a_folder_is_in_what_keepers_get() -> None:
    anna = sealing_of(ANNA)
    name, entry = only(anna, "secret/plan.txt", written(NOTHING, (), (b"r" * 16, 1), a_file(1)))
    seen = (
        name.encode()
        + kept.pack_entries([entry])
        + keys_of((1, b"k" * 32)).kept
        + b"".join(anna.chunk(b"red and gold"))
    )
    for word in (b"secret", b"plan", b"red", b"Projects", b"k" * 32, FOLDER, a_file(1).content):
        assert word not in seen


def test_sizes_are_padded() -> None:
    anna = sealing_of(ANNA)
    sizes = {len(b"".join(anna.chunk(bytes(size)))) for size in range(1, 10_000)}
    assert len(sizes) < 120
    records = {
        len(only(anna, "a" * length, written(NOTHING, (), (b"r" * 16, 1), a_file(1)))[1].record)
        for length in range(1, 200)
    }
    assert len(records) <= 16  # of 199 lengths


def test_who_has_an_old_key_opens_nothing_new_and_who_has_both_opens_all() -> None:
    old, new = sealing_of(ANNA, (1, b"1" * 32)), sealing_of(ANNA, (2, b"2" * 32), (1, b"1" * 32))
    register = written(NOTHING, (), (b"r" * 16, 1), a_file(1))
    name, raw = new.entry("a.txt", pack(register))
    assert name != old.name("a.txt")
    assert old.opened(name, raw, everybody) == []
    (text,) = new.chunk(b"later")
    with pytest.raises(PeerError):
        old.open_chunk(text)
    before_name, before = old.entry("a.txt", pack(register))
    assert new.opened(before_name, before, everybody) == [("a.txt", pack(register))]
    assert [new.open_chunk(one) for one in old.chunk(b"before")] == [b"before"]
    assert new.tags(b"c" * 32) == [new.tag(b"c" * 32), old.tag(b"c" * 32)]


def test_entries_and_bounds() -> None:
    name, entry = only(sealing_of(ANNA), "a", written(NOTHING, (), (b"r" * 16, 1), a_file(1)))
    many = [msgspec.structs.replace(entry, signature=bytes([n]) * 64) for n in range(kept.ENTRIES_MAX + 1)]
    assert len(kept.read_entries(kept.pack_entries(many[:-1]))) == kept.ENTRIES_MAX
    for bad in (
        kept.pack_entries(many),
        kept.pack_entries(()),
        kept.pack_entries([msgspec.structs.replace(entry, record=bytes(kept.RECORD_BYTES_MAX + 1))]),
        kept.pack_entries([msgspec.structs.replace(entry, context=())]),
        kept.pack_entries([msgspec.structs.replace(entry, context=((b"r" * 16, 0),))]),
        kept.pack_entries([msgspec.structs.replace(entry, contents=(b"short",))]),
        kept.pack_entries([msgspec.structs.replace(entry, signature=b"short")]),
        kept.pack_entries([msgspec.structs.replace(entry, epoch=0)]),
    ):
        with pytest.raises(PeerError):
            kept.read_entries(bad)
    assert kept.is_name(name)
    assert not kept.is_name(name.upper())
    assert not kept.is_name("a.txt")


# ---- keys


def signed(keys: FolderKeys, key: SecretKey = ANNA) -> bytes:
    return packed(keys, key.sign(folder_keys.to_sign(keys)))


def test_keys_come_as_they_went_and_only_from_the_owner() -> None:
    keys = keys_of((2, b"2" * 32), (1, b"1" * 32))
    assert open_keys(signed(keys)) == keys
    assert "2222" not in repr(keys)
    for bad in (
        signed(keys, BEN),
        signed(msgspec.structs.replace(keys, keys=())),
        signed(msgspec.structs.replace(keys, keys=((1, b"1" * 32), (2, b"2" * 32)))),
        signed(msgspec.structs.replace(keys, keys=((1, b"short"),))),
        signed(msgspec.structs.replace(keys, seq=2)),
        signed(msgspec.structs.replace(keys, folder=b"g" * 16)),
        signed(keys_of(*((n, bytes(32)) for n in range(9, 9 - folder_keys.KEYS_MAX - 1, -1)))),
    ):
        with pytest.raises(PeerError):
            open_keys(bad)


def test_keepers_know_a_folder_by_nothing_of_its_own() -> None:
    record = kept_record(FolderRecord(FOLDER, "Projects", bytes(ANNA.peer_id), 3, 5, ((NAMES[BEN], 2),)))
    assert (record.id, record.seq, record.members) == (kept_id(FOLDER), 3, ((NAMES[BEN], 2),))
    assert record.id != FOLDER
    assert "Projects" not in record.name
    assert kept_replica(b"r" * 16, 1) not in (b"r" * 16, kept_replica(b"r" * 16, 2))


def test_a_new_key_is_made_when_somebody_may_less() -> None:
    def with_roles(**roles: Role) -> FolderRecord:
        people = {"ben": NAMES[BEN], "carl": NAMES[CARL]}
        return FolderRecord(
            FOLDER,
            "P",
            bytes(ANNA.peer_id),
            1,
            5,
            tuple((people[who], int(role)) for who, role in roles.items()),
        )

    read, write, keep = Role.READ, Role.WRITE, Role.KEEP
    assert needs_new_key(with_roles(ben=read), with_roles())
    assert needs_new_key(with_roles(ben=write), with_roles(ben=keep))
    assert needs_new_key(with_roles(ben=write), with_roles(ben=read))
    assert not needs_new_key(with_roles(ben=read), with_roles(ben=write))
    assert not needs_new_key(with_roles(ben=read), with_roles(ben=read, carl=keep))
    assert not needs_new_key(with_roles(ben=read, carl=keep), with_roles(ben=read))
