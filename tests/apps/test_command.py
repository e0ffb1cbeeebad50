"""Declarations: what is read from a function, what is refused, and one call of it."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pytest

from coterie.apps.command import (
    Command,
    Duration,
    Live,
    Peer,
    Person,
    Place,
    Progress,
    Rate,
    Resource,
    Size,
    Values,
    Verbs,
    command,
    commands_of,
)
from coterie.apps.invoke import Event, Result, invoke, load_commands, parameters_type, read_parameters
from coterie.errors import NotFound, UsageError

if TYPE_CHECKING:
    from somewhere_heavy import Service  # type: ignore[import-not-found]


class Said(msgspec.Struct):
    what: str

    def text(self) -> str:
        return f"said {self.what}"


class Bare(msgspec.Struct):
    path: Path


def declared(*functions: Any) -> list[Command]:
    module = ModuleType(__name__)
    for function in functions:
        setattr(module, function.__name__, function)
    return commands_of("app", module)


def items(one: Command, parameters: Any = None, service: Any = None) -> list[Event | Result]:
    async def gather() -> list[Event | Result]:
        return [item async for item in invoke(one, service, parameters or {})]

    return asyncio.run(gather())


def test_everything_is_read_from_the_declaration() -> None:
    @command("second", "first", path="a long-way", stays=True, needs="store", interrupt_text="kept")
    async def found(
        service: "Service", first: int, second: Path, *, third: Literal["x", "y"] | None = None
    ) -> list[Said]:
        """What it does.

        More about it,
        in two lines.

        first: Number
            of things.
        third: A choice.
        """
        return []

    (one,) = declared(found)
    assert (one.app, one.path, one.stays, one.needs) == ("app", ("a", "long-way"), True, "store")
    assert (one.summary, one.details) == ("What it does.", "More about it,\nin two lines.")
    assert (one.streams, one.returns, one.interrupt_text) == (False, list[Said], "kept")
    assert [p.name for p in one.parameters] == ["second", "first", "third"]
    second, first, third = one.parameters
    assert (first.type, first.required, first.positional, first.help) == (
        int,
        True,
        True,
        "Number of things.",
    )
    assert (second.type, second.help) == (Path, "")
    assert (third.type, third.optional, third.default, third.required) == (
        Literal["x", "y"],
        True,
        None,
        False,
    )


def test_names_come_from_the_function() -> None:
    @command()
    def id_(service: Any) -> None:
        """A."""

    @command()
    def two_words(service: Any) -> None:
        """B."""

    assert [one.path for one in declared(id_, two_words)] == [("id",), ("two-words",)]


def test_functions_of_other_modules_are_not_commands_here() -> None:
    @command()
    def borrowed(service: Any) -> None:
        """A."""

    borrowed.__module__ = "elsewhere"
    assert declared(borrowed) == []


def test_what_no_face_can_render_is_refused_by_name() -> None:
    @command()
    def odd(service: Any, *, when: dict[str, int]) -> None:
        """A."""

    @command("missing")
    def absent(service: Any) -> None:
        """A."""

    with pytest.raises(TypeError, match=r"odd: a command cannot take when"):
        declared(odd)
    with pytest.raises(TypeError, match="absent: no parameter named missing"):
        declared(absent)


def test_parameters_are_checked_and_paths_made() -> None:
    @command("path")
    def take(service: Any, path: Path, *, tags: list[str] | None = None, others: list[str] = []) -> None:  # noqa: B006
        """A."""

    (one,) = declared(take)
    assert read_parameters(one, {"path": "/x"}) == {"path": Path("/x"), "tags": None, "others": []}
    assert parameters_type(one) is parameters_type(one)
    for wrong in (
        {},
        {"path": 1},
        {"path": "x"},
        {"path": "/x", "tags": "t"},
        {"path": "/x", "y": 1},
        [],
        None,
    ):
        with pytest.raises(UsageError, match=r"^take: "):
            read_parameters(one, wrong)


def test_plain_functions_and_coroutines_give_one_result() -> None:
    @command("to")
    def plain(service: Any, to: str) -> Said:
        """A."""
        return Said(to + service)

    @command()
    async def waited(service: Any) -> list[Bare]:
        """B."""
        return [Bare(Path("/x"))]

    @command()
    async def nothing(service: Any) -> None:
        """C."""

    one, two, three = declared(plain, waited, nothing)
    assert items(one, {"to": "a"}, "b") == [Result({"what": "ab"}, "said ab")]
    assert items(two) == [Result([{"path": "/x"}], None)]
    assert items(three) == [Result(None, None)]


def test_lists_speak_when_each_member_does() -> None:
    @command()
    def both(service: Any) -> list[Said]:
        """A."""
        return [Said("a"), Said("b")]

    assert items(declared(both)[0])[0].text == "said a\nsaid b"


def test_the_last_item_is_the_result_and_order_is_kept() -> None:
    @command()
    async def run(service: Any) -> AsyncIterator[Progress | Said]:
        """A."""
        yield Said("first")
        yield Progress(phase="p", done=1)
        yield Said("second")
        yield Said("last")

    *events, result = items(declared(run)[0])
    assert [(event.kind, event.text) for event in events if isinstance(event, Event)] == [
        ("Said", "said first"),
        ("Progress", None),
        ("Said", "said second"),
    ]
    assert result == Result({"what": "last"}, "said last")


def test_progress_is_passed_on_at_once() -> None:
    async def check() -> None:
        @command()
        async def run(service: Any) -> AsyncIterator[Progress]:
            """A."""
            yield Progress(phase="p", done=1)
            await asyncio.Event().wait()

        calls = invoke(declared(run)[0], None, {})
        item = await anext(calls)
        assert isinstance(item, Event)
        assert item.fields["done"] == 1
        await calls.aclose()

    asyncio.run(check())


def test_what_is_live_is_passed_on_at_once_and_never_the_result() -> None:
    class Heard(Live, frozen=True):
        word: str

        def text(self) -> str:
            return f"heard {self.word}"

    @command()
    async def listen(app: object) -> AsyncIterator[Heard]:
        """Listen."""
        yield Heard(word="one")

    async def scene() -> list[Any]:
        (one,) = declared(listen)
        return [item async for item in invoke(one, None, {})]

    event, result = asyncio.run(scene())
    assert event.line() == {"event": "Heard", "text": "heard one", "live": True, "word": "one"}
    assert result.value is None


def test_what_was_said_before_a_failure_is_not_lost() -> None:
    @command()
    async def run(service: Any) -> AsyncIterator[Said]:
        """A."""
        yield Said("first")
        raise NotFound("gone")

    seen = []

    async def gather() -> None:
        async for item in invoke(declared(run)[0], None, {}):
            seen.append(item)

    with pytest.raises(NotFound, match="gone"):
        asyncio.run(gather())
    assert seen == [Event("Said", {"what": "first"}, "said first")]


def test_closing_a_call_cancels_the_command() -> None:
    ended = []

    @command()
    async def run(service: Any) -> AsyncIterator[Progress]:
        """A."""
        try:
            yield Progress(phase="p", done=1)
        finally:
            ended.append(True)

    async def check() -> None:
        calls = invoke(declared(run)[0], None, {})
        await anext(calls)
        await calls.aclose()

    asyncio.run(check())
    assert ended == [True]


def test_a_command_that_wants_to_end_the_program_fails_and_ends_nothing_else() -> None:
    @command()
    async def leave(service: Any) -> str:
        """A."""
        raise SystemExit(2)

    async def check() -> None:
        with pytest.raises(RuntimeError, match=r"sys\.exit\(2\)"):
            await asyncio.ensure_future(anext(invoke(declared(leave)[0], None, {})))

    asyncio.run(check())


FIFTEEN_MINUTES, NOTHING = Duration(900), Size(0)


@command()
async def bounded(
    service: object,
    *,
    lasting: Duration = FIFTEEN_MINUTES,
    up: Rate | None = None,
    size: Size = NOTHING,
) -> None:
    """Something with quantities."""


def _quantities(**given: Any) -> dict[str, Any]:
    (one,) = declared(bounded)
    return read_parameters(one, given)


def test_people_write_quantities_and_programs_numbers() -> None:
    assert _quantities() == {"lasting": 900, "up": None, "size": 0}
    assert _quantities(lasting="15m", up="2MB/s", size="1.5GB") == {
        "lasting": 900,
        "up": 2_000_000,
        "size": 1_500_000_000,
    }
    assert _quantities(lasting=1.5, up=20_000, size="7") == {"lasting": 1.5, "up": 20_000, "size": 7}


@pytest.mark.parametrize(
    "given",
    [{"lasting": "15"}, {"lasting": -1.0}, {"up": "fast"}, {"up": -1}, {"size": "9" * 5_000}, {"size": "-1"}],
)
def test_what_is_no_quantity_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(given))}: "):
        _quantities(**given)


SECRET_NAMES = {"ticket", "invitation", "code", "phrase", "text", "words", "secret", "password", "token"}


def test_whatever_opens_something_can_be_kept_out_of_the_list_of_processes() -> None:
    for entry in entry_points(group="coterie.apps"):
        for found in load_commands(entry.name, f"{entry.module.rpartition('.')[0]}.commands"):
            named = {parameter.name for parameter in found.parameters} & SECRET_NAMES
            assert named <= {*found.secrets}, f"make {named} of {found.path} a Secret or a Ticket"


class Stuck(msgspec.Struct):
    name: str
    note: str
    dropped: list[str]
    inner: list["Stuck"] = []

    def text(self) -> str:
        return f"{self.name}: {self.note}"


def test_what_happened_is_told_in_names_and_ids_that_are_shown_stay() -> None:
    @command()
    async def look(service: Any) -> AsyncIterator[Stuck | Progress]:
        """Look."""
        yield Progress(phase="x", done=0, note="ID is off")
        yield Stuck("ID", "ID is off", ["ID"], [Stuck("ID", "ID", [])])

    async def gather() -> list[Event | Result]:
        calls = invoke(declared(look)[0], None, {}, in_names=lambda text: text.replace("ID", "anna"))
        return [item async for item in calls]

    progress, result = asyncio.run(gather())
    assert isinstance(progress, Event)
    assert isinstance(result, Result)
    assert progress.fields["note"] == "anna is off"
    assert result.text == "ID: anna is off"
    inner = {"name": "ID", "note": "anna", "dropped": [], "inner": []}
    assert result.value == {"name": "ID", "note": "anna is off", "dropped": ["anna"], "inner": [inner]}


TYPED_NAMES = {
    "peer": Peer, "place": Place, "to": Person, "lasting": Duration, "up": Rate, "down": Rate,
    "resource": Resource, "verb": Verbs, "verbs": Verbs,
}  # fmt: skip
LISTED_NAMES = {
    "share", "transfer", "version", "versions", "circle", "member", "device", "contact", "grant", "job", "key",
}  # fmt: skip


def test_our_commands_say_what_their_parameters_are() -> None:
    found = load_commands("node", "coterie.control.commands")
    for entry in entry_points(group="coterie.apps"):
        found += load_commands(entry.name, f"{entry.module.rpartition('.')[0]}.commands")
    known = {(one.app, one.path): one for one in found}
    for one in found:
        for parameter in one.parameters:
            where = f"{' '.join(one.path)}: {parameter.name}"
            if parameter.type not in (bool, Path):  # `get --share` is a switch, `trash restore --to` a path
                assert parameter.type is TYPED_NAMES.get(parameter.name, parameter.type), where
                assert parameter.values or parameter.name not in LISTED_NAMES, where
            if listed := parameter.values:
                of = known[listed.app or one.app, tuple(listed.command.split())]
                assert {*listed.given} <= {p.name for p in of.parameters} & {p.name for p in one.parameters}


def test_a_type_says_where_its_values_are_listed() -> None:
    Colour = Annotated[str, Values("colours", "name")]

    @command("colour")
    def paint(
        service: Any,
        colour: Colour,
        *,
        to: list[Person] = [],  # noqa: B006
        more: list[Colour] | None = None,
        peer: Peer | None = None,
    ) -> None:
        """A."""

    @command()
    def wrong(service: Any, *, sizes: list[Size]) -> None:
        """A."""

    (one,) = declared(paint)
    colour, to, more, peer = one.parameters
    assert (colour.type, colour.values, colour.many) == (str, Values("colours", "name"), False)
    assert (to.type, to.many, to.values) == (Person, True, Values("people", "name", app="node"))
    assert (more.type, more.many, more.optional, more.values) == (str, True, True, colour.values)
    assert (peer.type, peer.optional) == (Peer, True)
    given = {"colour": "red", "to": ["anna"]}
    assert read_parameters(one, given) == {**given, "more": None, "peer": None}
    with pytest.raises(UsageError, match="to: "):
        read_parameters(one, {"colour": "red", "to": "anna"})
    with pytest.raises(TypeError, match=r"wrong: a command cannot take sizes"):
        declared(wrong)
