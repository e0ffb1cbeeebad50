"""Run what is too long for the test suite at full size, and keep its figures under `docs/`.

proof.py            list the proofs
proof.py NAME...    run these, one after the other
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable

# Name: what it runs, and whether that writes a page of its own (else the page is what it printed)
PROOFS: dict[str, tuple[list[str], bool]] = {
    "mail": ([PYTHON, "-m", "tests.services.mail.processes"], False),
    "folders": ([PYTHON, "-m", "tests.apps.folders.proof"], False),
    "following": ([PYTHON, "-m", "bench.following", "--files", "20000", "--moved", "20000"], False),
    "office": ([PYTHON, "-m", "tests.lab", "office"], False),
    "nat-matrix": ([PYTHON, "-m", "tests.lab", "matrix"], True),
    "swarm-lab": ([PYTHON, "-m", "tests.lab", "swarm"], True),
    "scenarios": ([PYTHON, "-m", "tests.scenarios"], True),
    "disks": ([PYTHON, "-m", "tests.apps.disks.figures"], False),
    "internet": ([PYTHON, "-m", "tests.apps.internet.figures"], False),
    "drive": ([PYTHON, "-m", "tests.apps.drive.figures"], False),
    "exit": ([PYTHON, "-m", "tests.apps.internet.exit_figures"], False),
    "printers": ([PYTHON, "-m", "tests.apps.printers.test_office"], False),
    "bench": ([PYTHON, "bench/run.py"], False),
}


def run(name: str) -> int:
    """Run one proof in this namespace; its output goes to the screen and, where it succeeds, to its page."""
    words, has_page = PROOFS[name]
    said = []
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            said.append(line)
    if process.returncode == 0 and not has_page:
        page = ROOT / "docs" / "proof" / f"{name}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(_page(name, "".join(said)), encoding="utf-8")
        print(f"written to {page.relative_to(ROOT)}")
    return process.returncode


def _page(name: str, said: str) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}"
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    head = f"# {name}: figures\n\nWritten by `make proof ONLY={name}` on {day} ({machine})."
    return f"{head}\n\n```\n{said.rstrip()}\n```\n"


def main() -> int:
    """Read the command line; the exit status is 1 when a proof failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*PROOFS, []], metavar="NAME")
    names = parser.parse_args().names
    if not names:
        print("make proof ONLY=NAME, one of:", *PROOFS, sep="\n  ")
        return 0
    failed = [name for name in names if run(name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
