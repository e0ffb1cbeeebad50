"""The files that docs/apps.md tells its reader to write."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "apps.md"
_FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_files(folder: Path) -> list[str]:
    """Write each file of the page into `folder`; their names."""
    found = _FILE.findall(PAGE.read_text(encoding="utf-8"))
    for name, content in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return [name for name, _ in found]


def commands() -> list[list[str]]:
    """The words of each `coterie` command that the page says to type, in their order."""
    parts = re.split(r"^[ ]*```(\w*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    blocks = [inside for language, inside in zip(parts[1::4], parts[2::4], strict=True) if not language]
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("coterie ")]


def install(project: Path, site: Path) -> None:
    """Install the package in `project` as pip does, into the folder `site`, without asking any other machine."""
    words = [
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--no-compile",
        "--target",
        str(site),
    ]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
