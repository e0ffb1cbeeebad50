"""The one exit of everything that is printed or logged: no name of another's moves the cursor or begins a line."""

import copy
import json
import logging
import sys
from typing import Any, TextIO

from coterie.cli.layout import columns, wrapped
from coterie.errors import is_ordinary
from coterie.plain_text import escaped_json, lines, one_line


def put(text: str) -> None:
    """Results: a line, or lines of ours, to standard output."""
    _write(sys.stdout, lines(text) + "\n")


def put_json(value: Any) -> None:
    """A value as one line of JSON to standard output. It means what `value` is, whatever characters that has."""
    as_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    _write(sys.stdout, escaped_json(json.dumps(value, ensure_ascii=as_ascii)) + "\n")


def say(text: str, end: str = "\n") -> None:
    """Progress, questions and errors: a line, or lines of ours, to standard error; broken to fit a terminal."""
    text = lines(text)
    _write(sys.stderr, (wrapped(text, columns(sys.stderr)) if sys.stderr.isatty() else text) + end)


def say_error(text: str) -> None:
    """What went wrong, behind our name, to standard error; one line where that is no terminal."""
    say(f"coterie: {one_line(text)}")


class LogFormatter(logging.Formatter):
    """Each entry of a log begins with its time and level, and nothing inside an entry looks like another."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """With a traceback for faults of the program only: what happens to anybody is said in the line itself."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and is_ordinary(error):
            record = copy.copy(record)
            said = " ".join(str(error).split()) or type(error).__name__
            record.msg, record.args = f"{record.getMessage()}: {said}", ()
            record.exc_info = record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The first line."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The traceback, set off from the beginnings of entries."""
        return "\n".join(f"  {line}" for line in lines(super().formatException(ei)).split("\n"))


def _write(stream: TextIO, text: str) -> None:
    """Whatever the stream's encoding cannot say is escaped: output never fails for a character."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
