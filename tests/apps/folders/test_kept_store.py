"""The copy that cannot be read: never more than its quota, never without what a register needs, verified."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.apps.folders import kept, kept_store
from coterie.apps.folders.kept_store import KEPT_S, KeptStore
from coterie.apps.folders.register import NOTHING, Kind, Value, pack, written
from coterie.apps.folders.root import FolderGone, make_marker
from coterie.apps.folders.sealed_contents import messages_of
from coterie.apps.folders.sealing import Sealing
from coterie.apps.folders.store import STEPS, FolderRow, FoldersStore
from coterie.errors import LimitExceeded, PeerError
from coterie.identity import SecretKey
from coterie.services.data.database import Database
from coterie.services.data.quota import Quota
from tests.apps.folders.test_kept import ANNA, BEN, sealing_of

REPLICA = b"r" * 16


class Copy:
    """A kept folder on a disk, with a clock."""

    def __init__(self, tmp_path: Path, *, quota: int = 10_000) -> None:
        self.now = 1_000_000.0
        self.anna = sealing_of(ANNA)
        self.place = tmp_path / "kept"
        self.place.mkdir()
        self.database = Database(tmp_path / "data.db", Quota("folders", 1 << 30), lambda text, key: None)
        self.database.migrate(STEPS)
        store = FoldersStore(self.database)
        row = FolderRow(
            number=0, id=self.anna.kept, path=str(self.place), replica=b"c" * 16, counter=0, record=b"",
            state="on", settings=b"", created=0.0,
        )  # fmt: skip
        store.add(row)
        store.keep(row.number, quota)
        make_marker(self.place, row.id, row.replica)
        self.writers = {bytes(ANNA.peer_id)}
        self.store = KeptStore(store, row, lambda by: by in self.writers, clock=lambda: self.now)
        self.store.mark()
        self._counter = 0
        self._registers = {}

    def write(self, path: str, content: bytes, *, sealing: Sealing | None = None) -> list[str]:
        """Anna's register of a path, with a new content."""
        self._counter += 1
        value = Value(Kind.FILE, content, 5, 5, by=bytes(ANNA.peer_id), at_ms=1)
        before = self._registers.get(path, NOTHING)
        dots = [dot for dot, _ in before.siblings]
        self._registers[path] = written(before, dots, (REPLICA, self._counter), value)
        entry = (sealing or self.anna).entry(path, pack(self._registers[path]))
        return self.store.merge(REPLICA, [entry])

    def give(self, content: bytes, data: bytes) -> list[bytes]:
        """The chunks and the list of a content; what was refused."""
        texts = list(self.anna.chunk(data))
        refused = self.store.keep(texts)
        if not refused:
            ids = b"".join(blake3(text).digest() for text in texts)
            for lists in messages_of([(self.anna.tag(content), ids)]):
                self.store.keep_lists(lists)
        return refused

    def given(self, content: bytes) -> bytes | None:
        """What it gives of a content."""
        lists = self.store.lists([self.anna.tag(content)], 0)
        if not lists:
            return None
        ids = [lists[0][3][at : at + 32] for at in range(0, len(lists[0][3]), 32)]
        return b"".join(map(self.anna.open_chunk, self.store.chunks(ids)))

    def files(self) -> list[Path]:
        """Chunks on the disk."""
        return [path for path in (self.place / "chunks").rglob("*") if path.is_file()]


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    made.database.close()


A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def test_it_lacks_what_registers_need_until_it_came(copy: Copy) -> None:
    copy.write("a.txt", A)
    assert copy.store.lacking() == [copy.anna.tag(A)]
    assert copy.give(A, b"red and gold") == []
    assert copy.store.lacking() == []
    assert copy.given(A) == b"red and gold"
    copy.write("empty", B)
    copy.give(B, b"")
    assert copy.store.lacking() == []
    assert copy.store.batch(b"x" * 16, 0)[0] == 2


def test_what_nobody_needs_is_not_kept_and_lists_need_their_chunks(copy: Copy) -> None:
    copy.give(A, b"nobody asked")
    assert copy.given(A) is None
    copy.write("a.txt", B)
    assert copy.store.keep_lists([(copy.anna.tag(B), 0, 1, b"?" * 32)]) == [copy.anna.tag(B)]
    assert copy.store.lacking() == [copy.anna.tag(B)]


