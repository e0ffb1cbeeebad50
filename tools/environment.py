"""Make `.venv` and install coterie into it, every version as pinned in constraints.txt.

Runs under the bare interpreter: standard library only, and old Pythons get a sentence instead of a traceback.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys

PYTHON_MIN = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
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


def install(extra: str) -> None:
    """pip install -e . (with `extra`) under the constraints."""
    target = f".[{extra}]" if extra else "."
    python = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["-c", "constraints.txt", "-e", target]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
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
