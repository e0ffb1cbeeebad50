"""A hundred installed apps that are not used cost `--version` and `status` nothing: none of them is imported.

`python -m tests.cli.test_unused_apps` in a namespace measures both beside none installed, with a node that runs.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.apps.files.nodes import running_node

APPS = 100
TELLS = """
import atexit, json, os, sys
atexit.register(lambda: open(os.environ["LOADED"], "w").write(json.dumps(sorted(sys.modules))))
"""
DECLARES = """
from coterie.apps.app import App
APP = App(name="{name}", summary="Nothing.", create="{name}.service:Service", commands="{name}.commands")
"""
COMMANDS = """
from coterie.apps.command import command

@command()
def {name}(service) -> None:
    \"\"\"Do nothing.\"\"\"
"""
SERVICE = """
class Service:
    def __init__(self, context): pass
    async def start(self): pass
    async def close(self): pass
"""


def install(site: Path, count: int) -> Path:
    """Put `count` small packages with an entry point into `site`, as pip does."""
    site.mkdir()
    for number in range(count):
        name = f"unused{number}"
        for made, text in {
            f"{name}/__init__.py": "",
            f"{name}/app.py": DECLARES.format(name=name),
            f"{name}/commands.py": COMMANDS.format(name=name),
            f"{name}/service.py": SERVICE,
            f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{name}-1.0.dist-info/entry_points.txt": f"[coterie.apps]\n{name} = {name}.app:APP\n",
        }.items():
            (site / made).parent.mkdir(exist_ok=True)
            (site / made).write_text(text)
    return site


def loaded_by(site: Path, home: Path, *words: str) -> set[str]:
    """The modules that a command line has imported when it ends."""
    (site / "sitecustomize.py").write_text(TELLS)
    told = home.parent / "loaded.json"
    environment = os.environ | {"PYTHONPATH": str(site), "COTERIE_HOME": str(home), "LOADED": str(told)}
    subprocess.run(
        [sys.executable, "-m", "coterie", *words],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return set(json.loads(told.read_text()))


@pytest.mark.parametrize("words", [["--version"], ["status"], ["--json", "status"]])
def test_no_module_of_an_unused_app_is_imported_and_none_is_looked_for(
    tmp_path: Path, words: list[str]
) -> None:
    loaded = loaded_by(install(tmp_path / "site", APPS), tmp_path / "home", *words)
    assert "coterie" in loaded
    assert not [name for name in loaded if name.startswith("unused")]
    assert not [name for name in loaded if name.startswith("coterie.apps.") and name.count(".") > 2]
    assert "importlib.metadata" not in loaded  # which reads all that is installed


def test_they_are_there_where_they_are_asked_for(tmp_path: Path) -> None:
    loaded = loaded_by(install(tmp_path / "site", 2), tmp_path / "home", "--help")
    assert {"unused0.commands", "unused1.commands"} <= loaded
    assert not {"unused0.service", "unused1.service"} & loaded


def processor_s(site: Path, home: Path, *words: str) -> float:
    """Of one command line, all its threads."""
    environment = os.environ | {"PYTHONPATH": str(site), "COTERIE_HOME": str(home)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "coterie", *words],
        env=environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(runs: int = 15) -> None:
    """Print what each takes without, and with, a hundred unused apps: in turns, the median of `runs`."""
    with tempfile.TemporaryDirectory() as made, running_node(Path(made, "home")) as node:
        sites = [install(Path(made, "none"), 0), install(Path(made, "many"), APPS)]
        for words in (["--version"], ["status"]):
            took: list[list[float]] = [[], []]
            for _ in range(runs):
                for site, times in zip(sites, took, strict=True):
                    times.append(processor_s(site, node.home, *words))
            without, with_many = (1000 * statistics.median(times) for times in took)
            sys.stdout.write(
                f"coterie {words[0]}: {without:.0f} ms of processor, with {APPS} unused apps {with_many:.0f} ms\n"
            )


if __name__ == "__main__":
    measure()
