"""Resolve every runtime and development dependency in a fresh environment and write constraints.txt.

    pin.py           resolve anew
    pin.py --keep    the versions that stand there, with the hashes of all their files anew

Each package stands with the SHA-256 of every file that the package index offers of that version, so that one list holds
for all platforms. Which index that is, pip's own settings say.
"""

import argparse
import os
import subprocess
import sys
import tempfile

from environment import ROOT, SECTIONS, check_interpreter, read_pins

HEADER = "# Every runtime and development dependency, exactly. Written by tools/pin.py; do not edit.\n"
BUILD = "setuptools>=77"  # as in pyproject.toml

# Runs under the fresh environment's own pip, whose version comes with Python: pip has no command that lists the hashes.
_HASHES = """
import json, sys
from packaging_names import canonical
from pip._internal.commands import create_command
from pip._internal.index.collector import parse_links
from pip._internal.models.link import Link

command = create_command("install")
options, _ = command.parse_args([])
found = {}
with command.main_context():
    finder = command._build_package_finder(options, command.get_default_session(options))
    collector = finder._link_collector
    for pin in json.load(sys.stdin):
        name, _, version = pin.partition("==")
        hashes = set()
        for place in collector.search_scope.get_index_urls_locations(name):
            if not place.startswith("https:"):
                continue
            page = collector.fetch_response(Link(place))
            for link in parse_links(page) if page else []:
                if canonical(link.filename, name) == version and "sha256" in (link._hashes or {}):
                    hashes.add(link._hashes["sha256"])
        found[pin] = sorted(hashes)
print(json.dumps(found))
"""
_NAMES = '''
import re
from pip._vendor.packaging.utils import InvalidSdistFilename, InvalidWheelFilename
from pip._vendor.packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from pip._vendor.packaging.version import InvalidVersion

def canonical(filename, name):
    """The version in a file's name, as pip freeze writes it; empty when it is another package's or none."""
    try:
        parsed = parse_wheel_filename(filename) if filename.endswith(".whl") else parse_sdist_filename(filename)
    except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
        return ""
    return str(parsed[1]) if parsed[0] == canonicalize_name(name) else ""
'''


def resolved(python: str) -> dict[str, list[str]]:
    """`name==version` of what users need and of what developers need besides, in the fresh environment of `python`."""
    pins: dict[str, list[str]] = {}
    for section, wanted in zip(SECTIONS, ([BUILD, "-e", "."], ["-e", ".[dev]"]), strict=True):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], cwd=ROOT, check=True)
        command = [python, "-m", "pip", "freeze", "--all", "--exclude-editable", "--exclude", "pip"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        known = {pin for before in pins.values() for pin in before}
        pins[section] = sorted((pin for pin in listed if "==" in pin and pin not in known), key=str.lower)
    return pins


def hashed(python: str, pins: dict[str, list[str]], folder: str) -> dict[str, list[str]]:
    """The SHA-256 of every file of each pin."""
    import json

    with open(os.path.join(folder, "packaging_names.py"), "w", encoding="utf-8") as out:
        out.write(_NAMES)
    every = [pin for section in pins.values() for pin in section]
    done = subprocess.run(
        [python, "-c", _HASHES],
        input=json.dumps(every),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": folder},
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    if without := [pin for pin, hashes in found.items() if not hashes]:
        sys.exit(f"the package index offers no hashes of {', '.join(without)}")
    return found


def written(pins: dict[str, list[str]], hashes: dict[str, list[str]]) -> str:
    """The text of constraints.txt."""
    lines = [HEADER]
    for section, listed in pins.items():
        lines.append(f"\n# {section}\n")
        for pin in listed:
            lines.append(" \\\n    ".join([pin, *(f"--hash=sha256:{one}" for one in hashes[pin])]) + "\n")
    return "".join(lines)


def main() -> None:
    """Rewrite constraints.txt beside pyproject.toml."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the versions, renew the hashes")
    chosen = parser.parse_args()
    check_interpreter()
    path = os.path.join(ROOT, "constraints.txt")
    with tempfile.TemporaryDirectory(prefix="coterie-pin-") as folder:
        environment = os.path.join(folder, "venv")
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        python = os.path.join(environment, "bin", "python")
        if chosen.keep:
            pins = {section: [one.pin for one in listed] for section, listed in read_pins(path).items()}
        else:
            pins = resolved(python)
        text = written(pins, hashed(python, pins, folder))
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    print(f"constraints.txt: {sum(map(len, pins.values()))} packages pinned")


if __name__ == "__main__":
    main()
