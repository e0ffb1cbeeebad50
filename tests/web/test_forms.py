"""A form is its command: a control for each parameter; what is typed arrives as the command line would give it."""

from pathlib import Path
from typing import Literal

import pytest

from coterie.apps.command import Command, Duration, Here, Peer, Secret, Size, command, commands_of
from coterie.apps.invoke import read_parameters
from coterie.cli.catalog import Branch, Catalog
from coterie.errors import UsageError
from coterie.web.forms import FIELDS_MAX, fields_of, read_form, read_pairs
from coterie.web.results import shape


@command("place", "peer")
async def all_kinds(
    service: object,
    place: Path,
    peer: Peer,
    *,
    lasting: Duration = Duration(900.0),  # noqa: B008
    most: Size | None = None,
    how: Literal["fast", "slow"] = "fast",
    count: int = 3,
    twice: bool = False,
    many: list[str] = [],  # noqa: B006
    key: Secret = Secret(""),  # noqa: B008
    here: Here = Here(Path("/")),  # noqa: B008
) -> None:
    """Have a parameter of each kind.

    place: A file.
    """


def declared() -> Command:
    import sys

    (found,) = commands_of("app", sys.modules[__name__])
    return found


def test_each_parameter_has_a_control_of_its_kind() -> None:
    fields = {field.name: field for field in fields_of(declared())}
    kinds = {name: field.kind for name, field in fields.items()}
    assert kinds == {
        "place": "path", "peer": "peer", "lasting": "duration", "most": "size", "how": "choice", "count": "number",
        "twice": "switch", "many": "text", "key": "secret",
    }  # fmt: skip
    assert fields["lasting"].value == "15m"
    assert fields["how"].options == ("fast", "slow")
    assert fields["peer"].is_listed
    assert fields["many"].is_many
    assert fields["place"].help == "A file."
    assert {name for name, field in fields.items() if field.is_main} == {"place", "peer"}


def test_a_form_says_what_the_command_line_would() -> None:
    body = b"place=%2Fa%2Fb&peer=anna&lasting=2h&most=&how=slow&count=7&twice=on&many=x%0D%0A%0D%0Ay&key=+k+"
    read = read_parameters(declared(), read_form(declared(), read_pairs(body), "/home/anna"))
    assert read == {
        "place": Path("/a/b"), "peer": "anna", "lasting": 7_200, "most": None, "how": "slow", "count": 7,
        "twice": True, "many": ["x", "y"], "key": " k ", "here": Path("/home/anna"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("b/c", "/home/anna/b/c"), ("~/b", "/home/anna/b"), (".", "/home/anna"), ("/b", "/b")],
)
def test_a_path_starts_from_the_folder_of_its_owner(typed: str, meant: str) -> None:
    raw = read_form(declared(), [("place", typed), ("peer", "b")], "/home/anna")
    assert read_parameters(declared(), raw)["place"] == Path(meant)


def test_what_is_wrong_is_said_in_the_words_of_the_command() -> None:
    raw = read_form(declared(), [("place", "/a"), ("peer", "b"), ("count", "many")], "/")
    with pytest.raises(UsageError, match="count"):
        read_parameters(declared(), raw)


def test_a_form_has_a_bound() -> None:
    read_pairs(b"&".join([b"a=1"] * FIELDS_MAX))
    with pytest.raises(UsageError):
        read_pairs(b"&".join([b"a=1"] * (FIELDS_MAX + 1)))


def every(branch: Branch | None) -> list[Command]:
    if branch is None:
        return []
    own = [branch.command] if branch.command is not None else []
    return own + [command for child in branch.children.values() for command in every(child)]


def test_every_command_of_every_app_has_a_form() -> None:
    catalog = Catalog()
    commands = [command for word in catalog.words() for command in every(catalog.find(word))]
    assert len(commands) > 50
    for one in commands:
        names = {field.name for field in fields_of(one)}
        assert names == {p.name for p in one.parameters if p.type is not Here}, one.path


def test_results_are_tables_pairs_and_values() -> None:
    kind, table = shape([{"name": "a", "size": 5, "empty": None}, {"name": "b", "size": 6, "empty": ""}])
    assert kind == "table"
    assert table.heads == ["Name", "Size"]
    assert [[cell.kind for cell in row] for row in table.rows] == [["text", "size"]] * 2
    kind, pairs = shape(
        {"since": "2026-01-01T00:00:00+00:00", "ok": True, "rate": 5, "eta_s": 3.0, "none": []}
    )
    assert kind == "pairs"
    assert [cell.kind for _, cell in pairs] == ["time", "yes", "rate", "duration"]
    assert shape([])[0] == "nothing"


@pytest.mark.parametrize(
    ("value", "is_masked"),
    [("", False), ("anna/films", False), ("coterie1abcd", True), ("see: COTERIE1ABCD", True)],
)
def test_a_ticket_is_masked_and_a_place_is_not(value: str, is_masked: bool) -> None:
    catalog = Catalog()
    for word in ("play", "get"):
        branch = catalog.find(word)
        assert branch is not None
        assert branch.command is not None
        (field,) = [f for f in fields_of(branch.command, {"ticket": value}) if f.name == "ticket"]
        assert (field.kind, field.is_masked) == ("ticket", is_masked)


def test_only_what_opens_something_is_masked() -> None:
    catalog = Catalog()
    commands = [command for word in catalog.words() for command in every(catalog.find(word))]
    masked = {(" ".join(c.path), f.name) for c in commands for f in fields_of(c) if f.is_masked}
    assert {name for _, name in masked} == {"invitation", "code", "phrase", "text"}
