"""Texts in the reader's language: templates, catalogues, who asks for which language."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as some

from coterie import texts
from coterie.errors import CoterieError, PeerError
from coterie.texts import LANGUAGES_MAX, TAG_CHARS_MAX, accept_language, speaking, tr, tr_count, translated

ROOT = Path(__file__).parent.parent
MANY = tuple(f"l{chr(97 + n)}" for n in range(LANGUAGES_MAX + 1))
LANGUAGE = "eo"  # one that coterie does not ship


def compiled(said: dict[str | tuple[str, str], str | tuple[str, ...]]) -> bytes:
    """A catalogue of `LANGUAGE` as gettext loads it."""
    catalog = Catalog(locale=LANGUAGE)
    for id_, string in said.items():
        catalog.add(id_, string)
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the catalogue of `LANGUAGE` is to be written before the first text is asked for."""
    monkeypatch.setattr(texts, "_FOLDER", tmp_path)
    texts._catalogue.cache_clear()
    path = tmp_path / LANGUAGE / "LC_MESSAGES" / "coterie.mo"
    path.parent.mkdir(parents=True)
    return path


def test_english_needs_no_catalogue() -> None:
    code = (
        "import sys; from coterie.texts import speak_as_environment, tr; speak_as_environment()\n"
        "print(tr('{a} of {b}', a=1, b='x'), 'gettext' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LANG": "C.UTF-8"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert found.stdout == "1 of x False\n", found.stderr


def test_values_keep_their_place_and_form(catalogue: Path) -> None:
    catalogue.write_bytes(compiled({"{name!r} has {size:,} bytes": "{size:,} bajtoj en {name!r}"}))
    with speaking(LANGUAGE):
        assert tr("{name!r} has {size:,} bytes", name="a", size=1234) == "1,234 bajtoj en 'a'"
        assert tr("not translated: {name}", name="a") == "not translated: a"
    assert tr("{name!r} has {size:,} bytes", name="a", size=1234) == "'a' has 1,234 bytes"


@pytest.mark.parametrize("wrong", ["{nam}", "{name", "{name.secret}", "{0}", "{name:d}", "{name[0][5]}"])
def test_a_translation_that_does_not_fit_leaves_the_english(catalogue: Path, wrong: str) -> None:
    catalogue.write_bytes(compiled({"gone: {name}": wrong}))
    with speaking(LANGUAGE):
        assert tr("gone: {name}", name="a") == "gone: a"


def test_plurals(catalogue: Path) -> None:
    catalogue.write_bytes(
        compiled({("{number} file", "{number} files"): ("{number} dosiero", "{number} dosieroj")})
    )
    with speaking(LANGUAGE):
        assert [tr_count("{number} file", "{number} files", n) for n in (1, 2)] == ["1 dosiero", "2 dosieroj"]
    assert [tr_count("{number} file", "{number} files", n) for n in (0, 1)] == ["0 files", "1 file"]


def test_what_a_command_declares_is_no_template(catalogue: Path) -> None:
    catalogue.write_bytes(compiled({"A {brace": "Krampo {"}))
    with speaking(LANGUAGE):
        assert translated("A {brace") == "Krampo {"
        assert translated("") == ""  # not the head of the catalogue


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", ("de_DE", "de")),
        ("en,de", ()),
        ("fr;q=0.1, pt-br", ("pt_BR", "fr")),
        ("", ()),
        ("../../etc,de", ("de",)),
        ("x" * (TAG_CHARS_MAX + 1) + ",de", ("de",)),
        ("de;q=much,fr", ("fr",)),
        (",".join(MANY), MANY[:LANGUAGES_MAX]),
    ],
)
def test_languages_that_a_client_accepts(accepted: str, wanted: tuple[str, ...]) -> None:
    with speaking(accepted):
        assert texts._spoken() == wanted
        assert accept_language() == ",".join((*(tag.replace("_", "-") for tag in wanted), "en"))


@given(some.text(max_size=200))
def test_no_header_breaks_a_call(accepted: str) -> None:
    with speaking(accepted):
        assert tr("x") == "x" or len(texts._spoken()) <= LANGUAGES_MAX


APP = """
from coterie.apps.command import command
from coterie.errors import NotFound
from coterie.texts import tr

class App: pass

@command("page", needs="store")
async def leaf(guests, page: str) -> str:
    \"\"\"Turn a page.

    page: Which one.
    \"\"\"
    raise NotFound(tr("no page {page}", page=page))
"""


