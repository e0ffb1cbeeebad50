"""Names in hostile torrents: nothing leads out of the target, nothing collides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.content.bittorrent.layout import DEPTH_MAX, FILES_MAX, Layout, TorrentFile, lay_out
from coterie.content.names import WINDOWS, NameRules
from coterie.errors import CoterieError, LimitExceeded, NotFound, PeerError


def files(*paths: str, size: int = 10) -> list[TorrentFile]:
    return [TorrentFile(number, tuple(path.split("/")), size) for number, path in enumerate(paths)]


def places(layout: Layout) -> list[str]:
    return ["/".join(layout.places[index]) for index in sorted(layout.places)]


def test_names_that_are_fine_stay() -> None:
    layout = lay_out(files("a", "b/c", "b/d/e.txt"), is_folder=True)
    assert places(layout) == ["a", "b/c", "b/d/e.txt"]
    assert (layout.wanted, layout.size, layout.renamed, layout.left_out) == ((0, 1, 2), 30, (), ())


@pytest.mark.parametrize(
    "path",
    [
        ("..", "x"),
        ("a", "..", "..", "x"),
        (".",),
        ("",),
        ("a", ""),
        ("/etc/passwd",),
        ("a/b",),
        ("a\0b",),
        ("x" * 256,),
        ("\udcff",),
    ],
)
def test_names_that_could_mean_something_else_are_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(PeerError):
        lay_out([TorrentFile(0, path, 1)], is_folder=True)


def test_names_that_are_one_here_get_numbers() -> None:
    layout = lay_out(files("A.txt", "a.txt", "a.TXT"), is_folder=True, rules=NameRules(folds_case=True))
    assert places(layout) == ["A.txt", "a (2).txt", "a (3).TXT"]
    assert len(layout.renamed) == 2
    assert lay_out(files("A.txt", "a.txt"), is_folder=True).renamed == ()


def test_the_same_name_twice_gives_two_files() -> None:
    assert places(lay_out(files("x", "x"), is_folder=True)) == ["x", "x (2)"]


def test_a_file_and_a_folder_of_one_name_are_told_apart() -> None:
    assert places(lay_out(files("a", "a/b", "a/c"), is_folder=True)) == ["a", "a (2)/b", "a (2)/c"]


def test_folders_that_are_one_here_stay_apart() -> None:
    assert places(lay_out(files("D/x", "d/x"), is_folder=True, rules=NameRules(folds_case=True))) == [
        "D/x",
        "d (2)/x",
    ]


def test_windows_names() -> None:
    assert places(lay_out(files("a:b", "con.txt"), is_folder=True, rules=WINDOWS)) == ["a%3Ab", "%63on.txt"]


def test_padding_is_nowhere_and_links_are_left_out() -> None:
    listed = [
        TorrentFile(0, ("a",), 5),
        TorrentFile(1, (".pad", "11"), 11, hidden=True),
        TorrentFile(2, ("link",), 0, is_link=True),
        TorrentFile(3, ("run",), 5, executable=True),
    ]
    layout = lay_out(listed, is_folder=True)
    assert places(layout) == ["a", "run"]
    assert (layout.size, layout.wanted, layout.executable) == (10, (0, 3), (3,))
    assert layout.left_out == (("link", "a symbolic link"),)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.ogg"], (0, 2)),
        (["disc 1"], (2, 3)),
        (["disc 1/*"], (2, 3)),
        (["notes.txt"], (1,)),
        (["notes.txt", "disc 1/b*"], (1, 3)),
    ],
)
def test_files_are_chosen_by_pattern(patterns: list[str], expected: tuple[int, ...]) -> None:
    listed = files("a.ogg", "notes.txt", "disc 1/a.ogg", "disc 1/b.flac")
    layout = lay_out(listed, is_folder=True, only=patterns)
    assert layout.wanted == expected
    assert layout.size == 10 * len(expected)
    assert len(layout.places) == 4  # also what is not wanted has a place: pieces overlap


def test_nothing_chosen_is_told() -> None:
    with pytest.raises(NotFound, match=r"\*\.mp3"):
        lay_out(files("a"), is_folder=True, only=["*.mp3"])


def test_a_torrent_of_one_file() -> None:
    layout = lay_out([TorrentFile(0, (), 5)], is_folder=False)
    assert layout.places == {0: ()}
    with pytest.raises(PeerError):
        lay_out(files("a", "b"), is_folder=False)


def test_an_empty_torrent_is_told() -> None:
    with pytest.raises(NotFound, match="empty"):
        lay_out([], is_folder=True)


def test_too_many_files_and_folders_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="at most"):
        lay_out(files(*["a"]) * (FILES_MAX + 1), is_folder=True)
    lay_out(files("/".join(["d"] * DEPTH_MAX)), is_folder=True)
    with pytest.raises(LimitExceeded, match=f"{DEPTH_MAX}"):
        lay_out(files("/".join(["d"] * (DEPTH_MAX + 1))), is_folder=True)


def test_a_size_below_zero_is_refused() -> None:
    with pytest.raises(PeerError):
        lay_out(files("a", size=-1), is_folder=True)


NAMES = st.text(alphabet=st.sampled_from("aAbÄä./\\\0: é"), max_size=4)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12), st.booleans())
def test_whatever_the_names_places_are_distinct_and_inside(paths: list[list[str]], folds: bool) -> None:
    listed = [TorrentFile(number, tuple(path), 1) for number, path in enumerate(paths)]
    try:
        layout = lay_out(listed, is_folder=True, rules=NameRules(folds_case=folds, folds_unicode=folds))
    except CoterieError:
        return
    found = places(layout)
    keys = [place.casefold() if folds else place for place in found]
    assert len(set(keys)) == len(listed)
    assert not [p for place in found for p in place.split("/") if p in ("", ".", "..")]
    inner = {"/".join(place[:depth]) for place in layout.places.values() for depth in range(1, len(place))}
    assert not inner & set(found)  # no file stands where a folder has to be


def test_names_of_our_own_are_left_out() -> None:
    layout = lay_out(files("a", ".coterie-partial-x/data/a", "b/.Coterie-Partial-y"), is_folder=True)
    assert layout.places == {0: ("a",)}
    assert [path for path, _ in layout.left_out] == [".coterie-partial-x/data/a", "b/.Coterie-Partial-y"]
