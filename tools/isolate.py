"""Run a command in a network namespace of its own: python tools/isolate.py COMMAND [ARGUMENT...]

Inside there is a loopback device and nothing else, so tests and benchmarks cannot reach any other machine.
Needs only the standard library and this source tree. COTERIE_NO_ISOLATION=1 runs it without a namespace.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from coterie.errors import CoterieError
from coterie.sim.isolation import enter_namespace


def main() -> None:
    """Enter the namespace and become the command."""
    command = sys.argv[1:]
    if not command:
        sys.exit(__doc__)
    try:
        isolated = enter_namespace()
    except CoterieError as error:
        sys.exit(f"isolate: {error}")
    if not isolated:
        print("isolate: running WITHOUT a network namespace of its own", file=sys.stderr)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"isolate: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
