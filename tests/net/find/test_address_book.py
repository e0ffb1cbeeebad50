"""The address book: the newest record stays, what worked comes first, floods push out only themselves."""

import dataclasses
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import StorageError
from coterie.identity import PeerId, SecretKey
from coterie.net.find.address_book import AddressBook, BookLimits
from coterie.net.find.address_book_file import BOOK_BYTES_MAX, BookFile
from coterie.wire.record import PeerRecord, RecordRefused

NOW = 1_700_000_000.0
OWN = SecretKey(b"m" * 32)


def key(number: int) -> SecretKey:
    return SecretKey(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    return key(number).peer_id


def record(number: int = 1, sequence: int = 1, *addresses: str, expires_in: int = 3600) -> bytes:
    return PeerRecord(
        peer=peer(number),
        sequence=sequence,
        issued=int(NOW),
        expires=int(NOW) + expires_in,
        addresses=addresses or (f"192.0.2.{number % 250 + 1}:{sequence % 60_000 + 1}",),
    ).sign(key(number))


def book(**limits: float) -> AddressBook:
    return AddressBook(OWN.peer_id, limits=BookLimits(**limits))  # type: ignore[arg-type]


def test_the_newest_record_stays() -> None:
    known = book()
    assert known.learn(record(1, 5), NOW, "test") == PeerRecord.open(record(1, 5), NOW)
    assert known.learn(record(1, 4), NOW, "test") is None
    assert known.record(peer(1), NOW) == PeerRecord.open(record(1, 5), NOW)
    assert known.learn(record(1, 6), NOW, "test") is not None
    assert known.learn(record(1, 5), NOW, "test") is None, "a replay"
    now_known = known.record(peer(1), NOW)
    assert now_known is not None
    assert now_known.sequence == 6


def test_two_records_of_one_sequence_the_first_stays() -> None:
    known = book()
    known.learn(record(1, 5, "192.0.2.1:1"), NOW, "test")
    assert known.learn(record(1, 5, "192.0.2.1:2"), NOW, "test") is None
    assert known.candidates(peer(1), NOW) == ["192.0.2.1:1"]


def test_hearing_the_same_again_moves_only_the_time() -> None:
    known = book()
    known.learn(record(), NOW, "local network")
    revision = known.revision
    assert known.learn(record(), NOW + 60, "connected") is None
    entry = known.entry(peer(1))
    assert entry is not None
    assert (entry.heard_at, entry.source, known.revision) == (NOW + 60, "connected", revision)


def test_refused_records_and_ones_own_leave_no_trace() -> None:
    known = book()
    sound = record()
    for wrong in (sound[:-1], sound[:50] + b"x" + sound[51:], b"", bytes(2000)):
        with pytest.raises(RecordRefused):
            known.learn(wrong, NOW, "test")
    with pytest.raises(RecordRefused, match="expired"):
        known.learn(sound, NOW + 4000, "test")
    own = PeerRecord(peer=OWN.peer_id, sequence=1, issued=int(NOW), expires=int(NOW) + 60)
    assert known.learn(own.sign(OWN), NOW, "test") is None
    assert len(known) == 0


def test_what_worked_comes_first_then_the_record_then_hints() -> None:
    known = book()
    known.learn(record(1, 1, "192.0.2.1:1", "192.0.2.1:2"), NOW, "test")
    known.note_success(peer(1), "192.0.2.1:8", NOW)
    known.note_success(peer(1), "192.0.2.1:2", NOW + 1)
    assert known.candidates(peer(1), NOW + 2, ["192.0.2.1:9", "192.0.2.1:1"]) == [
        "192.0.2.1:2",
        "192.0.2.1:8",
        "192.0.2.1:1",
        "192.0.2.1:9",
    ]
    known.note_failure(peer(1), ["192.0.2.1:2"], NOW + 3)
    assert known.candidates(peer(1), NOW + 4)[:2] == ["192.0.2.1:8", "192.0.2.1:2"]


def test_an_unknown_peer_has_only_hints() -> None:
    assert book().candidates(peer(1), NOW, ["a", "b", "a"]) == ["a", "b"]


def test_an_address_that_keeps_failing_is_forgotten_and_success_clears_it() -> None:
    known = book(failures_max=2)
    known.note_success(peer(1), "a", NOW)
    known.note_failure(peer(1), ["a", "never worked"], NOW)
    known.note_success(peer(1), "a", NOW)
    known.note_failure(peer(1), ["a"], NOW)
    assert known.candidates(peer(1), NOW) == ["a"]
    known.note_failure(peer(1), ["a"], NOW)
    assert known.candidates(peer(1), NOW) == []
    known.note_failure(peer(2), ["a"], NOW)
    assert peer(2) not in known


def test_bounds_of_one_peer() -> None:
    known = book(addresses_per_peer_max=8, candidates_max=10, worked_first_max=4)
    known.learn(record(1, 1, "192.0.2.1:1"), NOW, "test")
    for number in range(9):
        known.note_success(peer(1), f"w{number}", NOW + number)
    entry = known.entry(peer(1))
    assert entry is not None
    assert list(entry.tried) == [f"w{n}" for n in range(1, 9)]
    hints = [f"h{n}" for n in range(9)]
    assert known.candidates(peer(1), NOW + 9, hints) == ["w8", "w7", "w6", "w5", "192.0.2.1:1", *hints[:5]]


def test_a_flood_pushes_out_only_itself() -> None:
    kept = peer(2)
    known = AddressBook(OWN.peer_id, limits=BookLimits(peers_max=10), is_kept=lambda p: p == kept)
    known.note_success(peer(1), "a", NOW)
    known.learn(record(2), NOW, "test")
    for number in range(3, 60):
        known.learn(record(number), NOW + number, "flood")
    assert len(known) == 10
    assert peer(1) in known
    assert kept in known
    assert [e.peer for e in known.entries][2:] == [peer(n) for n in range(52, 60)], "the newest of the flood"


def test_when_all_that_is_kept_worked_the_stranger_does_not_come_in() -> None:
    known = book(peers_max=2)
    known.note_success(peer(1), "a", NOW)
    known.note_success(peer(2), "a", NOW)
    assert known.learn(record(3), NOW + 1, "flood") is None
    assert peer(3) not in known


def test_expiry() -> None:
    known = book(worked_s=100_000, silent_s=200_000)
    known.learn(record(1), NOW, "test")
    known.note_success(peer(1), "a", NOW)
    known.expire(NOW + 3600)
    assert known.record(peer(1), NOW) is None
    assert known.candidates(peer(1), NOW + 3600) == ["a"]
    assert known.learn(record(1, 1, expires_in=86_400), NOW + 4000, "test") is None, "a replay of the expired"
    known.expire(NOW + 100_000)
    assert known.candidates(peer(1), NOW + 100_000) == []
    known.expire(NOW + 200_000)
    assert len(known) == 0


def test_an_expired_record_is_not_given_even_before_it_is_cleared() -> None:
    known = book()
    known.learn(record(1, 1, "192.0.2.1:1"), NOW, "test")
    assert known.candidates(peer(1), NOW + 3599) == ["192.0.2.1:1"]
    assert known.candidates(peer(1), NOW + 3600) == []


def test_contacts_are_never_too_silent() -> None:
    known = AddressBook(OWN.peer_id, is_kept=lambda p: p == peer(1))
    known.note_success(peer(1), "a", NOW)
    known.expire(NOW + 1e9)
    assert peer(1) in known


def test_own_sequence_grows_whatever_the_clock_does() -> None:
    known = book()
    first = known.next_sequence(NOW)
    assert first == int(NOW * 1000)
    assert known.next_sequence(NOW - 86_400) == first + 1
    again = book()
    again.load(known.dump(), NOW)
    assert again.next_sequence(0) == first + 2


# ---- on disk


def filled() -> AddressBook:
    known = book()
    known.learn(record(1, 3), NOW, "local network")
    known.learn(record(2, 1, expires_in=60), NOW, "connected")
    known.note_success(peer(2), "192.0.2.9:1", NOW)
    known.note_failure(peer(2), ["192.0.2.9:1"], NOW)
    return known


def test_the_book_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "addresses"
    before, file = filled(), BookFile(path)
    assert file.save(before)
    assert not file.save(before), "nothing changed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = book()
    assert BookFile(path).load(after, NOW) is None
    assert after.entries == before.entries
    later = book()
    BookFile(path).load(later, NOW + 100)
    assert later.record(peer(2), NOW + 100) is None
    assert later.candidates(peer(2), NOW + 100) == ["192.0.2.9:1"]
    assert [p.name for p in tmp_path.iterdir()] == ["addresses"]


def test_no_file_is_an_empty_book(tmp_path: Path) -> None:
    known = book()
    assert BookFile(tmp_path / "none").load(known, NOW) is None
    assert len(known) == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\x93\x09\x00\x90", b"\x93\x01\x00\x91\x96\xc4\x01x\x00\xa0\x00\xc4\x00\x90"],
)
def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "addresses"
    path.write_bytes(content)
    known, file = book(), BookFile(path)
    aside = file.load(known, NOW)
    assert aside is not None
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    assert len(known) == 0
    assert file.save(known), "and a new one is begun"


