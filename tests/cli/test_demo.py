"""`coterie demo` in a pipe: what it does is told step by step, and the table is the result."""

import subprocess
import sys
from pathlib import Path

_DEMO = "import sys, pathlib; from coterie.cli.demo import run_demo as r; r(pathlib.Path(sys.argv[1]), large_bytes=9)"


def test_each_step_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    done = subprocess.run(
        [sys.executable, "-c", _DEMO, str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Identical, byte for byte."), done.stderr
    steps = [line for line in done.stderr.splitlines() if line.endswith(" ...")]
    assert steps == [
        "writing a file of 9 B ...",
        "starting the node of Anna ...",
        *(
            step
            for what in ("folder", "large file")
            for step in (
                f"Anna shares the {what} ...",
                f"Ben gets the {what} ...",
                f"comparing the {what}, byte for byte ...",
            )
        ),
    ]
