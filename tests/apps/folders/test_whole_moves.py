"""A folder that is renamed with all in it is one note here, one message, and one rename at whoever is told."""

from pathlib import Path

import msgspec
import pytest

from coterie.apps.folders import crowding, folder_move, scanning, whole_moves
from coterie.apps.folders import exchange as x
from coterie.apps.folders.app import APP
from coterie.apps.folders.book import FolderBook, OutdatedHome
from coterie.apps.folders.folder_move import FolderMove
from coterie.apps.folders.hints import hints_of
from coterie.apps.folders.messages import PATH_BYTES_MAX, Changes, Hello, Moved, check
from coterie.apps.folders.planner import Rules, paths_left
from coterie.apps.folders.register import Kind, Value, unpack, winner
from coterie.apps.folders.steps import Here, Move, MoveFolder, Print, Record
from coterie.apps.folders.store import FolderRow
from coterie.content.names import NameRules
from coterie.errors import LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.machine import PeerUp, Received, Send
from coterie.testing import Cast, play
from tests.apps.folders.live import Live
from tests.apps.folders.test_book import store_in
from tests.apps.folders.test_folders import engine_of, files_in, pair, until

ME, NOW = b"b" * 32, 5
FILES = whole_moves.PATHS_MIN


class Copy:
    """What one computer knows of the folder."""

    def __init__(self, home: Path, letter: str) -> None:
        store = store_in(home / letter)
        row = FolderRow(
            number=0, id=b"f" * 16, path="/tmp/x", replica=letter.encode() * 16, counter=0, record=b"", state="on",
            settings=b"", created=1.0,
        )  # fmt: skip
        store.add(row)
        self.replica = row.replica
        self.book = FolderBook(store, row)

    def write(self, *records: Record) -> None:
        self.book.note(records, ME, NOW)

    def tell(self, other: "Copy") -> None:
        """All that there is, path by path."""
        first = 0
        while first < self.book.seq:
            first, entries = self.book.batch(other.replica, first)
            other.book.merge(self.replica, entries)

    def standing(self) -> dict[str, bytes]:
        return dict(self.book.data.registers_below(""))

    def living(self) -> set[str]:
        first = {path: winner(unpack(raw)) for path, raw in self.standing().items()}
        return {path for path, one in first.items() if one is not None and one[1].kind != Kind.GONE}


def folder(local: str, inode: int) -> Record:
    return Record(local, local, (), Value(Kind.FOLDER), Print(Kind.FOLDER, inode))


def file(local: str, inode: int) -> Record:
    value = Value(Kind.FILE, inode.to_bytes(32), 3, inode)
    return Record(local, local, (), value, Print(Kind.FILE, inode, 3, inode, inode))


def full(local: str) -> list[Record]:
    """A folder with FILES files."""
    return [folder(local, 1), *(file(f"{local}/{number:03}", number + 2) for number in range(FILES))]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Copy, Copy]:
    """Anna made a folder and wrote; ben knows all of it, and shows it on his disk."""
    anna, ben = Copy(tmp_path, "a"), Copy(tmp_path, "b")
    anna.write(*full("old"))
    anna.tell(ben)
    steps = ben.book.plan(Rules(), [], ben.book.data.paths())
    prints = {record.local: record.print for record in full("old")}
    ben.book.did([(step, prints[step.local]) for step in steps])  # type: ignore[misc]
    return anna, ben


def moved(one: Copy, local: str = "old", to: str = "new", rules: Rules | None = None) -> bool:
    return one.book.moved_here(rules or Rules(), local, to, ME, NOW)


def told(one: Copy, other: Copy) -> FolderMove:
    found = one.book.next_move(other.replica, FILES + 1)
    assert found is not None
    assert found[0] == one.book.seq
    return found[1]


