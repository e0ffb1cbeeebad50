"""What a live folder leaves out, between nodes: not taken, not written over, and still there when its folder goes."""

from pathlib import Path

from coterie.apps.folders.app import APP
from coterie.apps.folders.ignore import PATTERNS_MAX
from coterie.errors import NotFound, UsageError
from coterie.testing import Cast, play, raised
from tests.apps.folders.test_folders import files_in, pair, until


def test_temporary_files_of_programs_stay_where_they_are(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, _, here, there = await pair(cast, tmp_path)
        (here / "sub").mkdir()
        (here / "sub" / "~$a.docx").write_text("lock")
        (here / "film.mkv.part").write_text("half")
        (here / "sub" / "a.docx").write_text("one")
        await until(lambda: files_in(there) == {"sub/a.docx": b"one"}, "the document alone")
        (there / "sub" / "a.docx").unlink()
        (there / "sub").rmdir()
        (there / "b.txt").write_text("later")
        await until(lambda: "sub/a.docx" not in files_in(here) and "b.txt" in files_in(here), "a deletion")
        assert files_in(here)["sub/~$a.docx"] == b"lock", "what is left out stays, with its folder"
        (here / "film.mkv.part").rename(here / "film.mkv")
        await until(lambda: files_in(there) == {"b.txt": b"later", "film.mkv": b"half"}, "it is whole")
        (here / "sub" / "~$a.docx").unlink()
        await until(lambda: not (here / "sub").exists(), "the folder goes with the last that was in it")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_patterns_for_everybody_travel_and_count_at_once(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        (here / "a.log").write_text("known to both")
        await until(lambda: "a.log" in files_in(there), "a file that is left out later")
        (here / ".coterieignore").write_text("*.log\nbuild/\n")
        await until(lambda: ".coterieignore" in files_in(there), "the patterns")
        (here / "a.log").write_text("changed here alone")
        (there / "build").mkdir()
        (there / "build" / "x.o").write_text("object")
        (there / "b.txt").write_text("taken")
        await until(lambda: "b.txt" in files_in(here), "what is not left out")
        (here / "c.txt").write_text("taken, too")
        await until(lambda: "c.txt" in files_in(there), "and the other way")
        assert not (here / "build").exists()
        assert files_in(there)["a.log"] == b"known to both"
        listed = await ben.folders.ignore("Projects", [], remove=False)
        assert [line.pattern for line in listed if line.of == "everybody"] == ["*.log", "build/"]
        (there / ".coterieignore").write_text("*.log\n")
        await until(lambda: "build/x.o" in files_in(here), "what is left out no longer")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_patterns_of_one_computer_hold_there_alone(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        listed = await ben.folders.ignore("Projects", ["*.iso"], remove=False)
        assert [line.pattern for line in listed if line.of == "here"] == ["*.iso"]
        (here / "big.iso").write_text("large")
        (there / "own.iso").write_text("mine")
        (here / "a.txt").write_text("one")
        await until(lambda: "a.txt" in files_in(there), "the rest")
        assert "big.iso" not in files_in(there)
        await cast.stop("ben")
        ben = await cast.node("ben")
        (here / "b.txt").write_text("two")
        await until(lambda: "b.txt" in files_in(there), "after a restart")
        assert "big.iso" not in files_in(there), "they are kept"
        assert "own.iso" not in files_in(here)
        with raised(NotFound, "no pattern"):
            await ben.folders.ignore("Projects", ["*.img"], remove=True)
        with raised(UsageError, "is no pattern"):
            await ben.folders.ignore("Projects", ["!"], remove=False)
        with raised(UsageError, "are the most"):
            await ben.folders.ignore("Projects", [f"p{n}" for n in range(PATTERNS_MAX)], remove=False)
        await ben.folders.ignore("Projects", ["*.iso"], remove=True)
        both = {"a.txt": b"one", "b.txt": b"two", "big.iso": b"large", "own.iso": b"mine"}
        await until(lambda: files_in(here) == both == files_in(there), "all")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
