"""What a command says, printed: JSON, plain lines, tables, and progress as a bar or as lines.

Results go to standard output, progress to standard error, so a pipe gets results only.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from coterie.cli.layout import columns, in_words, pairs, wrapped
from coterie.cli.options import Options
from coterie.cli.terminal import put, put_json, say
from coterie.plain_text import one_line
from coterie.quantity import duration, say_bytes

LINE_EVERY_S = 1.0  # progress lines when standard error is no terminal: this often,
LINE_EVERY_SHARE = 0.1  # and whenever this share more is done
BAR_CHARS = 16
SAID_CHARS_MIN = (
    64  # guess: a note as long is a sentence; a shorter one is the name of a file, of which there are many
)
BESIDE_CHARS = 6  # blanks between columns, and what turns at the left


class Show:
    """Prints the events and the result of one call."""

    def __init__(
        self,
        options: Options,
        *,
        empty_text: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`empty_text` is said instead of an empty list."""
        self._options = options
        self._empty_text = empty_text
        self._progress: _Bar | _ProgressLines | None = None
        self._clock = clock
        self.is_incomplete = False  # whether something is missing from the result
        self.is_over = False  # whether nothing more comes of it

    def line(self, line: Mapping[str, Any]) -> None:
        """Print `{"event": kind, ...}` or `{"result": value}`, either with a "text" for people."""
        if "event" in line:
            self._event(line)
        else:
            self._result(line)

    def error(self, code: str, message: str) -> None:
        """With --json, the error as the last line."""
        self.close()
        if self._options.json:
            put_json({"error": {"code": code, "message": message}})

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _event(self, line: Mapping[str, Any]) -> None:
        if self._options.quiet and not line.get("live"):
            return
        if self._options.json:
            put_json({key: value for key, value in line.items() if key not in ("text", "live")})
        elif line.get("live"):
            self.close()
            put(wrapped(line["text"], columns()))
        elif line["event"] == "Progress":
            if self._progress is None:
                self._progress = _Bar() if sys.stderr.isatty() else _ProgressLines(self._clock)
            self._progress.update(line)
        else:
            self.close()
            fields = {key: value for key, value in line.items() if key not in ("event", "text")}
            say(wrapped(line.get("text") or pairs(fields), columns()))

    def _result(self, line: Mapping[str, Any]) -> None:
        self.close()
        self.is_incomplete, self.is_over = bool(line.get("incomplete")), bool(line.get("over"))
        value = line.get("result")
        if self._options.json:
            put_json(value)
        elif line.get("text") is not None:
            put(wrapped(line["text"], columns()))
        elif value not in (None, [], {}, ""):
            put(in_words(value, columns()))
        elif self._empty_text and not self._options.quiet:
            say(wrapped(self._empty_text, columns()))


class _ProgressLines:
    """Progress where there is no terminal: a line when the phase changes, then now and again, never the same twice."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = ""
        self._said = ""
        self._said_at = 0.0
        self._said_share = 0.0
        self._at_end = ""  # how the phase ended, unless that was said

    def update(self, line: Mapping[str, Any]) -> None:
        """Print a line when it is time for one."""
        now, share = self._clock(), line["done"] / line["total"] if line.get("total") else 0.0
        due = now - self._said_at >= LINE_EVERY_S or share - self._said_share >= LINE_EVERY_SHARE
        if line["phase"] == self._phase and not due:
            self._at_end = progress_line(line) if share == 1 else ""
            return
        if line["phase"] != self._phase:
            self.close()
        self._phase, self._said_at, self._said_share = line["phase"], now, share
        self._say(progress_line(line))

    def close(self) -> None:
        """Say how the last phase ended."""
        if self._at_end:
            self._say(self._at_end)

    def _say(self, text: str) -> None:
        if text != self._said:
            say(text)
        self._said, self._at_end = text, ""


def progress_line(line: Mapping[str, Any]) -> str:
    """One event of progress in words: "receiving 40% 4.0 MB of 10.0 MB, 2.0 MB/s, 3 s left, a.bin"."""
    unit = line.get("unit", "bytes")
    said = {"bytes": say_bytes, "seconds": duration}.get(unit) or (lambda count: f"{count:g}")
    files = " files" if unit == "files" else ""
    done, total = line["done"], line.get("total")
    if unit == "seconds" and total:
        return one_line(f"{line['phase']}, {duration(total - done)} left")
    so_far = f"{done / total:.0%} {said(done)} of {said(total)}{files}" if total else f"{said(done)}{files}"
    parts = [f"{line['phase']} {so_far}" if total is not None or done else line["phase"]]
    if line.get("rate") is not None:
        parts.append(f"{said(round(line['rate']))}{files}/s")
    if line.get("eta_s") is not None:
        parts.append(f"{duration(line['eta_s'])} left")
    return one_line(", ".join([*parts, line["note"]] if line.get("note") else parts))


class _Bar:
    """A bar on the terminal; its first word is the phase. A note that has no room beside it is said above, once."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        self._width = columns(sys.stderr)
        self._noted = ""
        whole = Column(no_wrap=True, min_width=0)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]}", markup=False, table_column=whole),
            BarColumn(bar_width=BAR_CHARS),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(stderr=True, width=self._width),
            transient=True,
        )
        self._task = self._bars.add_task("", phase="", figures="", total=None)
        self._bars.start()

    def update(self, line: Mapping[str, Any]) -> None:
        """Move the bar."""
        phase, note = one_line(line["phase"]), one_line(line.get("note") or "")
        if len(progress_line(line)) + BAR_CHARS + BESIDE_CHARS > self._width:
            line = {**line, "note": ""}
            if note != self._noted and len(note) >= SAID_CHARS_MIN:
                self._bars.console.print(wrapped(note, self._width), markup=False, highlight=False)
                self._noted = note
        figures = progress_line(line).removeprefix(phase).lstrip(" ,")
        self._bars.update(
            self._task, completed=line["done"], total=line.get("total"), phase=phase, figures=figures
        )

    def close(self) -> None:
        """Take the bar away and give the terminal back."""
        self._bars.stop()
