"""The one question of `share` and `invite` where nobody outside can reach this computer: use the public directory?"""

import sys
from collections.abc import Mapping
from typing import Any

from coterie.cli.options import Options
from coterie.cli.terminal import say
from coterie.home import Home

QUESTION = (
    "Let this computer also be found worldwide, in the public directory (docs/reach.md says who sees what)? "
    "[y] yes, [Enter] no: "
)


def is_offered(line: Mapping[str, Any], options: Options) -> bool:
    """Whether `line` of a command says that the level `internet` would add a way, and a person can be asked.

    Nobody is asked without a terminal, nor with --json or --quiet: the command has said what would help.
    """
    said = line.get("result", line)
    if not isinstance(said, Mapping) or not said.get("offers_internet"):
        return False
    return not options.json and not options.quiet and sys.stdin.isatty() and sys.stderr.isatty()


def offer_internet(options: Options) -> None:
    """Ask, and set the level on a yes. Waits for the person's answer."""
    say(QUESTION, end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return
    home = Home.locate(options.home)
    home.config().changed("reach", "internet").save(home.config_file)
    say("Set. It counts from the next start of the node (coterie down, then coterie up --background).")