def test_one_message_makes_the_same_of_both(two: tuple[Copy, Copy]) -> None:
    anna, ben = two
    assert moved(anna)
    assert ben.book.merge_move(anna.replica, told(anna, ben))
    assert ben.standing() == anna.standing()
    assert ben.living() == {record.local.replace("old", "new") for record in full("old")}
    assert len(msgspec.msgpack.encode(told(anna, ben))) < 200
    assert ben.book.taken_moves() == [("old", "new")]
    ready = ben.book.to_move(Rules(), "old", "new")
    assert ready is not None
    assert (ready.step.local, ready.step.to, ready.paths) == ("old", "new", [])
    assert not ben.book.moves.is_done(ready)
    assert ben.book.did([(ready.step, Print(Kind.FOLDER, 1))]) == []
    assert ben.book.moves.is_done(ready)
    for one in (anna, ben):
        assert dict(one.book.known()) == {
            record.local.replace("old", "new"): record.print for record in full("old")
        }
        assert one.book.plan(Rules(), [], one.book.data.paths()) == [], "nothing is left to do"
        assert one.book.undone() == []
    assert len(ben.book.data.events(1_000)) == FILES + 1, "it can be undone"


def test_it_goes_back_and_a_third_hears_of_it_twice(two: tuple[Copy, Copy], tmp_path: Path) -> None:
    anna, ben = two
    carl = Copy(tmp_path, "c")
    anna.tell(carl)
    assert moved(anna)
    first = told(anna, ben)
    for one in (ben, carl):
        assert one.book.merge_move(anna.replica, first)
    relayed = ben.book.next_move(carl.replica, FILES + 1)
    assert relayed is not None
    assert relayed[1] == first
    assert ben.book.next_move(anna.replica, FILES + 1) is None, "it came from there"
    assert ben.book.batch(anna.replica, FILES + 1) == (ben.book.seq, [])
    assert carl.book.merge_move(ben.replica, first) is False, "it was made before"
    assert moved(anna, "new", "old")
    found = anna.book.next_move(ben.replica, 3 * (FILES + 1))
    assert found is not None
    assert ben.book.merge_move(anna.replica, found[1])
    assert ben.standing() == anna.standing()
    assert ben.living() == {record.local for record in full("old")}


def test_path_by_path_it_comes_to_the_same(two: tuple[Copy, Copy]) -> None:
    """An older version of coterie is told so."""
    anna, ben = two
    assert moved(anna)
    anna.tell(ben)
    assert ben.standing() == anna.standing()


def test_what_stood_otherwise_is_asked_for_path_by_path(two: tuple[Copy, Copy]) -> None:
    anna, ben = two
    assert moved(anna)
    ben.write(file("old/more", 900))
    before = ben.standing()
    assert ben.book.merge_move(anna.replica, told(anna, ben)) is None
    assert ben.standing() == before
    anna.tell(ben)
    assert "new/000" in ben.living()
    assert "old/more" in ben.living(), "nobody moved it"


def test_what_changed_since_is_told_path_by_path(two: tuple[Copy, Copy]) -> None:
    anna, ben = two
    assert moved(anna)
    anna.write(file("new/000", 901))
    assert anna.book.next_move(ben.replica, FILES + 1) is None


def test_what_could_not_be_moved_is_planned_again_at_both_ends(two: tuple[Copy, Copy]) -> None:
    """Else it stayed where it was, once something else became of its new place."""
    _, ben = two
    paths = {record.path for record in full("old")}
    step = MoveFolder("old", "new", Print(Kind.FOLDER, 1), "new")
    assert set(paths_left(step, ben.book.tree())) == paths | {one.replace("old", "new") for one in paths}
    alone = Move("old/000", "other", Print(Kind.FILE, 2), "other")
    assert set(paths_left(alone, ben.book.tree())) == {"old/000", "other"}


