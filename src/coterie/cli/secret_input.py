"""Tickets, codes and words given as `-`: read from standard input, so that they stand in no list of processes."""

import sys
from collections.abc import Sequence

from coterie.cli.terminal import say
from coterie.errors import UsageError
from coterie.texts import tr

FROM_INPUT = "-"
INPUT_CHARS_MAX = 64 * 1024  # more than any ticket, grant or magnet link has


def read_secrets(names: Sequence[str]) -> list[str]:
    """What standard input says for each of `names`: all of it for one, a line each for several.

    Raises:
        UsageError: nothing is there, or too much.
    """
    return [_ask(name) if _is_terminal() else _read(name, all_of_it=len(names) == 1) for name in names]


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(name: str) -> str:
    say(f"{_shown(name)}: ", end="")
    return _checked(name, sys.stdin.readline(INPUT_CHARS_MAX + 1))


def _read(name: str, *, all_of_it: bool) -> str:
    if sys.stdin is None:
        raise UsageError(
            tr("{shown} is to be read from standard input, and that is closed", shown=_shown(name))
        )
    try:
        read = sys.stdin.read if all_of_it else sys.stdin.readline
        return _checked(name, read(INPUT_CHARS_MAX + 1))
    except UnicodeDecodeError:
        raise UsageError(tr("what standard input says for {shown} is no text", shown=_shown(name))) from None


def _checked(name: str, text: str) -> str:
    if len(text) > INPUT_CHARS_MAX:
        raise UsageError(
            tr(
                "standard input says more for {shown} than {input_chars_max} characters",
                shown=_shown(name),
                input_chars_max=INPUT_CHARS_MAX,
            )
        )
    if not text.strip():
        raise UsageError(tr("standard input says nothing for {shown}", shown=_shown(name)))
    return text.strip()


def _shown(name: str) -> str:
    return name.replace("_", " ").upper()
