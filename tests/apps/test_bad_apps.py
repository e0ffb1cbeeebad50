"""A node with third-party apps that fail in every way: it serves files all the while, and says which app and why."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.files.nodes import RunningNode, coterie, running_node

_APP = """
from coterie.apps.app import App
from {name}.service import Service
APP = App(name="{calls_itself}", summary="", create=Service, commands="{name}.commands", requires={requires})
"""
_SERVICE = """
import asyncio

class Service:
    def __init__(self, context, *required):
        self.context = context

    async def start(self):
        {start}

    async def close(self):
        pass

    async def die(self):
        await asyncio.sleep(0)
        raise RuntimeError("no more pages")
"""
_COMMANDS = """
from coterie.apps.command import command

@command(path="{name}-spin")
async def spin(service) -> str:
    \"\"\"Never come back.\"\"\"
    while True:
        pass
"""
_STARTS = {
    "good": "pass",
    "raises": "raise OSError('its disk is gone')",
    "dies": "self.context.jobs.start(self.die(), 'reading')",
    "hangs": "await asyncio.Event().wait()",
    "loops": "pass",
    "alias": "pass",
    "needy": "pass",
}


def write_apps(site: Path, leave_out: str = "") -> None:
    """Packages and an installation record, as pip would leave them."""
    (site / "bad_apps-1.0.dist-info").mkdir(parents=True)
    (site / "bad_apps-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bad_apps\nVersion: 1.0\n"
    )
    entries = ["broken = no_such_module.app:APP"]
    for name, start in _STARTS.items():
        if name == leave_out:
            continue
        (site / name).mkdir()
        (site / name / "__init__.py").touch()
        calls_itself = "somebody" if name == "alias" else name
        requires = ("raises",) if name == "needy" else ()
        (site / name / "app.py").write_text(
            _APP.format(name=name, calls_itself=calls_itself, requires=requires)
        )
        (site / name / "service.py").write_text(_SERVICE.format(start=start))
        (site / name / "commands.py").write_text(_COMMANDS.format(name=name))
        entries.append(f"{name} = {name}.app:APP")
    (site / "bad_apps-1.0.dist-info" / "entry_points.txt").write_text(
        "[coterie.apps]\n" + "\n".join(entries) + "\n"
    )


@pytest.fixture(scope="module")
def among_bad_apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Path]]:
    folder = tmp_path_factory.mktemp("apps")
    write_apps(folder / "site")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(folder / "site"))
            anna = stack.enter_context(running_node(folder / "anna"))
        yield anna, folder


def with_site(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


def troubles(node: RunningNode) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in node.call("status")["app_troubles"])


@pytest.mark.slow
def test_each_is_named_with_its_reason_and_files_are_served(among_bad_apps: tuple[RunningNode, Path]) -> None:
    anna, folder = among_bad_apps
    said = troubles(anna)
    assert (
        said["broken"]
        == "failed (it cannot be loaded: ModuleNotFoundError: No module named 'no_such_module')"
    )
    assert said["raises"] == "failed (it failed while starting: OSError: its disk is gone)"
    assert said["hangs"] == "failed (it did not start within 10 s)"
    assert said["needy"] == "left out (it needs 'raises', which does not run)"
    assert "calls itself 'somebody'" in said["alias"]
    assert said["dies"].startswith("troubled ('dies: reading' failed: RuntimeError: no more pages")
    assert not {"good", "loops", "files"} & set(said)
    (folder / "a.txt").write_text("hello")
    ticket = anna.call("share", str(folder / "a.txt"))["ticket"]
    with running_node(folder / "ben") as ben:
        ben.call("get", ticket, str(folder / "got"))
        spinning = coterie(anna.home, "loops-spin", env=with_site(folder))
        assert spinning.returncode == 1
        assert "Traceback" not in spinning.stderr
        ben.call("get", ticket, str(folder / "got-again"))
    assert (folder / "got-again").read_text() == "hello"
    assert "kept the node busy and was interrupted, in loops.commands.spin, line" in troubles(anna)["loops"]
    found = coterie(anna.home, "--json", "doctor")
    checks = [json.loads(line) for line in found.stdout.splitlines() if '"apps"' in line]
    assert "its disk is gone" in json.dumps(checks)
    for word in ("raises-spin", "hangs-spin"):
        refused = coterie(anna.home, word, env=with_site(folder))
        assert refused.returncode == 1
        assert "does not run: it " in refused.stderr


@pytest.mark.slow
def test_commands_without_a_running_node_work_too(tmp_path: Path) -> None:
    write_apps(tmp_path / "site", leave_out="hangs")
    done = coterie(tmp_path / "home", "--json", "shares", env=with_site(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