@pytest.mark.parametrize("why", ["new file", "unread", "pattern", "reader", "names", "few", "there"])
def test_what_is_not_simple_is_planned(two: tuple[Copy, Copy], why: str) -> None:
    anna, _ = two
    rules = Rules()
    match why:
        case "new file":
            anna.book.found({"old/more": Here(Print(Kind.FILE, 900))}, {})
        case "unread":
            anna.book.found({"new/000": Here(Print(Kind.FILE, 900))}, {})
        case "pattern":
            rules = Rules(ignores_places=True)
        case "reader":
            rules = Rules(can_write=False)
        case "names":
            rules = Rules(names=NameRules(folds_case=True))
        case "few":
            anna.write(*[Record(f"old/{n:03}", f"old/{n:03}", (), Value(Kind.GONE), None) for n in range(2)])
        case "there":
            anna.book.merge(b"z" * 16, [("new", anna.standing()["old"])])
    before = anna.standing()
    assert not moved(anna, rules=rules)
    assert anna.standing() == before


def test_so_many_paths_move_in_one_and_one_more_does_not(
    two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, _ = two
    monkeypatch.setattr(folder_move, "PATHS_MAX", FILES)
    assert not moved(anna)
    monkeypatch.setattr(folder_move, "PATHS_MAX", FILES + 1)
    assert moved(anna)


def test_so_many_moves_are_told_as_such(two: tuple[Copy, Copy]) -> None:
    anna, ben = two
    for number in range(whole_moves.TOLD_MAX + 1):
        assert moved(anna, *(("old", "new") if number % 2 == 0 else ("new", "old")))
    first = (FILES + 1) * (1 + 2 * whole_moves.TOLD_MAX)
    assert anna.book.next_move(ben.replica, first) is not None
    assert len(anna.book.moves._told) == whole_moves.TOLD_MAX


def test_liars_are_refused(two: tuple[Copy, Copy]) -> None:
    anna, ben = two
    assert moved(anna)
    move = told(anna, ben)
    for wrong in (
        msgspec.structs.replace(move, target="old/inside"),
        msgspec.structs.replace(move, target=".coterie-folder"),
        msgspec.structs.replace(move, target="a/../b"),
    ):
        with pytest.raises(PeerError):
            ben.book.merge_move(anna.replica, wrong)
    with pytest.raises(OutdatedHome):
        ben.book.merge_move(anna.replica, msgspec.structs.replace(move, replica=ben.replica))
    check(Moved(b"f" * 16, anna.replica, 0, 1, move, 1))
    for wrong in (
        msgspec.structs.replace(move, digest=b""),
        msgspec.structs.replace(move, count=folder_move.PATHS_MAX + 1),
        msgspec.structs.replace(move, counter=0),
        msgspec.structs.replace(move, source="a" * (PATH_BYTES_MAX + 1)),
        msgspec.structs.replace(move, by=b"b"),
    ):
        with pytest.raises(PeerError):
            check(Moved(b"f" * 16, anna.replica, 0, 1, wrong, 1))


@pytest.mark.parametrize("takes", [True, False])
def test_only_who_says_so_is_told_moves(takes: bool) -> None:
    peer, own, theirs = PeerId(b"p" * 32), b"o" * 16, b"t" * 16
    core = x.Exchange(b"f" * 16, own, 9, {}, takes_moves=True)
    core.handle(PeerUp(peer), 0.0)
    hello = Hello(b"f" * 16, theirs, 0, own, 3, is_answer=True, moves_behind=0 if takes else -1)
    outputs = core.handle(Received(peer, hello), 0.0)
    read = outputs[-1]
    assert read == x.Read(peer, theirs, 3, takes)
    move = FolderMove("a", "b", own, 1, 3, ME, NOW, bytes(32)) if takes else None
    (sent, *rest) = core.handle(x.Batch(peer, 3, 8, (), move), 0.0)
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Moved if takes else Changes)
    assert bool(rest) is not takes, "nothing is sent behind a move before it is made"


