"""What is on this disk and what is on demand, between nodes: seen whole, got, let go of, and nothing lost by it."""

import os
from pathlib import Path

import pytest

from coterie.apps.folders import freeing
from coterie.apps.folders.app import APP
from coterie.apps.folders.freeing import proof_of
from coterie.apps.folders.messages import HAVE_MAX, PROTOCOL, Has, Have
from coterie.errors import CoterieError, NotFound, TransportError, UsageError
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import engine_of, files_in, pair, until
from tests.apps.folders.test_live_places import failure, folder_of, listed, read

FILM = bytes(range(256)) * 4_000  # one megabyte in several chunks


def states(node: Node, path: str = "") -> dict[str, str]:
    """How the files in a folder stand, as `folder ls` says."""
    return {one.path: one.state for one in node.folders.entries("Projects", path) if one.kind == "file"}


async def select(node: Node, *patterns: str, **options: object) -> list[tuple[str, str]]:
    """As `coterie folder select`: (what, pattern) of the choices then."""
    lines = await node.folders.choosing("Projects").select(patterns, **options)
    return [(line.what, line.pattern) for line in lines]


async def pair_with_film(cast: Cast, tmp_path: Path) -> tuple[Node, Node, Path, Path]:
    """Both have a film and a text."""
    anna, ben, here, there = await pair(cast, tmp_path)
    (here / "films").mkdir()
    (here / "films" / "a.mkv").write_bytes(FILM)
    (here / "b.txt").write_text("text")
    await until(lambda: len(files_in(there)) == 2, "both files")
    await until(lambda: anna.folders.lines()[0].unsent == 0, "it is known that ben has them")
    return anna, ben, here, there


