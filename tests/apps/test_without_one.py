"""Each app of ours deleted, its folder and its line of `pyproject.toml`: all others go on, the command line too.

Nothing is deleted: in a process of its own no module of the app can be found, and its entry point is not there.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from coterie.apps.app import App
from coterie.apps.invoke import load_commands
from coterie.cli.catalog import NODE_APP, NODE_COMMANDS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "coterie"
NAMES = sorted(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["coterie.apps"]
)

# Found by every Python that has its folder in PYTHONPATH.
DELETES = """
import importlib.metadata, os, sys
from importlib.abc import MetaPathFinder

class Deleted(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        gone = "coterie.apps." + (os.environ["DELETED_APP"] or "-")
        if name == gone or name.startswith(gone + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Deleted())
_all = importlib.metadata.entry_points

def entry_points(**selected):
    found = _all(**selected)
    left = [e for e in found if not (e.group == "coterie.apps" and e.name == os.environ["DELETED_APP"])]
    return importlib.metadata.EntryPoints(left)

importlib.metadata.entry_points = entry_points
"""

# In a process for each app, what is imported once for all: the modules of all other apps, then two nodes of them.
STORY = """
import importlib, json, os, pkgutil, sys, traceback
from pathlib import Path
import coterie.apps, libtorrent, starlette.applications, uvicorn
from coterie.testing import play

def check(deleted, gone, others, folder):
    os.environ["DELETED_APP"] = deleted
    folder.mkdir()
    for module in pkgutil.walk_packages(coterie.apps.__path__, "coterie.apps."):
        if module.name.split(".")[2] not in gone:
            importlib.import_module(module.name)

    async def story(cast):
        anna, ben = await cast.node("anna"), await cast.node("ben")
        states = {s.name: (s.state, s.reason) for s in ben.host.states()}
        ran = {name for name, (state, _) in states.items() if state == "running"}
        assert ran == others, states
        why = [reason for state, reason in states.values() if state != "running"]
        assert all(any(name in reason for name in gone) for reason in why), states
        if "contacts" in ran:
            await cast.befriend(anna, ben)
            assert ben.people.names().keys() == {"anna"}
        if "files" in ran:
            (folder / "note").write_text("hello")
            shared = await anna.files.share(folder / "note")
            await ben.files.get(shared.ticket, folder / "copy")
            assert (folder / "copy").read_text() == "hello"

    play(story, folder, in_real_time=True)

for deleted, gone, others in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        code = 1
        try:
            check(deleted, set(gone), set(others), Path(sys.argv[1], deleted))
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"without {deleted}: see above")
"""


@cache
def declared(name: str) -> App:
    app: App = import_module(f"coterie.apps.{name}.app").APP
    return app


def with_dependants(name: str) -> set[str]:
    """The app, and all that require it, directly or not."""
    found = {name}
    while more := {other for other in NAMES if set(declared(other).requires) & found} - found:
        found |= more
    return found


def python(folder: Path, deleted: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A Python in which the app `deleted` is not there."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(DELETES)
    environment = os.environ | {
        "PYTHONPATH": str(folder / "site"),
        "COTERIE_HOME": str(folder / "home"),
        "DELETED_APP": deleted,
        "COLUMNS": "100",
    }
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_others_are_imported_start_and_work(tmp_path: Path) -> None:
    cases = [(name, gone := sorted(with_dependants(name)), sorted(set(NAMES) - {*gone})) for name in NAMES]
    done = python(tmp_path, "", "-c", STORY, str(tmp_path), json.dumps(cases))
    assert done.returncode == 0, done.stderr


def words_of(names: set[str]) -> set[str]:
    """What commands of these apps begin with."""
    commands = [c for n in names for c in load_commands(n, declared(n).commands)]
    return {command.path[0] for command in commands}


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_has_its_commands_no_more_and_says_nothing_of_it(name: str, tmp_path: Path) -> None:
    done = python(tmp_path, name, "-m", "coterie", "--help")
    assert done.returncode == 0, done.stderr
    listed = {
        line.split()[0] for line in done.stdout.splitlines() if line[:2] == "  " and line[2:3].isalpha()
    }
    others = set(NAMES) - with_dependants(name)
    kept = words_of(others) | {c.path[0] for c in load_commands(NODE_APP, NODE_COMMANDS)}
    assert words_of(others) <= listed
    assert not listed & (words_of({name}) - kept - words_of(with_dependants(name) - {name}))
    assert "Traceback" not in done.stdout + done.stderr
    if with_dependants(name) == {name}:
        assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_readme_that_says_what_it_is_and_names_its_commands(name: str) -> None:
    folder = ROOT / "src" / "coterie" / "apps" / name
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {name}\n\n")
    assert any(f"coterie {word}" in text for word in words_of({name}))
    assert "docs/" in text
    assert "On disk: " in text
    named = re.findall(r"`((?:docs/)?[\w/]+\.(?:py|md))`|\b(docs/[\w/-]+\.md)", text)
    missing = [
        one or other
        for one, other in named
        if not any((at / (one or other)).exists() for at in (folder, ROOT, SOURCE))
    ]
    assert not missing
