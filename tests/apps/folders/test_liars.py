"""A member who may write, and lies: what he says is bounded, and the folder goes on for all others."""

from pathlib import Path
from random import Random

import pytest

from coterie.apps.folders import messages as wire
from coterie.apps.folders import register as r
from coterie.apps.folders.app import APP
from coterie.apps.folders.book import OutdatedHome
from coterie.apps.folders.exchange import Exchange
from coterie.apps.folders.messages import PROTOCOL, Changes, Hello
from coterie.apps.folders.register import Kind, Register, Value, bounded, merge, pack, unpack, winner
from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.machine import PeerUp, Received, Send
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_book import opened
from tests.apps.folders.test_folders import engine_of, files_in, pair, until

LIAR = b"l" * 32
WHO = bytes(range(32))


def value(number: int, *, target: str = "", depth: int = 1) -> Value:
    kind = Kind.LINK if target else Kind.FILE
    content = b"" if target else number.to_bytes(32)
    return Value(kind, content, 1, target=target, by=WHO, at_ms=1, depth=depth)


def many(count: int, *, first: int = 0, target: str = "") -> Register:
    """A register with so many values, each by a writer of its own."""
    writers = [(first + number).to_bytes(16) for number in range(count)]
    siblings = tuple(((one, 1), value(number, target=target)) for number, one in enumerate(writers, first))
    return Register(siblings, tuple((one, 1) for one in writers))


# ---- registers


def test_values_and_writers_of_one_path_are_bounded_also_once_merged() -> None:
    """Each message is within the bound; both together must be, or nobody takes what is passed on."""
    full = merge(many(r.SIBLINGS_MAX), many(r.SIBLINGS_MAX, first=1_000))
    with pytest.raises(PeerError, match="128 values"):
        unpack(pack(full))
    kept = bounded(full)
    assert len(kept.siblings) == r.SIBLINGS_MAX
    assert winner(kept) == winner(full)
    assert unpack(pack(kept)) == kept
    links = bounded(merge(many(60, target="t" * 4_000), many(60, first=1_000, target="t" * 4_000)))
    assert len(pack(links)) < wire.REGISTER_BYTES_MAX
    writers = Register((), tuple((number.to_bytes(16), 1) for number in range(r.REPLICAS_MAX + 1)))
    with pytest.raises(PeerError, match="1025 writers"):
        unpack(pack(writers))
    both = bounded(merge(full, writers))
    assert unpack(pack(both)) == both
    assert len(pack(both)) < wire.REGISTER_BYTES_MAX


def test_what_is_written_here_has_its_place_among_too_many() -> None:
    high = Register(
        tuple((dot, value(number, depth=r.DEPTH_MAX)) for number, (dot, _) in enumerate(many(64).siblings)),
        many(64).context,
    )
    new = r.written(high, (), (LIAR[:16], 1), value(99))
    assert len(new.siblings) == r.SIBLINGS_MAX
    assert any(dot == (LIAR[:16], 1) for dot, _ in new.siblings)
    assert unpack(pack(new)) == new


@pytest.mark.parametrize("seed", range(20))
def test_bounded_registers_converge_in_any_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(r, "SIBLINGS_MAX", 4)
    random = Random(seed)
    sides = [Register() for _ in range(4)]
    for number in range(60):
        at = random.randrange(4)
        if random.random() < 0.5:
            shown = [dot for dot, _ in sides[at].siblings if random.random() < 0.3]
            dot = (bytes([at]) * 16, number + 1)
            sides[at] = r.written(sides[at], shown, dot, value(number))
        else:
            sides[at] = bounded(merge(sides[at], random.choice(sides)))
    for _ in range(8):
        for at in random.sample(range(4), 4):
            for other in range(4):
                sides[at] = bounded(merge(sides[at], sides[other]))
    assert all(side == sides[0] for side in sides), seed
    assert 0 < len(sides[0].siblings) <= 4


def test_a_depth_that_nobody_can_exceed_makes_nobody_else_invalid() -> None:
    dot, lie = (LIAR[:16], 1), value(1, depth=r.DEPTH_MAX)
    register = Register(((dot, lie),), (dot,))
    for after in (
        r.written(register, [dot], (WHO[:16], 1), value(2)),
        r.resolved(register, (WHO[:16], 1), value(2)),
    ):
        assert unpack(pack(after)) == after
        assert winner(after) == ((WHO[:16], 1), value(2, depth=r.DEPTH_MAX))


@pytest.mark.parametrize(
    "bad",
    [
        Register((((LIAR[:16], r.COUNTER_MAX + 1), value(1)),), ()),
        Register((((LIAR[:16], 1), value(1, depth=r.DEPTH_MAX + 1)),), ()),
        Register((((LIAR[:16], 1), Value(Kind.FILE, bytes(32), 1, by=WHO, at_ms=r.MS_MAX + 1)),), ()),
        Register((((LIAR[:16], 1), Value(Kind.FILE, bytes(32), -1, by=WHO)),), ()),
    ],
    ids=["counter", "depth", "clock", "size"],
)
def test_numbers_that_cannot_be_are_refused(bad: Register) -> None:
    with pytest.raises(PeerError):
        unpack(pack(bad))