def test_a_file_over_its_bound_is_not_read_into_the_book(tmp_path: Path) -> None:
    path = tmp_path / "addresses"
    with path.open("wb") as out:
        out.truncate(BOOK_BYTES_MAX + 1)
    assert BookFile(path).load(book(), NOW) is not None


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "addresses").mkdir()
    with pytest.raises(StorageError, match="addresses cannot be read"):
        BookFile(tmp_path / "addresses").load(book(), NOW)
    with pytest.raises(StorageError, match=r"missing.*cannot be written"):
        BookFile(tmp_path / "missing" / "addresses").save(filled())


def test_a_book_beyond_the_bound_is_cut_when_it_is_loaded() -> None:
    small = book(peers_max=1)
    small.load(filled().dump(), NOW)
    assert [e.peer for e in small.entries] == [peer(2)], "the one that worked"


def test_a_record_changed_on_disk_is_left_out() -> None:
    dump = filled().dump()
    raw = record(1, 3)
    tampered = dump.replace(raw, raw[:-1] + bytes([raw[-1] ^ 1]))
    assert tampered != dump
    known = book()
    known.load(tampered, NOW)
    assert known.record(peer(1), NOW) is None


@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_called_damaged(data: bytes) -> None:
    known = book()
    try:
        known.load(data, NOW)
    except StorageError:
        assert len(known) == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=30))
def test_whatever_the_order_the_largest_sequence_wins(arrivals: list[tuple[int, int]]) -> None:
    known = book()
    for number, sequence in arrivals:
        known.learn(record(number, sequence), NOW, "test")
    for number in dict(arrivals):
        entry = known.entry(peer(number))
        assert entry is not None
        assert entry.sequence == max(s for n, s in arrivals if n == number)
        assert entry.record is not None
        assert dataclasses.asdict(entry.record)["sequence"] == entry.sequence