def test_a_content_that_was_replaced_goes_after_thirty_days_and_no_sooner(copy: Copy) -> None:
    copy.write("a.txt", A)
    copy.give(A, b"first")
    copy.write("a.txt", B)
    copy.give(B, b"second")
    copy.store.sweep()
    copy.now += KEPT_S - 1
    copy.store.sweep()
    assert copy.given(A) == b"first"
    copy.now += 2
    copy.store.sweep()
    assert copy.given(A) is None
    assert copy.given(B) == b"second"
    assert len(copy.files()) == 1


def test_what_a_replaced_key_opens_goes_after_two_months_and_not_before_another_is_there(copy: Copy) -> None:
    """First all is needed by who was away, then kept as versions are; then nothing of it is left."""
    old = copy.anna
    copy.write("a.txt", A)
    copy.give(A, b"first")
    copy.now += 100 * KEPT_S  # however old a key is: it is in use
    copy.store.sweep()
    assert copy.given(A) == b"first"
    new = sealing_of(ANNA, (int(copy.now), b"n" * 32), (1, b"k" * 32))
    copy.write("a.txt", B, sealing=new)
    for days in (KEPT_S - 1, 2, KEPT_S - 2):  # needed, then free for all but a moment of its time
        copy.now += days
        copy.store.sweep()
        assert copy.given(A) == b"first"
    copy.write("late.txt", C, sealing=old)  # by who was away even longer
    copy.give(C, b"late")
    copy.now += 4
    copy.store.sweep()
    assert copy.given(A) is None
    assert copy.given(C) == b"late"
    copy.now += KEPT_S + 1
    copy.store.sweep()
    assert copy.given(C) is None
    (left,) = (kept.read_entries(raw) for _, raw in copy.store.data.registers_below(""))
    assert [entry.epoch for entry in left] == [new.epoch]


def test_no_number_is_given_again_once_the_last_register_is_gone(copy: Copy) -> None:
    """Who has heard of it would not ask for what gets it then."""
    old, new = copy.anna, sealing_of(ANNA, (int(copy.now), b"n" * 32), (1, b"k" * 32))
    copy.write("a.txt", A, sealing=new)
    copy.write("late.txt", C, sealing=old)
    assert copy.store.seq == 2
    for _ in range(3):
        copy.now += KEPT_S + 1
        copy.store.sweep()
    assert len(list(copy.store.data.registers_below(""))) == 1
    assert [seq for seq, *_ in copy.store.data.since(0, 9)] == [2]
    copy.write("b.txt", B, sealing=new)
    assert [seq for seq, *_ in copy.store.data.since(0, 9)] == [2, 3]
    assert copy.store.seq == 3


def test_what_comes_back_is_needed_again(copy: Copy) -> None:
    copy.write("a.txt", A)
    copy.give(A, b"first")
    copy.write("a.txt", B)
    copy.store.sweep()
    copy.write("c.txt", A)
    copy.now += 2 * KEPT_S
    copy.store.sweep()
    assert copy.given(A) == b"first"


def test_a_full_copy_drops_the_unneeded_first_and_never_what_is_needed(copy: Copy) -> None:
    copy.write("a.txt", A)
    copy.give(A, bytes(4_000))
    copy.write("a.txt", B)
    copy.give(B, bytes(range(250)) * 16)
    copy.store.sweep()
    copy.write("c.txt", C)
    assert copy.give(C, b"c" * 4_000) == []
    assert copy.given(A) is None
    copy.write("d.txt", b"d" * 32)
    assert len(copy.give(b"d" * 32, b"d" * 4_000)) == 1
    assert copy.given(B) == bytes(range(250)) * 16
    assert copy.given(C) == b"c" * 4_000
    assert copy.store.used <= 10_000
    copy.store.set_quota(20_000)
    assert copy.give(b"d" * 32, b"d" * 4_000) == []


def test_registers_have_a_bound_too(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_store, "REGISTERS_BYTES", 0)
    copy.store.set_quota(1_000)
    with pytest.raises(LimitExceeded, match="no room"):
        for number in range(10):
            copy.write(f"{number}.txt", A)
    assert copy.store.seq >= 1


def test_a_damaged_or_lost_chunk_is_lacking_again(copy: Copy) -> None:
    copy.write("a.txt", A)
    copy.give(A, b"red and gold")
    (path,) = copy.files()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (_, _, _, ids), *_ = copy.store.lists([copy.anna.tag(A)], 0)
    assert copy.store.chunks([ids]) == [b""]
    assert copy.store.lacking() == [copy.anna.tag(A)]
    copy.give(A, b"red and gold")
    assert copy.given(A) == b"red and gold"


