"""Make `.venv` and install coterie into it, every file as pinned in constraints.txt, by version and hash.

Runs under the bare interpreter: standard library only, and old Pythons get a sentence instead of a traceback.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

PYTHON_MIN = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECTIONS = ("What coterie needs, and to build it", "What its developers need besides")  # of constraints.txt
VENV = os.path.join(ROOT, ".venv")


def check_interpreter() -> None:
    """Stop with a sentence when this Python cannot make the environment."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        sys.exit(
            f"coterie needs Python 3.11 or newer; {sys.executable} is {found}. "
            "Try: make PYTHON=python3.11 TARGET"
        )
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: its venv or ensurepip module is missing. "
            "On Debian and Ubuntu: apt-get install python3-venv"
        )


class Pin:
    """One package of constraints.txt: `pin` is "name==version", `text` that with the hashes of its files."""

    def __init__(self, pin: str, text: str) -> None:
        self.pin = pin
        self.text = text


def read_pins(path: str) -> "dict[str, list[Pin]]":
    """The packages in constraints.txt by section, in the order of `SECTIONS`.

    Stops with a sentence when one stands there without a hash.
    """
    sections: dict[str, list[Pin]] = {section: [] for section in SECTIONS}
    here = SECTIONS[0]
    with open(path, encoding="utf-8") as file:
        entries = file.read().replace("\\\n", " ").splitlines()
    for entry in entries:
        if entry.startswith("#"):
            here = entry.strip("# ") if entry.strip("# ") in sections else here
        elif entry.strip():
            pin, *hashes = entry.split()
            if "==" not in pin or not hashes or not all(one.startswith("--hash=sha256:") for one in hashes):
                sys.exit(f"{path}: {pin} has no version or no hash; make pin writes both")
            sections[here].append(Pin(pin, " ".join([pin, *hashes])))
    return sections


def install_pinned(python: str, pins: "list[Pin]", *options: str) -> int:
    """pip install exactly `pins`, each file checked against its hashes, and nothing besides. Returns pip's status."""
    with tempfile.TemporaryDirectory(prefix="coterie-pins-") as folder:
        listed = os.path.join(folder, "pins.txt")
        with open(listed, "w", encoding="utf-8") as out:
            out.write("".join(one.text + "\n" for one in pins))
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "-r", listed, *options]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


def install(extra: str) -> None:
    """What users need, with `extra` what developers need besides, and coterie itself from this folder."""
    python = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
    sections = read_pins(os.path.join(ROOT, "constraints.txt"))
    wanted = [one for section in SECTIONS[: 2 if extra else 1] for one in sections[section]]
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "-e", "."]  # built with the setuptools of the list
    if install_pinned(python, wanted) or subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(
            "installing the dependencies failed: pip's own words stand above. Is a package index reachable?"
        )


def main() -> None:
    """Command line: --fresh makes the environment anew, --extra adds one of pyproject's extras."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="remove and make .venv anew")
    parser.add_argument("--extra", default="", help="an optional dependency group of pyproject.toml")
    chosen = parser.parse_args()
    check_interpreter()
    if chosen.fresh:
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    install(chosen.extra)


if __name__ == "__main__":
    main()
