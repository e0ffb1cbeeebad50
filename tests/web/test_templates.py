"""What templates make of texts."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from coterie.web import home
from coterie.web.page import STATIC_KINDS
from coterie.web.panels import Panels
from coterie.web.templates import STATIC, Templates
from tests.support import run_virtual


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("try `coterie up` now", "<p>try <code>coterie up</code> now</p>"),
        ("`a <b>` & c", "<p><code>a &lt;b&gt;</code> &amp; c</p>"),
        ("a ` alone", "<p>a ` alone</p>"),
        ("`one` and ` alone", "<p><code>one</code> and ` alone</p>"),
    ],
)
def test_what_stands_between_backticks_is_code(said: str, shown: str) -> None:
    assert shown in asyncio.run(Templates({}).render("toast.html", said=said, error=False))


def rendered(compiled: Path) -> str:
    return asyncio.run(Templates({}, compiled=compiled).render("toast.html", said="hello", error=False))


def test_what_was_compiled_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    kept = tmp_path / "run" / "templates"
    first = rendered(kept)
    files = {path: path.read_bytes() for path in kept.iterdir()}
    assert files
    assert {os.stat(path).st_mode & 0o077 for path in (kept, *files)} == {0}
    assert rendered(kept) == first
    assert {path: path.read_bytes() for path in kept.iterdir()} == files


def test_what_cannot_be_kept_or_read_is_compiled_again(tmp_path: Path) -> None:
    kept = tmp_path / "templates"
    first = rendered(kept)
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:-20] + b"\xff")
    assert rendered(kept) == first
    (tmp_path / "file").write_text("no folder")
    assert rendered(tmp_path / "file") == first


def test_templates_are_compiled_before_somebody_asks(tmp_path: Path) -> None:
    """All that the page's own panel names, in order; one that does not compile keeps none of the others."""
    panels = Panels(SimpleNamespace(apps={}), [home.panel()])
    first, then = panels.templates("home"), panels.templates()
    assert {"home.html", "base.html", "home/person.html"} <= {*first} < {*then}
    kept, broken = tmp_path / "kept", tmp_path / "app"
    broken.mkdir()
    (broken / "broken.html").write_text("{% if %}")
    templates = Templates({"app": broken}, compiled=kept)
    run_virtual(templates.compile_ahead(["app/broken.html", *first], then))
    assert len([*kept.iterdir()]) == len({*then})


def test_every_file_of_the_page_has_a_kind() -> None:
    """Systems have tables of their own, and some take scripts for plain text."""
    endings = {file.suffix for file in STATIC.rglob("*") if file.is_file()}
    assert endings - {".LICENSE", ".md"} == {*STATIC_KINDS}
