"""Programs of others that print and look for printers: each scene on a computer of its own (`computer.sh`)."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

NEEDED = (
    "ippeveprinter",
    "ipptool",
    "ippfind",
    "driverless",
    "avahi-browse",
    "avahi-daemon",
    "dbus-daemon",
    "unshare",
    "cupsd",
    "lp",
    "lpadmin",
    "gs",
)
PLACES = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
MISSING = [program for program in NEEDED if shutil.which(program, path=PLACES) is None]

pytestmark = pytest.mark.skipif(
    (bool(MISSING) and not os.environ.get("CI")) or os.geteuid() != 0,
    reason=f"needs root and {', '.join(MISSING) or 'nothing else'}",
)


def scene(name: str, folder: Path, **more: str) -> dict[str, Any]:
    """What was seen."""
    words = [
        str(Path(__file__).parent / "computer.sh"),
        sys.executable,
        "-m",
        "tests.apps.printers.scenes",
        name,
        str(folder),
    ]
    environment = os.environ | {"PATH": PLACES} | more
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_suites_of_ipptool_fail_no_more_than_against_the_printer_itself(tmp_path: Path) -> None:
    seen = scene("suites", tmp_path / "suites")
    direct, far = seen["direct"], seen["far"]
    assert not Counter(far["FAIL"]) - Counter(direct["FAIL"]), (tmp_path / "suites" / "far.txt").read_text()[
        -3000:
    ]
    assert len(far["PASS"]) >= 24
    assert len(direct["PASS"]) >= 24, "the comparison was one"
    missing = {
        name: {
            line.strip()
            for line in (tmp_path / "suites" / f"{name}.txt").read_text().splitlines()
            if "EXPECTED" in line
        }
        for name in ("direct", "far")
    }
    assert missing["far"] <= missing["direct"]


def test_a_printer_that_is_open_to_the_local_network_is_found(tmp_path: Path) -> None:
    seen = scene("lan", tmp_path / "lan")
    assert f":{seen['port']}/ipp/print" in seen["ippfind"]
    assert "office\\032laser;Internet Printer" in seen["avahi"]
    assert "_universal._sub._ipp._tcp" in seen["avahi"], "what phones look for"
    assert "URF=" in seen["avahi"]
    assert "driverless:ipp://office%20laser._ipp._tcp.local/" in seen["driverless"]
    assert seen["asked"], "the open port answers"


def test_every_program_prints_through_the_print_system_of_its_computer(tmp_path: Path) -> None:
    seen = scene("cups", tmp_path / "cups", CUPSD="1")
    assert [state for state, _, _ in seen["jobs"]] == ["printed", "printed"], seen["jobs"]
    assert seen["jpeg"], "its bytes are those of the file"
    assert seen["pages through cups"] == seen["pages without us"], (
        "CUPS scales pages to the paper, with and without us"
    )
    assert len(set(seen["pages through cups"])) == 2
    assert seen["cups-pdf"] == ["printed", ""]
    assert seen["pages of cups-pdf"] == seen["pages"]
