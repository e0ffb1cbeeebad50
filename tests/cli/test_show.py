"""What is printed, to the letter."""

import json

import pytest

from coterie.cli.layout import in_words
from coterie.cli.options import Options
from coterie.cli.show import Show, progress_line
from coterie.cli.terminal import say
from coterie.plain_text import lines
from coterie.quantity import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (8000, "2 h 13 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_progress_in_words() -> None:
    line = {
        "phase": "receiving",
        "done": 4_000_000,
        "total": 10_000_000,
        "unit": "bytes",
        "rate": 2e6,
        "eta_s": 3,
    }
    assert progress_line(line) == "receiving 40% 4.0 MB of 10.0 MB, 2.0 MB/s, 3 s left"
    assert progress_line(line | {"note": "a.bin"}).endswith(", a.bin")
    assert (
        progress_line({"phase": "scanning", "done": 7, "total": None, "unit": "files"}) == "scanning 7 files"
    )
    assert progress_line({"phase": "empty", "done": 0, "total": 0}) == "empty 0 B"


def test_values_in_words() -> None:
    assert in_words(
        {"peer_id": "x", "done": True, "store_bytes": 2000, "tags": ["a", "b"], "none": None}
    ) == ("id           x\ndone         yes\nstore bytes  2.0 kB\ntags         a, b\nnone         -")
    assert in_words([{"a": 1, "b": "x"}, {"a": 10, "b": "long", "c": {"d": 1}}]) == (
        ' A  B     C\n 1  x     -\n10  long  {"d": 1}'
    )
    assert in_words(["x", 1, None]) == "x\n1\n-"
    assert in_words("x") == "x"


def test_a_table_has_short_ids_and_no_empty_columns() -> None:
    whole = "k3fw7a2b5c" * 5 + "q7"
    rows = [
        {"name": "anna", "peer": whole, "size": "", "here": None},
        {"name": "ben", "peer": "", "of": [whole]},
    ]
    assert in_words(rows) == "NAME  ID          OF\nanna  k3fw7a2b5c  -\nben               k3fw7a2b5c"


def test_names_of_others_do_not_reach_the_terminal_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b]0;x\x07b\x9b1m\rc\n\td")
    assert capsys.readouterr().err == "a\ufffd]0;x\ufffdb\ufffd1m\ufffdc\n\td\n"


def test_a_cell_is_one_line_whatever_stands_in_it() -> None:
    hostile = "a\x1b[2J\nb\u202e\x9b"
    for value in (
        [{"name": hostile}],
        {"name": hostile},
        {"names": [hostile]},
        [hostile],
        {"n": {"x": hostile}},
    ):
        said = in_words(value)
        assert "\x1b" not in said
        assert "b" not in [line.strip() for line in said.split("\n")]
    assert "\n" not in progress_line({"phase": "p\nq", "done": 0, "note": hostile})


def test_json_means_the_same_and_is_fit_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b\x7f\x9b\u202e\u2028\udc80\U000e0041\nb é 😀"
    Show(Options(json=True)).line({"result": {"name": hostile}})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": hostile}
    assert out.isascii() or out == lines(out)
    assert "é 😀" in out


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_progress_come_now_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    show = Show(Options(), clock=clock)

    def step(done: int, phase: str = "p") -> str:
        show.line({"event": "Progress", "phase": phase, "done": done, "total": 100, "unit": "files"})
        return capsys.readouterr().err

    assert step(0) == "p 0% 0 of 100 files\n"
    assert step(9) == ""
    assert step(10) == "p 10% 10 of 100 files\n"
    clock.now += 0.9
    assert step(11) == ""
    clock.now += 0.1
    assert step(11) == "p 11% 11 of 100 files\n"
    assert step(11, "q") == "q 11% 11 of 100 files\n"


def test_the_forms_of_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    Show(Options()).line({"result": {"a": 1}, "text": "said"})
    Show(Options()).line({"result": {"a": 1}})
    Show(Options()).line({"result": None})
    Show(Options()).line({"result": []})
    Show(Options(json=True)).line({"result": {"a": "\u00e9\x1b"}, "text": "said"})
    assert capsys.readouterr().out == 'said\na  1\n{"a": "é\\u001b"}\n'


def test_json_events_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(Options(json=True))
    show.line({"event": "Note", "text": "for people", "about": "x"})
    show.error("not_found", "gone")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "Note", "about": "x"},
        {"error": {"code": "not_found", "message": "gone"}},
    ]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(Options(quiet=True))
    show.line({"event": "Progress", "phase": "p", "done": 1})
    show.line({"event": "Note", "about": "x"})
    show.line({"result": "r"})
    assert capsys.readouterr() == ("r\n", "")


def test_an_empty_list_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    Show(Options(), empty_text="Nothing yet").line({"result": []})
    Show(Options(json=True), empty_text="Nothing yet").line({"result": []})
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "Nothing yet\n")


def test_names_cannot_turn_the_line_around() -> None:
    assert lines("a\u202etxt.exe\x1b[2J\u2066") == "a\ufffdtxt.exe\ufffd[2J\ufffd"


def test_what_is_live_is_printed_as_a_result_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"event": "Notice", "text": "a notice", "live": True, "said": "a"}
    Show(Options(quiet=True)).line(line)
    Show(Options(json=True)).line(line)
    printed = capsys.readouterr()
    assert printed.out == 'a notice\n{"event": "Notice", "said": "a"}\n'
    assert printed.err == ""


def progress(phase: str, done: int, total: int | None = None, **more: object) -> dict[str, object]:
    return {"event": "Progress", "phase": phase, "done": done, "total": total, **more}


def test_the_end_of_a_phase_is_told_and_the_same_line_never_twice(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    show = Show(Options(), clock=clock)
    show.line(progress("reading", 0, 100))
    show.line(progress("reading", 100, 100))  # due at once: all of it is new
    clock.now += 5
    show.line(progress("reading", 100, 100))
    show.line(progress("storing", 95, 100))
    show.line(progress("storing", 100, 100))
    show.line(progress("waiting", 0, note="nobody is there"))
    clock.now += 5
    show.line(progress("waiting", 0, note="nobody is there"))
    show.close()
    assert capsys.readouterr().err.splitlines() == [
        "reading 0% 0 B of 100 B",
        "reading 100% 100 B of 100 B",
        "storing 95% 95 B of 100 B",
        "storing 100% 100 B of 100 B",
        "waiting, nobody is there",
    ]


def test_what_only_waits_for_a_time_says_how_long_still() -> None:
    assert progress_line(progress("waiting", 60, 900, unit="seconds")) == "waiting, 14 min 00 s left"
