"""Names from other computers: refused where they could mean a path, changed where they cannot exist here."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from coterie.content import names as n
from coterie.errors import PeerError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda x: not n.name_fault(x)
)


ALIASES = n.NameRules(aliases=True)
SHORT = n.NameRules(bytes_max=12)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "a/b", "/etc/passwd", "../x", "a\0b", "x" * 256, "é" * 128, "\ud800", "a\udcff"],
)
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(PeerError):
        n.check_name(name)


@pytest.mark.parametrize(
    "name", ["a", "...", ". ", "con", "a\\b", "C:", "x" * 255, "é" * 127 + "x", "\n", "~", "-rf", "🎉" * 63]
)
def test_unusual_names_are_names(name: str) -> None:
    n.check_name(name)
    assert n.local_names([name]) == [name]


@pytest.mark.parametrize(
    ("names", "options", "local"),
    [
        (["A", "a"], n.ANY_NAME, ["A", "a"]),
        (["A", "a"], n.NameRules(folds_case=True), ["A", "a (2)"]),
        (["A.txt", "a.TXT", "a.txt"], n.NameRules(folds_case=True), ["A.txt", "a (2).TXT", "a (3).txt"]),
        (["A", "a", "a (2)"], n.NameRules(folds_case=True), ["A", "a (3)", "a (2)"]),
        (["é", "e\u0301"], n.ANY_NAME, ["é", "e\u0301"]),
        (["é", "e\u0301"], n.NameRules(folds_case=True), ["é", "e\u0301"]),
        (["e\u0301.c", "é.c"], n.NameRules(folds_unicode=True), ["e\u0301.c", "é (2).c"]),
        (["É", "e\u0301"], n.NameRules(folds_unicode=True, folds_case=True), ["É", "e\u0301 (2)"]),
        (["straße", "STRASSE"], n.NameRules(folds_case=True), ["straße", "STRASSE (2)"]),
        ([".a", ".A"], n.NameRules(folds_case=True), [".a", ".A (2)"]),
        (["a:b"], n.WINDOWS, ["a%3Ab"]),
        (['<>"|?*\\'], n.WINDOWS, ["%3C%3E%22%7C%3F%2A%5C"]),
        (["a\tb"], n.WINDOWS, ["a%09b"]),
        (
            ["con", "CON.txt", "com1", "lpt9.a.b", "console"],
            n.WINDOWS,
            ["%63on", "%43ON.txt", "%63om1", "%6Cpt9.a.b", "console"],
        ),
        (["a.", "b ", "..."], n.WINDOWS, ["a%2E", "b%20", "..%2E"]),
        (
            ["progress report.txt", "progre~1.txt", "~"],
            ALIASES,
            ["progress report.txt", "progre%7E1.txt", "~"],
        ),
        (["a" * 12, "a" * 13, "a" * 10 + ".txt"], SHORT, ["a" * 12, "a" * 8 + " (2)", "a" * 8 + ".txt"]),
        (["a:", "a%3A"], n.WINDOWS, ["a%3A", "a%3A (2)"]),
    ],
)
def test_local_names(names: list[str], options: n.NameRules, local: list[str]) -> None:
    assert n.local_names(names, options) == local


def test_a_number_fits_into_255_bytes() -> None:
    for name in ("x" * 255, "é" * 127, "x" * 250 + ".txt", "🎉" * 62 + ".tar"):
        local = n.local_names([name.upper(), name.lower()], n.NameRules(folds_case=True))
        assert len(set(local)) == len(local)
        assert all(n.name_fault(one) is None for one in local)


def test_windows_escapes_fit_into_255_bytes() -> None:
    (local,) = n.local_names([":" * 251 + ".txt"], n.WINDOWS)
    assert local.endswith(".txt")
    assert n.name_fault(local) is None


def test_the_suffix_stays_at_the_end() -> None:
    assert n.numbered("a.tar.gz", 2) == "a.tar (2).gz"
    assert n.numbered("no suffix. really", 2) == "no suffix. really (2)"


@given(st.lists(NAMES, max_size=12, unique=True), st.booleans(), st.booleans(), st.booleans())
def test_local_names_are_distinct_possible_and_the_same_every_time(
    names: list[str], case: bool, form: bool, windows: bool
) -> None:
    local = n.local_names(
        names, structs.replace(n.WINDOWS if windows else n.ANY_NAME, folds_case=case, folds_unicode=form)
    )
    assert len(local) == len(names)
    again = n.local_names(local, n.NameRules(folds_case=case, folds_unicode=form))
    assert again == local  # nothing collides any more
    assert all(n.name_fault(one) is None for one in local)
    if windows:
        assert not any(set(one) & set('<>:"|?*\\') or one[-1] in ". " for one in local)


def test_a_thousand_names_that_are_one_here_take_no_time() -> None:
    names = [
        "".join(c.upper() if index >> bit & 1 else c for bit, c in enumerate("abcdefghijkl"))
        for index in range(4096)
    ]
    assert len(set(n.local_names(names, n.NameRules(folds_case=True)))) == 4096


@pytest.mark.parametrize(
    ("target", "depth", "allowed"),
    [
        ("a", 0, True), ("a/b", 0, True), ("./a", 0, True), ("a/", 0, True), (".", 0, True), ("..", 1, True),
        ("../a", 1, True), ("./../a", 1, True), ("../../a", 2, True), ("..a", 0, True),
        ("..", 0, False), ("../a", 0, False), ("../../a", 1, False), ("a/..", 3, False), ("a/../b", 3, False),
        ("../a/../b", 3, False), ("/a", 5, False), ("//a", 5, False), ("", 5, False), ("a\0", 5, False),
        ("x" * 4096, 0, False), ("a\udcff", 0, False), (".//..", 0, False),
    ],
)  # fmt: skip
def test_which_links_are_allowed(target: str, depth: int, allowed: bool) -> None:
    assert n.symlink_allowed(target, depth) is allowed


def test_links_on_windows() -> None:
    assert not n.symlink_allowed("a\\b", 1, windows=True)
    assert not n.symlink_allowed("C:a", 1, windows=True)
    assert n.symlink_allowed("a\\b", 1)


PARTS = st.sampled_from(["a", "b", "c", "..", "."])
FOLDERS = [(), ("a",), ("b",), ("a", "b"), ("a", "b", "c")]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(FOLDERS), st.sampled_from(["l", "m", "c"])),
        st.lists(st.sampled_from(["a", "b", "c", "l", "m", "..", "."]), min_size=1, max_size=5),
        max_size=8,
    )
)
def test_no_chain_of_allowed_links_leaves_the_tree(
    tmp_path_factory: pytest.TempPathFactory, links: dict[tuple[tuple[str, ...], str], list[str]]
) -> None:
    root = Path(os.path.realpath(tmp_path_factory.mktemp("tree"))) / "x" / "root"
    for folder in FOLDERS:
        root.joinpath(*folder).mkdir(parents=True, exist_ok=True)
    made = []
    for (folder, name), parts in links.items():
        at = root.joinpath(*folder, name)
        if n.symlink_allowed("/".join(parts), len(folder)) and not os.path.lexists(at):
            at.symlink_to("/".join(parts))
            made.append(at)
    for link in made:
        end = os.path.realpath(link)  # what the system would open
        assert end == str(root) or end.startswith(f"{root}/"), (link, os.readlink(link), end)
