"""Every test that docs/threat-model.md names exists: no claim without one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
ADVERSARIES = (
    "A stranger on the network",
    "A malicious peer",
    "A malicious member",
    "A removed member",
    "A stolen device",
    "A malicious relay",
    "A global observer",
)


def named() -> list[tuple[str, str]]:
    return NAMED.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_names_tests() -> None:
    assert len(named()) > 25


@pytest.mark.parametrize(("file", "test"), sorted(set(named())))
def test_a_named_test_exists(file: str, test: str) -> None:
    path = ROOT / file
    assert path.is_file()
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert test in names if test else any(name.startswith("test_") for name in names)


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_every_adversary_has_a_part(adversary: str) -> None:
    assert f"\n## {adversary}" in PAGE.read_text(encoding="utf-8")


def test_every_row_of_a_table_names_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    claims = [row for row in rows if not row.startswith(("|---", "| tries to"))]
    assert claims
    assert not [row for row in claims if not NAMED.search(row)]
