"""What is left out of live folders."""

from random import Random

import pytest
from pathspec import GitIgnoreSpec

from coterie.apps.folders.ignore import OF_PROGRAMS, PATTERN_CHARS_MAX, PATTERNS_MAX, Ignored, is_pattern


@pytest.mark.parametrize(
    "path",
    [
        "~$report.docx", "a/.~lock.report.ods#", "film.mkv.part", "x.crdownload", ".goutputstream-AB12", "a/4913",
        ".notes.txt.swp", ".DS_Store", "a/Thumbs.db", ".#notes.txt", ".git/HEAD", "a/.git", "data.sqlite-wal",
        "data.db-shm", "data.db-journal",
    ],
)  # fmt: skip
def test_what_programs_write_for_themselves_is_left_out(path: str) -> None:
    assert Ignored()(path, False)


@pytest.mark.parametrize(
    "path", ["report.docx", "a/part", "notes.txt", "a.git/HEAD", ".gitignore", "data.sqlite", "half-wal"]
)
def test_everything_else_is_taken(path: str) -> None:
    assert not Ignored()(path, False)


def test_patterns_of_all_and_of_here_hold_in_this_order() -> None:
    ignored = Ignored("*.log\nbuild/\n!keep.log\n", ["*.iso"])
    assert ignored("a/b.log", False)
    assert ignored("build", True)
    assert not ignored("build", False)
    assert not ignored("keep.log", False)
    assert ignored("film.iso", False)
    assert not Ignored("*.log", ["!b.log"])("b.log", False)


def test_lines_that_are_no_patterns_harm_nothing() -> None:
    assert not is_pattern("!")
    assert Ignored("!\n*.log\n")("a.log", False)
    assert not Ignored("x" * (PATTERN_CHARS_MAX + 1))("x" * (PATTERN_CHARS_MAX + 1), False)
    many = "\n".join(f"p{n}" for n in range(PATTERNS_MAX + 1))
    assert Ignored(many)(f"p{PATTERNS_MAX - 1}", False)
    assert not Ignored(many)(f"p{PATTERNS_MAX}", False)


def test_what_is_left_out_is_what_the_patterns_say_one_by_one() -> None:
    own = ["*.iso", "!keep.iso", "/build/", "foo/**/bar", "a?c", "# no pattern"]
    ignored, spec = Ignored("", own), GitIgnoreSpec.from_lines([*OF_PROGRAMS, *own])
    random = Random(1)
    parts = [
        "a",
        "abc",
        "x.iso",
        "keep.iso",
        "build",
        "foo",
        "bar",
        ".DS_Store",
        "q.part",
        "~$x",
        ".Trash-1",
        "a\nb",
    ]
    for _ in range(3_000):
        path, is_folder = "/".join(random.choices(parts, k=random.randint(1, 4))), random.random() < 0.5
        assert ignored(path, is_folder) == spec.match_file(f"{path}/" if is_folder else path), path
