"""What a command says, printed: JSON, plain lines, tables, and progress as a bar or as lines.

Results go to standard output, progress to standard error, so a pipe gets results only.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coterie.cli.options import Options
from coterie.cli.terminal import put, put_json, say
from coterie.plain_text import one_line
from coterie.quantity import duration

LINE_EVERY_S = 1.0  # progress lines when standard error is no terminal: this often,
LINE_EVERY_SHARE = 0.1  # and whenever this share more is done
_WHOLE_ID = re.compile(
    r"\b([a-z2-7]{10})[a-z2-7]{42}\b"
)  # a peer's: a table shows the short form, JSON all of it
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


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
            put(line["text"])
        elif line["event"] == "Progress":
            if self._progress is None:
                self._progress = _Bar() if sys.stderr.isatty() else _ProgressLines(self._clock)
            self._progress.update(line)
        else:
            self.close()
            fields = {key: value for key, value in line.items() if key not in ("event", "text")}
            say(line.get("text") or _pairs(fields))

    def _result(self, line: Mapping[str, Any]) -> None:
        self.close()
        self.is_incomplete = bool(line.get("incomplete"))
        value = line.get("result")
        if self._options.json:
            put_json(value)
        elif line.get("text") is not None:
            put(line["text"])
        elif value not in (None, [], {}, ""):
            put(in_words(value))
        elif self._empty_text and not self._options.quiet:
            say(self._empty_text)


def in_words(value: Any) -> str:
    """Plain `value` for people: a table for a list of objects, one line per key for an object."""
    if isinstance(value, Mapping):
        return _pairs(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(row, Mapping) for row in value):
            return _table(value)
        return "\n".join(_cell("", member) for member in value)
    return _cell("", value)


def amount(count: float) -> str:
    """Bytes in decimal units: 1234567 as "1.2 MB"."""
    size, unit = float(count), 0
    while abs(size) >= 999.95 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _pairs(fields: Mapping[str, Any]) -> str:
    width = max((len(key) for key in fields), default=0)
    rows = [(one_line(key.replace("_", " ")), _cell(key, value)) for key, value in fields.items()]
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [*dict.fromkeys(key for row in rows for key in row)]
    columns = [key for key in columns if any(row.get(key) not in (None, "") for row in rows)] or columns
    cells = [[key.replace("_", " ").upper() for key in columns]]
    cells += [[_WHOLE_ID.sub(r"\1", _cell(key, row.get(key))) for key in columns] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and (key.endswith("_bytes") or key in ("bytes", "size")):
        return amount(value)
    if isinstance(value, list) and not any(isinstance(member, dict | list) for member in value):
        return one_line(", ".join(map(str, value))) or "-"
    return one_line(json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value))


class _ProgressLines:
    """Progress where there is no terminal: a line when the phase changes, then now and again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = ""
        self._said_at = 0.0
        self._said_share = 0.0

    def update(self, line: Mapping[str, Any]) -> None:
        """Print a line when it is time for one."""
        now, share = self._clock(), line["done"] / line["total"] if line.get("total") else 0.0
        due = now - self._said_at >= LINE_EVERY_S or share - self._said_share >= LINE_EVERY_SHARE
        if line["phase"] == self._phase and not due:
            return
        self._phase, self._said_at, self._said_share = line["phase"], now, share
        say(progress_line(line))

    def close(self) -> None:
        """Nothing stays open."""


def progress_line(line: Mapping[str, Any]) -> str:
    """One event of progress in words: "receiving 40% 4.0 MB of 10.0 MB, 2.0 MB/s, 3 s left, a.bin"."""
    unit = line.get("unit", "bytes")
    said = {"bytes": amount, "seconds": duration}.get(unit) or (lambda count: f"{count:g}")
    files = " files" if unit == "files" else ""
    done, total = line["done"], line.get("total")
    parts = [f"{line['phase']} {done / total:.0%} {said(done)} of {said(total)}{files}" if total else ""]
    parts[0] = parts[0] or f"{line['phase']} {said(done)}{files}"
    if line.get("rate") is not None:
        parts.append(f"{said(round(line['rate']))}{files}/s")
    if line.get("eta_s") is not None:
        parts.append(f"{duration(line['eta_s'])} left")
    return one_line(", ".join([*parts, line["note"]] if line.get("note") else parts))


class _Bar:
    """A bar on the terminal; its first word is the phase."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task("", phase="", figures="", total=None)
        self._bars.start()

    def update(self, line: Mapping[str, Any]) -> None:
        """Move the bar."""
        phase = one_line(line["phase"])
        figures = progress_line(line).removeprefix(f"{phase} ")
        self._bars.update(
            self._task, completed=line["done"], total=line.get("total"), phase=phase, figures=figures
        )

    def close(self) -> None:
        """Take the bar away and give the terminal back."""
        self._bars.stop()