@pytest.mark.parametrize(
    "path",
    ["../out", "a/../../out", "/etc/x", "a//b", ".", "a/\0", ".coterie-folder/id", "e\u0301", "x" * 300],
)
def test_paths_that_lead_elsewhere_are_refused_with_all_that_came_along(tmp_path: Path, path: str) -> None:
    book = opened(tmp_path)
    with pytest.raises(PeerError, match="a path of a live folder that"):
        book.merge(LIAR[:16], [("fine", pack(many(1))), (path, pack(many(1)))])
    assert not book.data.paths()


def test_sizes_beyond_all_disks_can_be_added_up(tmp_path: Path) -> None:
    book = opened(tmp_path)
    huge = Value(Kind.FILE, bytes(32), (1 << 63) - 1, by=WHO)
    book.merge(LIAR[:16], [(f"{n}", pack(Register((((LIAR[:16], n), huge),)))) for n in range(1, 4)])
    assert book.data.totals()[0] == 3


def test_a_number_of_ours_that_was_never_given_is_seen(tmp_path: Path) -> None:
    book = opened(tmp_path)
    lie = Register((((b"r" * 16, 1), value(1)),), ((b"r" * 16, 1),))
    with pytest.raises(OutdatedHome):
        book.merge(LIAR[:16], [("a", pack(lie))])


# ---- the exchange


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def test_who_says_that_he_is_the_copy_of_another_gets_nothing_in_its_name() -> None:
    """What he had would count as had by the other; the later of two is told to go on as a new copy."""
    folder, own, carls = b"f" * 16, b"a" * 16, b"c" * 16
    core = Exchange(folder, own, 5, {})
    core.handle(Received(peer(1), Hello(folder, carls, 3, own, 0)), 0.0)
    for claimed in (carls, own):
        (said,) = core.handle(Received(peer(2), Hello(folder, claimed, 9, own, 0)), 0.0)
        assert said == Send(peer(2), Hello(folder, own, 5, claimed, 10, is_answer=True))
        assert core.handle(Received(peer(2), Changes(folder, claimed, 0, 9, [])), 0.0) == []
    assert core.peers == [peer(1)]
    fresh = core.handle(Received(peer(2), Hello(folder, b"n" * 16, 9, own, 0)), 0.0)
    assert any(isinstance(one, Send) for one in fresh)
    assert core.peers == [peer(1), peer(2)]
    assert core.handle(PeerUp(peer(1)), 0.0)


# ---- nodes


async def say(node: Node, to: Node, entries: list[tuple[str, bytes]]) -> None:
    """What somebody with a changed program would say."""
    (line,) = to.folders.lines()
    stream = await (await node.connect(to.peer_id)).open_stream(PROTOCOL)
    await stream.send(Changes(bytes.fromhex(line.id), engine_of(node).replica, 0, 0, entries))


def test_a_liar_among_three_hurts_his_own_paths_alone(tmp_path: Path) -> None:
    """Absurd dates, depths, sizes and siblings: the disk shows what it can, and edits of others go on."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("first")
        await until(lambda: files_in(there) == {"a.txt": b"first"}, "the file")
        far = Value(
            Kind.LINK,
            mtime_ns=r.MTIME_NS_MAX,
            target="a.txt",
            by=bytes(ben.peer_id),
            at_ms=r.MS_MAX,
            depth=r.DEPTH_MAX,
        )
        past = Value(Kind.FOLDER, mtime_ns=-r.MTIME_NS_MAX, by=bytes(ben.peer_id))
        dots = [(LIAR[:16], number) for number in range(1, 4)]
        await say(
            ben,
            anna,
            [
                ("far", pack(Register(((dots[0], far),)))),
                ("far (2)", pack(Register(((dots[1], far),)))),
                ("past", pack(Register(((dots[2], past),)))),
                *((f"{first}", pack(many(64, first=first * 100))) for first in range(2)),
                *(("many", pack(many(64, first=first * 100))) for first in range(4)),
            ],
        )
        await until(lambda: (here / "far").is_symlink() and (here / "past").is_dir(), "what can be shown")
        for number in range(3):
            (here / "a.txt").write_text(f"edit {number}")
            await until(lambda: files_in(there)["a.txt"] == files_in(here)["a.txt"], "edits")
        (here / "far").unlink()
        (here / "far").write_text("a file now")
        await until(lambda: files_in(there).get("far") == b"a file now", "also of what he wrote")
        assert len(engine_of(anna).book.data.register("many") or b"") < wire.REGISTER_BYTES_MAX

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


@pytest.mark.parametrize("mtime_ns", [r.MTIME_NS_MAX, -r.MTIME_NS_MAX, 1 << 62])
def test_a_file_with_an_absurd_date_arrives(tmp_path: Path, mtime_ns: int) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (there / "a.txt").write_text("content")
        await until(lambda: files_in(here) == {"a.txt": b"content"}, "the file")
        ((_, mine),) = unpack(engine_of(ben).book.data.register("a.txt") or b"").siblings
        dated = Value(Kind.FILE, mine.content, mine.size, mtime_ns, by=mine.by, at_ms=1)
        await say(ben, anna, [("b.txt", pack(Register((((LIAR[:16], 1), dated),))))])
        await until(lambda: files_in(here).get("b.txt") == b"content", "it is shown")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