def test_an_app_ships_its_own_language(tmp_path: Path) -> None:
    package, info = tmp_path / "guests", tmp_path / "guests-1.dist-info"
    for folder in (package / "locale" / LANGUAGE / "LC_MESSAGES", info):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "commands.py").write_text(APP)
    (package / "app.py").write_text(APP)
    (info / "METADATA").write_text("Name: guests\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[coterie.apps]\nguests = guests.app:APP\n")
    (package / "locale" / LANGUAGE / "LC_MESSAGES" / "guests.mo").write_bytes(
        compiled({"Turn a page.": "Turni paĝon.", "Which one.": "Kiun."})
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    found = subprocess.run(
        [sys.executable, "-m", "coterie", "leaf", "--help"],
        env={
            **os.environ,
            "LANGUAGE": "",
            "LC_ALL": f"{LANGUAGE}.UTF-8",
            "PYTHONPATH": paths,
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert "Turni paĝon." in found.stdout, found.stderr
    assert "Kiun." in found.stdout


def test_a_damaged_catalogue_of_an_app_leaves_the_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / LANGUAGE / "LC_MESSAGES" / "odd.mo"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xde\x12\x04\x95 no catalogue")
    monkeypatch.setattr(texts, "_of_apps", lambda: iter([("odd", tmp_path)]))
    texts._catalogue.cache_clear()
    with speaking(LANGUAGE):
        assert tr("x") == "x"
    texts._catalogue.cache_clear()


def catalogues() -> list[Path]:
    return sorted((ROOT / "src" / "coterie" / "locale").glob("*/LC_MESSAGES/coterie.po"))


def fields(template: str) -> set[tuple[str, str, str]]:
    return {
        (name, spec or "", how or "")
        for _, name, spec, how in Formatter().parse(template)
        if name is not None
    }


@pytest.mark.parametrize("po", catalogues(), ids=lambda po: po.parent.parent.name)
def test_our_translations_fit_their_templates_and_are_compiled(po: Path) -> None:
    said = read_po(BytesIO(po.read_bytes()), locale=po.parent.parent.name)
    out = BytesIO()
    write_mo(out, said)
    assert po.with_suffix(".mo").read_bytes() == out.getvalue(), "run `make texts`"
    wrong = [
        (template, string)
        for message in said
        if message.id
        for template, string in zip(as_tuple(message.id), as_tuple(message.string), strict=True)
        if string and "{" in template and fields(string) != fields(template)
    ]
    assert not wrong


def as_tuple(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def test_the_command_line_speaks_german(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "coterie", "--home", str(tmp_path / "home"), "get", "nothing-of-the-kind"],
        env={**os.environ, "LANGUAGE": "", "LC_ALL": "de_DE.UTF-8", "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert found.returncode == 2
    assert "ist" in found.stderr.split(), found.stderr


def of_people(name: str) -> bool:
    """Whether errors of this class are texts for people; what a peer did wrong is for logs."""
    known = {kind.__name__: kind for kind in every(CoterieError)}
    return name in known and not issubclass(known[name], PeerError)


def every(kind: type[CoterieError]) -> Iterator[type[CoterieError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every(child)


def has_words(text: ast.expr) -> bool:
    """Whether a text of the code says something, beside the values in it."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    said = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
    return any(re.search("[a-z]{2}.* |.* [a-z]{2}", part) for part in said)


def untranslated(tree: ast.Module) -> list[int]:
    """Lines where an error for people is made of a text that no catalogue can have."""
    return [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.args
        and of_people(call.func.id)
        if has_words(call.args[0])
    ]


def test_errors_for_people_are_templates() -> None:
    import coterie.node  # noqa: F401 - brings every class of errors

    package = ROOT / "src" / "coterie"
    found = [
        f"{path.relative_to(package)}:{line}"
        for path in package.rglob("*.py")
        if "sim" not in path.relative_to(package).parts
        for line in untranslated(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "tr(...) makes a template of each: " + ", ".join(found)


def test_a_text_that_is_no_template_is_noticed() -> None:
    assert untranslated(ast.parse('raise UsageError(f"no {x} here")')) == [1]
    assert untranslated(ast.parse('raise NotFound("nothing here")')) == [1]
    for fine in ('PeerError("a bad frame")', 'UsageError(tr("not so"))', 'ValueError("of the code")'):
        assert not untranslated(ast.parse(fine))