def test_what_nobody_signed_is_refused_and_what_no_writer_signed_is_not_kept(copy: Copy) -> None:
    assert copy.write("a.txt", A, sealing=sealing_of(BEN)) == []
    name, raw = copy.anna.entry(
        "a.txt", pack(written(NOTHING, (), (REPLICA, 9), Value(Kind.GONE, by=bytes(32))))
    )
    (entry,) = kept.read_entries(raw)
    for changed in ((name[:-1] + ("0" if name[-1] != "0" else "1"), raw), ("a.txt", raw)):
        with pytest.raises(PeerError):
            copy.store.merge(REPLICA, [changed])
    assert entry.contents == ()
    assert copy.store.merge(REPLICA, [(name, raw)]) == [name]


def test_without_its_disk_nothing_is_taken_and_nothing_concluded(copy: Copy) -> None:
    copy.write("a.txt", A)
    copy.give(A, b"red and gold")
    copy.place.rename(copy.place.with_name("away"))
    with pytest.raises(FolderGone):
        copy.give(B, b"more")
    (_, _, _, ids), *_ = copy.store.lists([copy.anna.tag(A)], 0)
    with pytest.raises(FolderGone):
        copy.store.chunks([ids])
    copy.place.with_name("away").rename(copy.place)
    assert copy.given(A) == b"red and gold"


def test_a_long_list_comes_in_parts(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    from coterie.apps.folders import sealed_contents

    monkeypatch.setattr(sealed_contents, "LISTED_MAX", 2)
    monkeypatch.setattr(kept_store, "LISTED_MAX", 2)
    copy.write("a.txt", A)
    texts = [text for number in range(5) for text in copy.anna.chunk(bytes([number]) * 9)]
    copy.store.keep(texts)
    ids = b"".join(blake3(text).digest() for text in texts)
    parts = list(messages_of([(copy.anna.tag(A), ids), (copy.anna.tag(B), b"")]))
    assert [[(first, total, len(part) // 32) for _, first, total, part in lists] for lists in parts] == [
        [(0, 5, 2)], [(2, 5, 2)], [(4, 5, 1), (0, 0, 0)]
    ]  # fmt: skip
    for lists in parts:
        copy.store.keep_lists(lists)
    assert copy.store.lacking() == []
    found = b""
    while len(found) < len(ids):
        found += copy.store.lists([copy.anna.tag(A)], len(found) // 32)[0][3]
    assert found == ids


def forked(sealing: Sealing, path: str, number: int) -> tuple[str, bytes]:
    """What nobody who follows the folder seals: a write that knows of no other."""
    value = Value(Kind.FILE, number.to_bytes(32), 5, 5, by=bytes(BEN.peer_id), at_ms=1)
    return sealing.entry(path, pack(written(NOTHING, (), (number.to_bytes(16), 1), value)))


def test_a_writer_who_floods_a_path_keeps_nobody_else_from_it(copy: Copy) -> None:
    copy.writers.add(bytes(BEN.peer_id))
    for number in range(1, kept.ENTRIES_MAX + 6):
        copy.store.merge(b"b" * 16, [forked(sealing_of(BEN), "a", number)])
    (raw,) = copy.store.data.registers([copy.anna.name("a")]).values()
    assert len(kept.read_entries(raw)) == kept.ENTRIES_MAX
    assert copy.write("a", A) == [copy.anna.name("a")], "anna's is taken, with all else that she sends"
    (raw,) = copy.store.data.registers([copy.anna.name("a")]).values()
    by = [entry.by for entry in kept.read_entries(raw)]
    assert (len(by), by.count(bytes(ANNA.peer_id))) == (kept.ENTRIES_MAX, 1)


def test_as_many_writers_as_there_is_room_for_are_told_so(copy: Copy) -> None:
    keys = [SecretKey(bytes([number]) * 32) for number in range(1, kept.ENTRIES_MAX + 2)]
    copy.writers.update(bytes(key.peer_id) for key in keys)
    for number, key in enumerate(keys[:-1], 1):
        assert copy.store.merge(b"b" * 16, [forked(sealing_of(key), "a", number)])
    with pytest.raises(LimitExceeded):
        copy.store.merge(b"b" * 16, [forked(sealing_of(keys[-1]), "a", 99)])
