"""What a folder had, by path and time."""

from coterie.apps.folders.folder_versions import at_time, below, past_files
from coterie.content.versions import Version


def version(key: str, path: str, at: float, why: str = "folder") -> Version:
    return Version(key, path.encode("utf-8", "surrogateescape"), at, 4_096, "file", why, "ben", 7)


KEPT = [
    version("1", "/home/a/f/x", 100.0),
    version("2", "/home/a/f/x", 200.0),
    version("3", "/home/a/f/deep/y", 150.0),
    version("4", "/home/a/folder/x", 100.0),
    version("5", "/home/a/f/x", 300.0, "download"),
    version("6", "/home/a/f/\udcff", 50.0),
]


def test_versions_of_one_folder_the_latest_first() -> None:
    files = past_files(KEPT, b"/home/a/f", "folder")
    assert [(one.id, one.local, one.until) for one in files] == [
        ("2", "x", 200.0),
        ("3", "deep/y", 150.0),
        ("1", "x", 100.0),
        ("6", "\udcff", 50.0),
    ]
    assert (files[0].size, files[0].ended_by, files[0].kind) == (7, "ben", "file")
    assert [one.id for one in below(files, "deep")] == ["3"]
    assert [one.id for one in below(files, "x")] == ["2", "1"]
    assert len(below(files, "")) == 4


def test_what_was_there_at_a_time_ended_first_after_it() -> None:
    files = past_files(KEPT, b"/home/a/f/", "folder")
    assert {local: one.id for local, one in at_time(files, 99.0).items()} == {"x": "1", "deep/y": "3"}
    assert {local: one.id for local, one in at_time(files, 100.0).items()} == {"x": "2", "deep/y": "3"}
    assert at_time(files, 200.0) == {}