def test_who_cannot_make_a_move_asks_for_its_paths() -> None:
    peer, own, theirs = PeerId(b"p" * 32), b"o" * 16, b"t" * 16
    core = x.Exchange(b"f" * 16, own, 0, {}, takes_moves=True)
    core.handle(Received(peer, Hello(b"f" * 16, theirs, 9, own, 0, is_answer=True)), 0.0)
    move = FolderMove("a", "b", theirs, 1, 3, ME, NOW, bytes(32))
    (merge,) = core.handle(Received(peer, Moved(b"f" * 16, theirs, 0, 6, move, 9)), 0.0)
    assert merge == x.Merge(peer, theirs, 6, (), True, move)
    (said,) = core.handle(x.Unmoved(peer, 6), 0.0)
    assert said == Send(peer, Hello(b"f" * 16, own, 0, theirs, 0, moves_behind=6))


def test_a_look_knows_a_folder_again(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "old" / "in").mkdir(parents=True)
    (top / "old" / "x").write_bytes(b"x")
    (top / "old" / "in" / "y").write_bytes(b"y")
    live = Live(top, tmp_path / "home")
    live.scan()
    (top / "old").rename(top / "new")
    scan = live.disk.scan(hints_of(["old", "new"], (), ["new"]))
    assert (scan.folders, scan.found) == ({"new": "old"}, {})
    assert live.disk.scan(hints_of([], (), [""])).found == {}, "that is what is known now"
    found, names = live.disk.renamed("old", "new")
    assert names == {"new/x": "old/x", "new/in/y": "old/in/y"}
    assert {local for local, here in found.items() if here is None} == {"old", "old/x", "old/in", "old/in/y"}
    (top / "new" / "x").write_bytes(b"another")
    (top / "new").rename(top / "third")
    scan = live.disk.scan(hints_of(["new", "third"], (), ["third"]))
    assert scan.folders == {}
    assert scan.found["new/x"] is None


def test_so_many_folders_are_known_again_in_one_look_and_one_more_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "RENAMED_MAX", 1)
    top = tmp_path / "top"
    for name in "ab":
        (top / name).mkdir(parents=True)
        (top / name / "x").write_bytes(name.encode())
    live = Live(top, tmp_path / "home")
    live.scan()
    for name in "ab":
        (top / name).rename(top / f"new {name}")
    scan = live.disk.scan(hints_of(["a", "b"], (), ["new a", "new b"]))
    assert (scan.folders, scan.moved) == ({"new a": "a"}, {"new b/x": "b/x"})


def test_a_folder_with_as_many_paths_as_one_may_have_takes_no_move(
    two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = two
    monkeypatch.setattr(crowding, "PATHS_MAX", 2 * FILES + 1)
    assert not moved(anna)
    monkeypatch.setattr(crowding, "PATHS_MAX", 2 * FILES + 2)
    assert moved(anna)
    monkeypatch.setattr(crowding, "PATHS_MAX", 2 * FILES + 1)
    with pytest.raises(LimitExceeded):
        ben.book.merge_move(anna.replica, told(anna, ben))


def test_a_renamed_folder_is_renamed_at_once_there(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "old").mkdir()
        for number in range(FILES):
            (here / "old" / f"{number}").write_bytes(b"%d" % number)
        await until(lambda: len(files_in(there)) == FILES, "files")
        await until(lambda: all(one.folders.lines()[0].unsent == 0 for one in (anna, ben)), "all is told")
        inode = (there / "old" / "7").stat().st_ino
        (here / "old").rename(here / "new")
        await until(lambda: files_in(there) == files_in(here), "the move")
        assert (there / "new" / "7").stat().st_ino == inode
        assert not (there / "old").exists()
        await until(lambda: len(engine_of(ben).book.moves._told) == 1, "one message")
        await until(lambda: all(one.folders.lines()[0].state == "in sync" for one in (anna, ben)), "rest")
        (there / "new" / "7").write_bytes(b"edit")
        await until(lambda: (here / "new" / "7").read_bytes() == b"edit", "an edit after it comes back")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
