"""Text that people read: no character of another's name is a command of the terminal or a line of its own."""

import io
import logging
from pathlib import Path

import msgspec
import pytest

from coterie.cli.terminal import LogFormatter
from coterie.control.answers import error_body
from coterie.errors import NotFound
from coterie.plain_text import INSTEAD, lines, one_line, with_one_line_fields

KINDS = {
    "escape sequence": "\x1b[2J",
    "C1 control": "\x9b1m",
    "line end": "\n",
    "carriage return": "\r",
    "backspace": "\b",
    "next line": "\x85",
    "line separator": "\u2028",
    "override": "\u202e",
    "isolate": "\u2067",
    "invisible tag": "\U000e0041",
    "half a surrogate pair": "\udc9b",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_taken_out_of_a_line(kind: str) -> None:
    said = one_line(f"a{KINDS[kind]}b")
    assert said.startswith(f"a{INSTEAD}")
    assert KINDS[kind][0] not in said


def test_what_people_write_stays() -> None:
    for text in ("größe 大きさ", "שלום", "👨‍👩‍👧", "a b\u00a0c", "e\u0301"):
        assert one_line(text) == lines(text) == text
    assert lines("a\n\tb") == "a\n\tb"
    assert one_line("a\n\tb") == f"a{INSTEAD}{INSTEAD}b"


class _Offer(msgspec.Struct, frozen=True):
    name: str
    path: Path
    parts: "list[_Offer]"
    notes: dict[str, str]

    def text(self) -> str:
        return "\n".join([self.name, str(self.path), *(part.text() for part in self.parts), *self.notes])


def test_lines_of_a_text_are_ours_alone() -> None:
    evil = "x\ncoterie: all is well\x1b[A"
    part = _Offer(evil, Path(evil), [], {evil: evil})
    offer = _Offer(evil, Path("p"), [part], {})
    said = with_one_line_fields(offer).text()
    assert len(said.split("\n")) == 5
    assert said == lines(said)
    assert offer.name == evil  # what JSON gets
    clean = _Offer("x", Path("p"), [], {})
    assert with_one_line_fields(clean) is clean


def test_every_log_entry_is_one_line_and_tracebacks_are_set_off() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LogFormatter())
    log = logging.Logger("t")
    log.addHandler(handler)
    log.warning("%s joined", "x\n2026-01-01 00:00:00,000 ERROR forged\x1b[2J")
    try:
        raise ValueError("y\n2026-01-01 00:00:00,000 ERROR forged\x9b")
    except ValueError:
        log.exception("failed")
    written = out.getvalue().rstrip("\n")
    assert written == lines(written)
    entries = [line for line in written.split("\n") if not line.startswith("  ")]
    assert len(entries) == 2
    assert entries[0].endswith(f"x{INSTEAD}2026-01-01 00:00:00,000 ERROR forged{INSTEAD}[2J joined")


def test_errors_of_the_local_api_are_one_line() -> None:
    said = error_body(NotFound("no share 'x\n\x1b[2J'"))["error"]["message"]
    assert said == f"no share 'x{INSTEAD}{INSTEAD}[2J'"