def test_what_is_on_demand_leaves_is_seen_read_got_and_changed(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair_with_film(cast, tmp_path)
        assert await select(ben, "films", on_demand=True) == [("on demand", "/films")]
        await until(lambda: files_in(there) == {"b.txt": b"text"}, "the film leaves")
        assert files_in(here).keys() == {"films/a.mkv", "b.txt"}, "that is no deletion"
        await until(
            lambda: states(ben, "films") == {"films/a.mkv": "on demand"}, "what left is noted right after"
        )
        assert states(ben) == {"b.txt": "here"}
        assert await listed(ben, "films") == {"a.mkv": ("file", len(FILM), False)}
        assert await read(ben, "films/a.mkv", 300_000, 100_000) == FILM[300_000:400_000]
        assert ben.folders.lines()[0].here == 1
        assert ben.folders.lines()[0].state == "in sync"
        assert not await ben.folders.versions("Projects", ""), "it made room"

        (here / "films" / "c.mkv").write_bytes(b"small")
        await until(lambda: "films/c.mkv" in states(ben, "films"), "a new film is seen")
        assert await read(ben, "films/c.mkv") == b"small"
        said = await ben.folders.choosing("Projects").get(["films/a.mkv"])
        assert "1 file" in said.said
        await until(lambda: files_in(there).get("films/a.mkv") == FILM, "it comes")
        assert states(ben, "films") == {"films/a.mkv": "here", "films/c.mkv": "on demand"}
        (here / "films" / "a.mkv").write_bytes(b"new cut")
        await until(lambda: files_in(there).get("films/a.mkv") == b"new cut", "it stays up to date")

        await select(ben, "films/c.mkv")
        await until(lambda: states(ben, "films")["films/c.mkv"] == "pinned", "pinned: it comes")
        assert await select(ben, "films", "films/c.mkv", remove=True) == []
        await until(lambda: states(ben, "films").get("films/c.mkv") == "here", "no choice: it stays")
        await until(lambda: anna.folders.lines()[0].unsent == 0, "all is with both")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_is_written_over_or_renamed_where_it_is_not_is_so_for_all(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair_with_film(cast, tmp_path)
        await select(ben, "films", on_demand=True)
        await until(lambda: files_in(there) == {"b.txt": b"text"}, "the film leaves")
        await ben.folders.move(folder_of(ben), "films/a.mkv", "films/b.mkv")
        assert await listed(ben, "films") == {"b.mkv": ("file", len(FILM), False)}
        await until(lambda: files_in(here).get("films/b.mkv") == FILM, "it is called so where it lies")
        assert "films/a.mkv" not in files_in(here)
        ben.folders.writing(folder_of(ben), "films/b.mkv")
        (there / "films" / "b.mkv").write_bytes(b"mine")
        ben.folders.touched(folder_of(ben), "films/b.mkv")
        await until(lambda: files_in(here).get("films/b.mkv") == b"mine", "it replaces what was seen")
        assert ben.folders.conflicts("Projects") == []
        await select(ben, "*", on_demand=True)
        await until(lambda: files_in(there) == {}, "all of it leaves")
        await ben.folders.remove(folder_of(ben), "films")
        await until(lambda: files_in(here) == {"b.txt": b"text"}, "removed for all")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_is_not_here_is_renamed_while_somebody_has_it_who_hears_of_it(tmp_path: Path) -> None:
    """Else its only holder may write over what nobody else has, under the name that it has no longer."""

    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair_with_film(cast, tmp_path)
        await select(ben, "films", on_demand=True)
        await until(lambda: files_in(there) == {"b.txt": b"text"}, "the film leaves")
        cast.network.partition(["anna"], ["ben"])
        error = await failure(ben.folders.move(folder_of(ben), "films", "movies"))
        assert isinstance(error, TransportError)
        assert "nobody who is there now has films/a.mkv" in str(error)
        assert (there / "films").is_dir(), "nothing of it is renamed"
        (here / "films/a.mkv").write_bytes(b"another cut")
        cast.network.heal()
        await until(lambda: bool(engine_of(ben).peers), "she is there again")
        await until(lambda: ben.folders.lines()[0].size == len(b"another cut") + 4, "ben hears of it")
        await ben.folders.move(folder_of(ben), "films/a.mkv", "films/b.mkv")
        await until(lambda: files_in(here).get("films/b.mkv") == b"another cut", "now it is renamed")
        (here / "films/b.mkv").write_bytes(b"a third cut, of which nobody has heard")
        error = await failure(ben.folders.move(folder_of(ben), "films/b.mkv", "films/c.mkv"))
        assert isinstance(error, TransportError), "what she wrote just now counts at once"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_nobody_else_has_stays_until_somebody_has_it(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair_with_film(cast, tmp_path)
        cast.network.partition(["anna"], ["ben"])
        (there / "own.mkv").write_bytes(b"only mine")
        await until(lambda: ben.folders.lines()[0].unsent == 1, "a change that anna has not")
        await select(ben, "*", on_demand=True)
        await cast.stop("ben")
        cast.network.heal()
        assert files_in(there).keys() == {"films/a.mkv", "b.txt", "own.mkv"}
        ben = await cast.node("ben")
        await until(lambda: files_in(there) == {}, "after a restart, with anna there, it leaves")
        await until(lambda: files_in(here).get("own.mkv") == b"only mine", "and is with her")
        assert anna.folders.lines()[0].unsent in (0, 3), "she may know already that she is the last"
        await until(lambda: anna.folders.lines()[0].unsent == 3, "what only she has now")
        await select(anna, "*", on_demand=True)
        await ben.folders.choosing("Projects").get(["b.txt"])
        await until(lambda: files_in(there) == {"b.txt": b"text"}, "ben gets one back")
        await until(
            lambda: files_in(here).keys() == {"films/a.mkv", "own.mkv"}, "anna keeps what is only here"
        )

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_who_may_only_read_is_never_left_alone_with_the_last_copy(tmp_path: Path) -> None:
    """What he deletes, he deletes for nobody: his proof that he has it would end what the others gave up for it."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair_with_film(cast, tmp_path)
        anna.folders.add_member("Projects", "ben:read")
        await until(lambda: not engine_of(ben).can_write, "ben may only read")
        await select(anna, "films", on_demand=True)
        await select(ben, "films", on_demand=True)
        await until(lambda: "films/a.mkv" not in files_in(there), "ben lets go, for anna may write")
        await ben.folders.choosing("Projects").get(["films/a.mkv"])
        await until(lambda: "films/a.mkv" in files_in(there), "it comes back")
        await select(anna, "films", on_demand=True)
        await until(lambda: not anna.folders.lines()[0].unsent, "she knows that ben has it")
        (there / "films/a.mkv").unlink()
        await until(lambda: ben.folders.lines()[0].note != "", "his deletion waits")
        assert files_in(here)["films/a.mkv"] == FILM

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_no_more_is_read_for_a_proof_than_honest_askers_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader names one large file thousands of times in one question."""

    async def story(cast: Cast) -> None:
        anna, _ben, _, _ = await pair_with_film(cast, tmp_path)
        engine = engine_of(anna)
        ((_, film),) = engine.book.agreed_of(["films/a.mkv"])
        file = ("films/a.mkv", film.value.content)
        monkeypatch.setattr(freeing, "TOGETHER_BYTES", 3 * len(FILM))
        proofs = await engine.has([file] * HAVE_MAX, bytes(32))
        assert [bool(proof) for proof in proofs] == [True] * 3 + [False] * (HAVE_MAX - 3)
        monkeypatch.setattr(freeing, "TOGETHER_BYTES", len(FILM) - 1)
        assert [bool(proof) for proof in await engine.has([file] * 2, bytes(32))] == [True, False], "one goes"
        ((_, text),) = engine.book.agreed_of(["b.txt"])
        monkeypatch.setattr(freeing, "TOGETHER_BYTES", 1 << 30)
        proofs = await engine.has([("b.txt", text.value.content)] * (freeing.TOGETHER_MAX + 1), bytes(32))
        assert sum(map(bool, proofs)) == freeing.TOGETHER_MAX

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_is_proved_is_on_the_disk_before_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program wrote it and the kernel has it in memory: the power could go once the other copy has left."""
    flushed: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.add(os.fstat(fd).st_ino), fsync(fd))[1])

    async def story(cast: Cast) -> None:
        _anna, ben, here, there = await pair_with_film(cast, tmp_path)
        film = (here / "films/a.mkv").stat().st_ino
        assert film not in flushed, "nobody asked yet"
        await select(ben, "films", on_demand=True)
        await until(lambda: "films/a.mkv" not in files_in(there), "it leaves")
        assert film in flushed

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_waited_to_leave_stays_once_it_is_asked_for(tmp_path: Path) -> None:
    """It was chosen to be on demand while nobody was there who has it; then its owner wants it after all."""

    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair_with_film(cast, tmp_path)
        await cast.stop("anna")
        await until(lambda: not engine_of(ben).peers, "nobody is there")
        await select(ben, "*", on_demand=True)
        said = await ben.folders.choosing("Projects").get(["films"])
        assert said.said == "all of it is here"
        anna = await cast.node("anna")
        await until(lambda: files_in(there) == {"films/a.mkv": FILM}, "the text leaves, the film stays")
        await until(lambda: states(ben) == {"b.txt": "on demand"}, "the text is on demand")
        assert states(ben, "films") == {"films/a.mkv": "here"}
        await select(ben, "films", on_demand=True)
        await until(lambda: files_in(there) == {}, "until that is said again")
        await until(lambda: anna.folders.lines()[0].unsent == 2, "she knows that she is the last")
        said = (await anna.folders.leave("Projects")).said
        assert "2 changes or files of it were at nobody else's" in said, said
        assert files_in(here)["films/a.mkv"] == FILM
        assert "nobody" not in (await ben.folders.leave("Projects")).said

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_joined_on_demand_nothing_comes_and_limits_hold_by_size_and_kind(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        for name, data in (("a.mkv", b"f"), ("b.JPG", b"p"), ("big.bin", b"b" * 5_000), ("[c].txt", b"t")):
            (here / name).write_bytes(data)
        await anna.folders.new(here, ["ben"], "Projects")
        await until(lambda: any(line.state == "offered" for line in ben.folders.lines()), "the offer")
        await ben.folders.join("anna/Projects", there, yes=False, on_demand=True)
        await until(lambda: len(states(ben)) == 4, "all is seen")
        assert set(states(ben).values()) == {"on demand"}
        assert files_in(there) == {}
        await select(ben, "[c].txt")
        await until(lambda: files_in(there) == {"[c].txt": b"t"}, "a path is meant as it is")
        await select(ben, "*", remove=True)
        await until(lambda: len(files_in(there)) == 4, "all comes")
        assert await select(ben, larger_than=4_999, kinds=["films"]) == [
            ("on demand", ""),
            ("on demand", ""),
            ("pinned", "/\\[c\\].txt"),
        ]
        await until(lambda: files_in(there).keys() == {"b.JPG", "[c].txt"}, "large ones and films leave")
        await select(ben, larger_than=5_000, kinds=["pictures"])
        await until(
            lambda: files_in(there).keys() == {"a.mkv", "big.bin", "[c].txt"}, "as large is not larger"
        )
        for wrong in ({"kinds": ["songs"]}, {"on_demand": True}, {"remove": True}):
            assert isinstance(await failure(select(ben, **wrong)), UsageError), wrong
        for pattern in ("!a", "", "#x", "a\nb", "x" * 1_001):
            assert isinstance(await failure(select(ben, pattern)), UsageError), pattern
        assert isinstance(await failure(select(ben, "nothing", remove=True)), NotFound)
        assert isinstance(await failure(ben.folders.choosing("Projects").get(["nothing"])), NotFound)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_who_has_a_file_proves_it_and_who_changed_it_or_may_not_read_it_does_not(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, _ = await pair_with_film(cast, tmp_path)
        folder = bytes.fromhex(folder_of(anna))
        agreed = dict(engine_of(anna).book.agreed_of(["films/a.mkv", "b.txt"]))
        files = [(path, one.value.content) for path, one in sorted(agreed.items())]

        async def ask(node: Node, message: Have) -> Has | None:
            stream = await (await node.connect(anna.peer_id)).open_stream(PROTOCOL)
            await stream.send(message)
            return await stream.receive()

        answer = await ask(ben, Have(folder, [*files, ("none", bytes(32))]))
        assert answer == Has([files[0][1], files[1][1], b""])
        nonce = bytes(range(32))
        answer = await ask(ben, Have(folder, files, nonce))
        assert answer.proofs == [proof_of(here / path, nonce) for path, _ in files]
        (here / "b.txt").write_bytes(b"TEXT")
        answer = await ask(ben, Have(folder, files, nonce))
        assert answer.proofs[0] in (b"", proof_of(here / "b.txt", nonce))
        assert answer.proofs[1]
        many = Have(folder, [("a", bytes(32))] * (HAVE_MAX + 1))
        assert isinstance(await failure(ask(ben, many)), CoterieError)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
