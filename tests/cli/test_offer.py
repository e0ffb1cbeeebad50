"""The question whether a computer that nobody outside reaches is to be found in the public directory."""

import io
from pathlib import Path

import pytest

from coterie.cli.offer import is_offered, offer_internet
from coterie.cli.options import Options
from coterie.home import Home


class Terminal(io.StringIO):
    """Standard input or error of a person."""

    def isatty(self) -> bool:
        return True


OFFER = {"result": {"offers_internet": True}}


@pytest.mark.parametrize(
    ("line", "options", "is_asked"),
    [
        (OFFER, Options(), True),
        ({"event": "Invited", "offers_internet": True}, Options(), True),
        ({"result": {"offers_internet": False}}, Options(), False),
        ({"result": []}, Options(), False),
        (OFFER, Options(json=True), False),
        (OFFER, Options(quiet=True), False),
    ],
)
def test_a_person_is_asked_where_there_is_something_to_offer(
    line: dict[str, object], options: Options, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stderr", Terminal())
    assert is_offered(line, options) is is_asked


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert not is_offered(OFFER, Options())


@pytest.mark.parametrize(("answer", "level"), [("y\n", "internet"), ("\n", "circle"), ("", "circle")])
def test_only_a_yes_changes_the_level(
    answer: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.locate(tmp_path / "home")
    home.prepare()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    offer_internet(Options(home=tmp_path / "home"))
    assert home.config().reach == level
