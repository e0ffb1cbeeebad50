"""Bring the translations, each `coterie.po` under `locale` and what is compiled of it, up to date with the code.

    texts.py             all languages there are
    texts.py --new de    begin one

A text is what stands in `tr(...)` and `tr_count(...)`, and what commands declare of themselves (docstrings, parameters,
what is said when there is nothing). Translators edit the .po file with any gettext editor and run this again.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import jinja2
from babel.messages.catalog import Catalog as Texts
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from coterie.apps.command import Command
from coterie.cli.catalog import Branch, Catalog
from coterie.cli.program import FIRST
from coterie.quantity import counted

OF_CLICK = ("Usage:", "Options", "Arguments", "Show this message and exit.", "required", "default: {default}")
SHOWN = ("Panel", "View", "Card", "Answer")  # of panels, whose titles and labels people read
PACKAGE = Path(__file__).parent.parent / "src" / "coterie"


def in_the_code() -> Texts:
    """Every text that people read, untranslated."""
    texts = Texts(project="coterie", fuzzy=False)
    for module in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                for text in _of_call(call, call.func.id):
                    texts.add(text)
    for text in _of_templates():
        texts.add(text)
    catalog = Catalog()
    for word in catalog.words():
        for command in _commands(catalog.find(word)):
            texts_of = (
                command.title,
                command.summary,
                command.details,
                command.purpose,
                command.empty_text,
                command.interrupt_text,
            )
            for said in (*texts_of, *(parameter.help for parameter in command.parameters)):
                if said:
                    texts.add(said)
            for choice in (choice for choices in command.asks.values() for choice in choices):
                texts.add(choice.label)
            for parameter in command.parameters:
                texts.add(
                    parameter.name.rstrip("_").replace("_", " ")
                )  # the label of its control on the page
    for said in (*OF_CLICK, *(what for _usage, what in FIRST)):
        texts.add(said)
    return texts


def _of_call(call: ast.Call, function: str) -> Iterator[str | tuple[str, str]]:
    """What a call in the code says to people."""
    said = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    match function, said:
        case ("tr", [text]) | ("translated", [text]):
            yield text
        case "tr_count", [one, many]:
            yield one, many
        case "count", [noun]:
            yield counted(noun)
        case "ResourceKind", _:
            yield from (
                str(named.value.value)
                for named in call.keywords
                if named.arg == "called" and isinstance(named.value, ast.Constant)
            )


def _of_templates() -> Iterator[str | tuple[str, str]]:
    """What stands in `tr(...)` and `tr_count(...)` of templates, and the titles of what panels show."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    for file in sorted(PACKAGE.rglob("templates/**/*.html")):
        for call in environment.parse(file.read_text(encoding="utf-8")).find_all(jinja2.nodes.Call):
            said = [
                a.value for a in call.args if isinstance(a, jinja2.nodes.Const) and isinstance(a.value, str)
            ]
            match getattr(call.node, "name", ""), said:
                case ("tr", [text]) | ("translated", [text]):
                    yield text
                case "tr_count", [one, many]:
                    yield one, many
    for module in (*PACKAGE.glob("apps/*/panel.py"), *PACKAGE.glob("web/*.py")):
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in SHOWN:
                for keyword in call.keywords:
                    yield from _of_panel(keyword)


def _of_panel(keyword: ast.keyword) -> Iterator[str]:
    """What people read of one argument of a declaration: a title, the label of a button, words of values."""
    match keyword:
        case ast.keyword(arg="title" | "label", value=ast.Constant(value=str(said))):
            yield said
        case ast.keyword(arg="action", value=ast.Tuple(elts=[ast.Constant(value=str(said)), *_])):
            yield said
        case ast.keyword(arg="words", value=ast.Tuple(elts=words)):
            yield from (str(word.value) for word in words if isinstance(word, ast.Constant))


def _commands(branch: Branch | None) -> Iterator[Command]:
    if branch is None:
        return
    if branch.command is not None:
        yield branch.command
    for child in branch.children.values():
        yield from _commands(child)


def brought_up_to_date(po: bytes, language: str, code: Texts) -> tuple[bytes, bytes]:
    """`po` with exactly the texts of `code`, and it compiled: what was translated stays, what is gone goes."""
    texts = read_po(BytesIO(po), locale=language, domain="coterie")
    texts.project, texts.version = "coterie", ""
    texts.header_comment = (
        f"# coterie in the language {language}; `make texts` keeps it up to date with the code."
    )
    texts.last_translator = texts.language_team = texts.msgid_bugs_address = "coterie"
    texts.update(code, no_fuzzy_matching=True)
    texts.fuzzy = False
    texts.revision_date = texts.creation_date = datetime.fromtimestamp(
        0, UTC
    )  # the same texts give the same file
    out, compiled = BytesIO(), BytesIO()
    write_po(out, texts, width=100, sort_output=True, ignore_obsolete=True)
    write_mo(compiled, texts)
    return out.getvalue(), compiled.getvalue()


def main() -> int:
    """Read the command line, write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", help="a language to begin, like de or pt_BR")
    given = parser.parse_args()
    folder = PACKAGE / "locale"
    if given.new:
        begun = folder / given.new / "LC_MESSAGES" / "coterie.po"
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.touch()
    code = in_the_code()
    for file in sorted(folder.glob("*/LC_MESSAGES/coterie.po")):
        po, mo = brought_up_to_date(file.read_bytes(), file.parent.parent.name, code)
        file.write_bytes(po)
        file.with_suffix(".mo").write_bytes(mo)
        texts = read_po(BytesIO(po))
        done = sum(1 for text in texts if text.id and text.string and any(text.string))
        print(f"{file.relative_to(PACKAGE)}: {done} of {len(texts)} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
