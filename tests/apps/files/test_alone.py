"""Getting without a running node: what it loads, and that it leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.files.nodes import coterie, prepare_home, running_node

UNUSED = {  # each a tenth of what a short command takes, or more, in time or memory
    "coterie.control.server",
    "difflib",
    "html.entities",
    "libtorrent",
    "multiprocessing",
    "rich",
    "segno",
    "spake2",
    "starlette",
    "uvicorn",
    "websockets",
    "zeroconf",
}
OTHER_APPS = {
    f"coterie.apps.{app}.service"
    for app in ("drive", "expose", "folders", "internet", "phone", "play", "send")
}
AT_START = UNUSED - {"coterie.control.server", "starlette", "uvicorn", "zeroconf"}
_MODULES = "print(*sys.modules, file=sys.stderr)"
_GET = (
    "import sys; import coterie.cli.session as session; session.REST_AFTER_S = 60.0; "
    "import coterie.node as node; node.ALONE_S = 60.0; "  # however slow this machine is
    f"from coterie.cli import main; status = main(sys.argv[1:]); {_MODULES}; sys.exit(status)"
)
_UP = (
    "import asyncio, sys; from coterie.node import Node\n"
    "async def main():\n"
    f"    async with Node.open(sys.argv[1]): {_MODULES}\n"
    "asyncio.run(main())"
)


def _loaded(code: str, *words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_a_get_without_a_node_loads_what_it_uses_and_tells_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("small")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(tmp_path / "file"))["ticket"]
        home = prepare_home(tmp_path / "ben")
        loaded = _loaded(_GET, "--home", str(home), "--quiet", "get", ticket, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "small"
    assert not (UNUSED | OTHER_APPS) & loaded
    assert not (home / "run" / "api.json").exists()


def test_a_node_that_starts_loads_what_is_used_from_the_start(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "home")
    assert not AT_START & _loaded(_UP, str(home))


@pytest.mark.parametrize("place", ["get", "refresh"])
def test_whom_nobody_reaches_is_said_as_before(tmp_path: Path, place: str) -> None:
    """Others are looked for, too, when it lasts."""
    (tmp_path / "file").write_text("small")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(tmp_path / "file"))["ticket"]
        home = prepare_home(tmp_path / "ben")
        assert coterie(home, "get", ticket, str(tmp_path / "copy")).returncode == 0
    words = ["get", ticket, str(tmp_path / "again")] if place == "get" else ["refresh"]
    done = coterie(home, *words)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "did not answer" in said
    assert "Also asked: local network (" in said
