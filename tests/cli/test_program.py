"""The page that `coterie` alone shows."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.cli.program import run
from tests.fakes.faces import coterie

_LOAD = "import sys; from coterie.cli.catalog import Catalog; Catalog().words(); print(*sys.modules)"


def test_alone_it_shows_first_steps_and_every_command_under_its_purpose(tmp_path: Path) -> None:
    shown = coterie(tmp_path, env={"COLUMNS": "80"})
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[:3] == ["Options:", "First:", "Share and get:"]
    assert headings[-1] == "More:"  # the fake app says no purpose
    first = lines[lines.index("First:") + 1 : lines.index("Share and get:") - 1]
    assert [line.split("  ")[1] for line in first if line.startswith("  coterie")][:2] == [
        "coterie up --background",
        "coterie share PATH",
    ]
    words = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    assert {"share", "invite", "grant", "autostart", "doctor"} <= set(words)
    assert coterie(tmp_path, "--help", env={"COLUMNS": "80"}).stdout == shown.stdout


def test_declarations_of_commands_load_no_service_and_no_store() -> None:
    """Every command line of an app reads them all."""
    loaded = subprocess.run(
        [sys.executable, "-c", _LOAD],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = [name for name in loaded if name.startswith("coterie.apps.") and name.endswith(".service")]
    assert not heavy
    assert not {"coterie.content.store", "coterie.net.endpoint", "iroh"} & set(loaded)


def test_help_says_the_verbs_of_each_kind_from_what_apps_declare(tmp_path: Path) -> None:
    for words in (["grant"], ["may"], ["grant", "pass"]):
        said = coterie(tmp_path, *words, "--help").stdout
        assert "postbox   a box for letters: list, write" in said  # of an app that the core does not know
        assert "files     shares and what is in them: list, read, write, administer" in said
        assert "protocol  streams of that protocol: use" in said
    said = coterie(tmp_path, "share", "--help").stdout
    assert "files  shares and what is in them: list, read, write, administer" in said
    assert "postbox" not in said
    assert "Kinds of resources" not in coterie(tmp_path, "get", "--help").stdout


@pytest.mark.parametrize(
    "words", [["get", "./fi"], ["play", "/tmp/fi"], ["send", "pho"], ["send", "photos", "mu"]]
)
def test_where_a_file_may_stand_and_no_name_fits_the_shell_completes_files(
    tmp_path: Path, words: list[str]
) -> None:
    asked = {"_COTERIE_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(["coterie", *words])}
    said = coterie(tmp_path, env={**asked, "COMP_CWORD": str(len(words))})
    assert said.stdout.splitlines() == [f"file,{words[-1]}"]


def test_kinds_are_read_without_services_and_stores() -> None:
    load = "import sys; from coterie.cli.catalog import declared_kinds; declared_kinds(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", load], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "coterie.apps.files.app" in loaded
    assert not [name for name in loaded if name.startswith("coterie.apps.") and name.endswith(".service")]
    assert not {"coterie.content.store", "coterie.net.endpoint", "iroh"} & set(loaded)


@pytest.mark.parametrize("words", [["--json", "nonsense"], ["get", "--json"], ["up", "--json", "--nonsense"]])
def test_what_was_typed_wrongly_is_json_too(tmp_path: Path, words: list[str]) -> None:
    done = coterie(tmp_path, *words)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert done.stderr.startswith("coterie: ")
    assert coterie(tmp_path, *[word for word in words if word != "--json"]).stdout == ""


def test_help_says_computer_where_programs_say_peer(tmp_path: Path) -> None:
    said = coterie(tmp_path, "may", "--help").stdout
    assert "may [OPTIONS] COMPUTER VERB RESOURCE" in said
    assert "PEER" not in said


@pytest.mark.parametrize(
    ("typed", "given"),
    [("new/", "new/"), ("./new//", "new/"), ("new", "new"), ("a/../new/", "new/"), (None, "")],
)
def test_a_separator_behind_the_target_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str | None, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    monkeypatch.setattr(
        "coterie.cli.calls.call_command",
        lambda command, parameters, options: seen.append(parameters["target"]),
    )
    with contextlib.suppress(SystemExit):
        run(["get", "TICKET", *([typed] if typed else [])])
    assert seen == [f"{tmp_path}/{given}" if given else str(tmp_path)]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("recovery restore --invitation", "coterie recovery restore"),
        ("share --to", "coterie share"),
        ("up --home", "coterie up"),
        ("--home", "coterie"),
    ],
)
def test_an_option_without_its_value_names_the_right_help(
    words: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(words.split())
    assert capsys.readouterr().err.endswith(f"requires an argument (see `{place} --help`)\n")
