"""What the page is made of: libraries as written down, no script inside a page, and no cost for who opens none."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import coterie
from coterie.web.templates import STATIC

SOURCE = Path(coterie.__file__).parent
VENDOR = STATIC / "vendor"
INSIDE = re.compile(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+\s*=|javascript:|hx-on", re.IGNORECASE)
ELSEWHERE = re.compile(r"""(?:src|href|action|url\()\s*=?\s*["']?(?:https?:)?//""", re.IGNORECASE)
TEMPLATES = sorted(SOURCE.rglob("templates/**/*.html"))


def test_libraries_are_what_is_written_down() -> None:
    rows = re.findall(
        r"^\| (\S+) \| \S+ \| \S+ \| .+ \| ([0-9a-f]{64}) \|$",
        (VENDOR / "VENDORED.md").read_text(),
        re.MULTILINE,
    )
    assert {name: digest for name, digest in rows} == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in VENDOR.iterdir()
        if file.name != "VENDORED.md"
    }
    assert len(rows) >= 8


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_template_has_a_script_or_a_style_inside(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert not INSIDE.search(text)
    assert not ELSEWHERE.search(text)


@pytest.mark.parametrize(
    "text", ["<p style='x'>", "<script>x</script>", "<a onclick=x>", "<style>", "<i hx-on:x=y>"]
)
def test_the_rule_sees_what_it_forbids(text: str) -> None:
    assert INSIDE.search(text)


def test_the_own_files_name_no_other_place() -> None:
    for file in STATIC.glob("*.[cj]s*"):
        assert not ELSEWHERE.search(file.read_text(encoding="utf-8")), file


def test_who_opens_no_page_does_not_load_it() -> None:
    code = (
        "import sys, coterie.cli.session, coterie.control.server, coterie.node\n"
        "print([m for m in sys.modules if m.startswith(('jinja2', 'coterie.web', 'websockets.s'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_of_the_page_is_part_of_the_package() -> None:
    """By the patterns of pyproject.toml, which say what an installed coterie has."""
    import tomllib

    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["coterie"]
    packed = {file for pattern in patterns for file in SOURCE.glob(pattern)}
    wanted = [file for file in (*STATIC.rglob("*"), *TEMPLATES) if file.is_file()]
    assert len(wanted) > 25
    assert not [file for file in wanted if file not in packed]
