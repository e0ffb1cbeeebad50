"""One word for one thing in everything people read: docs/words.md says which, and this holds the texts to it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import coterie
from coterie.apps.command import Command, commands_of
from coterie.apps.invoke import load_commands
from coterie.cli.catalog import NODE_APP, NODE_COMMANDS, Catalog
from coterie.cli.program import BUILT_IN

ROOT = Path(__file__).parents[1]
SOURCE = Path(coterie.__file__).parent
APPS = sorted(path.parent.name for path in (SOURCE / "apps").glob("*/commands.py"))
COUNTED = ("count", "counted")  # functions that say a number of something
# Rooms whose errors are of protocols: people see them when another program speaks wrongly, and they name its parts.
PROTOCOLS = (
    "overlay",
    "wire",
    "net",
    "content/swarm",
    "content/bittorrent",
    "sim",
    "apps/overlay",
    "driver.py",
    "control/gate.py",
    "control/openapi.py",
)
_SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE) ")
_CODE = re.compile(r"`[^`]*`|coterie [a-z ]+|--[a-z-]+|\b[a-z]+/[a-z*]+|\{[^}]*\}")


def forbidden() -> list[tuple[re.Pattern[str], str]]:
    """The table of docs/words.md: what is not written, and the word for it."""
    rows = re.findall(
        r"^\| ([a-z, ]+) \| \*([a-z]+)\* \|$", (ROOT / "docs" / "words.md").read_text(), re.MULTILINE
    )
    assert rows
    return [
        (re.compile(rf"\b{word}s?\b", re.IGNORECASE), to) for words, to in rows for word in words.split(", ")
    ]


def wrong_in(text: str) -> list[str]:
    """The words in `text` that another word stands for; commands, options and fields are code."""
    bare = _CODE.sub(" ", text)
    return [f"{found[0]!r}: write {to!r}" for word, to in forbidden() if (found := word.search(bare))]


def declared() -> list[Command]:
    """Every command of ours."""
    found = [*load_commands(NODE_APP, NODE_COMMANDS)]
    for app in APPS:
        found += commands_of(app, importlib.import_module(f"coterie.apps.{app}.commands"))
    return found


@pytest.mark.parametrize("command", declared(), ids=lambda c: " ".join(c.path))
def test_commands(command: Command) -> None:
    texts = [command.summary, command.details, command.empty_text, command.interrupt_text, command.purpose]
    texts += [parameter.help for parameter in command.parameters]
    texts += [choice.label for choices in command.asks.values() for choice in choices]
    assert not [(text, wrong) for text in texts for wrong in wrong_in(text)]


def said_in(path: Path) -> Iterator[tuple[int, str]]:
    """What a module may say, with its lines: every text of two words or more, and nouns that are counted."""
    tree = ast.parse(path.read_text())
    notes = {
        id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)
    }  # docstrings, and those of attributes
    notes |= {
        id(n.value) for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg == "path"
    }  # of commands
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COUNTED:
            yield from ((node.lineno, a.value) for a in node.args if _is_text(a))  # type: ignore[attr-defined]
        elif _is_text(node) and id(node) not in notes and " " in node.value.strip():  # type: ignore[attr-defined]
            yield node.lineno, node.value  # type: ignore[attr-defined]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


MODULES = sorted(
    path.relative_to(SOURCE).as_posix()
    for path in SOURCE.rglob("*.py")
    if not path.relative_to(SOURCE).as_posix().startswith(PROTOCOLS)
)


@pytest.mark.parametrize("module", MODULES)
def test_errors_results_and_checks(module: str) -> None:
    texts = [(line, text) for line, text in said_in(SOURCE / module) if not _SQL.match(text)]
    wrong = [(line, text, said) for line, text in texts for said in wrong_in(text)]
    assert not wrong


PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("tutorial", "install", "getting-again", "exit-status", "circles", "reach")
    ),
    *(f"docs/{name}.md" for name in ("permissions", "bittorrent", "doctor", "disks", "expose", "send")),
)


@pytest.mark.parametrize("page", PAGES)
def test_pages(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not [(line, wrong) for line in text.splitlines() for wrong in wrong_in(line)]


def commands_named_in(text: str) -> Iterator[list[str]]:
    """The words of each command that `text` says to type."""
    for typed in re.findall(r"`coterie (?!local API)([^`]*)`", text):  # that begins what is signed
        yield typed.split()


def is_a_command(words: list[str], catalog: Catalog) -> bool:
    """Whether the program has it: a word, and one below it where there are only such."""
    first, *rest = [*words, ""]
    if first in BUILT_IN or not (first.isascii() and first.isalpha() and first.islower()):
        return True
    branch = catalog.find(first)
    if branch is None:
        return False
    second = rest[0]
    takes_one = branch.command is not None and any(p.positional for p in branch.command.parameters)
    is_word = second.isascii() and second.isalpha() and second.islower()
    return not is_word or takes_one or second in branch.children


PLACES = [*SOURCE.rglob("*.py"), ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("place", PLACES, ids=lambda p: p.name)
def test_commands_that_people_are_told_to_type_exist(place: Path) -> None:
    catalog = Catalog()
    text = re.sub(r'"\n\s*f?"', "", place.read_text())  # a text that goes on in the next line
    assert not [words for words in commands_named_in(text) if not is_a_command(words, catalog)]


def test_a_command_that_does_not_exist_is_found() -> None:
    catalog = Catalog()
    for typed, exists in {
        "config reach x": False,
        "config set x": True,
        "nonsense": False,
        "get x": True,
    }.items():
        assert is_a_command(typed.split(), catalog) is exists


def test_what_a_module_says_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(
        '"""a peer"""\nsaid = f"{n} peers see"\ncounted(2, "peer")\nkey = "peer"\n'
    )
    assert [text for _, text in said_in(tmp_path / "x.py")] == ["peer", " peers see"]


def test_a_wrong_word_is_found() -> None:
    assert wrong_in("the peer is gone") == ["'peer': write 'computer'"]
    assert not wrong_in("`coterie peers` lists computers")
