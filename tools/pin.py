"""Resolve every runtime and development dependency in a fresh environment and write constraints.txt."""

import os
import re
import subprocess
import sys
import tempfile

from environment import ROOT, check_interpreter

HEADER = "# Every runtime and development dependency, exactly. Written by tools/pin.py; do not edit.\n"


def frozen() -> list[str]:
    """`name==version` of everything that `.[dev]` brings along, without coterie itself."""
    with tempfile.TemporaryDirectory(prefix="coterie-pin-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = os.path.join(folder, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", ".[dev]"], cwd=ROOT, check=True)
        command = [python, "-m", "pip", "freeze", "--exclude-editable"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pins = [line for line in listed.splitlines() if re.fullmatch(r"[A-Za-z0-9._-]+==\S+", line)]
    return sorted(pins, key=str.lower)


def main() -> None:
    """Rewrite constraints.txt beside pyproject.toml."""
    check_interpreter()
    pins = frozen()
    with open(os.path.join(ROOT, "constraints.txt"), "w", encoding="utf-8") as out:
        out.write(HEADER + "".join(f"{pin}\n" for pin in pins))
    print(f"constraints.txt: {len(pins)} packages pinned")


if __name__ == "__main__":
    main()
