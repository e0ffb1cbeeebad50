"""Every result of every command: it fits 80 columns for people, and programs get numbers and times, not words."""

import importlib
import itertools
import re
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from coterie import apps
from coterie.apps.command import Command, commands_of
from coterie.apps.invoke import Event, Result, _event, _result, invoke, load_commands
from coterie.cli.catalog import NODE_APP, NODE_COMMANDS
from coterie.cli.layout import COLUMNS, in_words, wrapped
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.progress import Progress
from coterie.transfer.results import Received
from tests.apps.files.nodes import memory_node
from tests.support import run

APPS = sorted(path.parent.name for path in Path(apps.__file__).parent.glob("*/commands.py"))
WHOLE_ID = "k3fw7a2b5c" * 5 + "q7"
NUMBERS = re.compile(
    r"(size|done|rate|received|sent|files|members|health|count|holders|seconds|minutes|.*_(s|ms|bytes))$"
)
TIMES = re.compile(r"(since|until|expires|added|created|started|finished|changed|last)$")
# what stands for itself and is copied whole: no line is broken inside it
COPIED = {
    "ticket",
    "magnet",
    "torrent",
    "grant",
    "url",
    "path",
    "home",
    "target",
    "key",
    "peer_id",
    "unfinished",
}
QUANTITY = re.compile(
    r"^~?\d[\d,.]* ?(B|bytes|kB|MB|GB|TB|%|ms|s|min|h|days?)(/s)?$|^\d+ (min|h) \d+ (s|min)$"
)


def all_commands() -> list[Command]:
    """Of the node and of every app of ours."""
    found = [*load_commands(NODE_APP, NODE_COMMANDS)]
    for app in APPS:
        found += commands_of(app, importlib.import_module(f"coterie.apps.{app}.commands"))
    return found


def structs_in(hint: Any) -> Iterator[type[msgspec.Struct]]:
    """Every Struct that `hint` names, and those in their fields."""
    if isinstance(hint, str) and ":" in hint:
        module, _, name = hint.partition(":")
        hint = getattr(importlib.import_module(module), name)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
        for field in get_type_hints(hint).values():
            yield from structs_in(field)
    for part in get_args(hint):
        yield from structs_in(part)


RESULTS = sorted(
    {kind for command in all_commands() for kind in structs_in(command.returns)} - {Progress},
    key=lambda kind: (kind.__module__, kind.__name__),
)


def sample(hint: Any, name: str) -> Any:  # noqa: PLR0911 - one for each kind of type
    """A long and honest value for a field."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return parts[0]
    if origin in (typing.Union, types.UnionType):
        return sample(next(part for part in parts if part is not type(None)), name)
    if origin is list:
        return [sample(parts[0], name) for _ in range(3)]
    if origin is dict:
        return {key: sample(parts[1], name) for key in ("shares", "bytes sent", "transfers running")}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = get_type_hints(hint)
        return hint(**{field: sample(hints[field], field) for field in hint.__struct_fields__})
    match hint:
        case _ if hint is bool:
            return True
        case _ if hint is int:
            return 123_456
        case _ if hint is float:
            return 86_399.5
        case _ if hint is bytes:
            return b"value"
        case _ if hint is Path:
            return Path("/home/annamaria/Pictures/2024/summer in the mountains/IMG_20240817.jpg")
    return text_sample(name)


def text_sample(name: str) -> str:
    if TIMES.match(name):
        return (datetime.now(UTC) - timedelta(hours=5)).isoformat(timespec="seconds")
    long = {
        "id": "b5xk2q7w",
        "peer_id": WHOLE_ID,
        "peer": WHOLE_ID,
        "person": WHOLE_ID,
        "device": WHOLE_ID,
        "computer": WHOLE_ID,
        "devices": WHOLE_ID,
        "blocked": WHOLE_ID,
        "words": "abandon " * 23 + "about",
        "name": "Annamaria's old notebook in the kitchen",
        "addresses": "[2001:db8:1234:5678:9abc:def0:1234:5678]:54321",
        "address": "[2001:db8:1234:5678:9abc:def0:1234:5678]:54321",
        "ticket": "coterie" + "aeahgq7w" * 20,
        "grant": "coterie" + "aeahgq7w" * 40,
        "magnet": "magnet:?xt=urn:btih:" + "0123456789" * 12,
        "state": "ready",
        "kind": "folder",
        "code": "7-planet-velvet",
        "join_with": "circle join",
        "at": "[2001:db8::1]:54321",
        "short": WHOLE_ID[:10],
        "verb": "read",
        "verbs": "list, read",
        "answer": "refused",
        "role": "member",
        "key": "download_limit",
    }
    if name in COPIED - {"key"} and name not in long:
        return "/home/annamaria/Pictures/2024/summer in the mountains/every day/IMG_20240817_183122.jpg"
    return long.get(
        name, "the computer of the other side did not answer within ten seconds, and nobody else has it"
    )


def shown(value: Any) -> str:
    """As a command line prints it."""
    line = (_result(value) if not isinstance(value, Event) else value).line()
    return (
        wrapped(line["text"], COLUMNS) if line.get("text") is not None else in_words(line["result"], COLUMNS)
    )


@pytest.mark.parametrize(
    "kind", RESULTS, ids=lambda kind: f"{kind.__module__.split('.')[-2]}.{kind.__name__}"
)
@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
def test_it_fits_80_columns(kind: type[msgspec.Struct], many: bool) -> None:
    value = sample(kind, "")
    for line in shown([value, value] if many else value).split("\n"):
        assert len(line) <= COLUMNS or is_to_copy(line), line


def is_to_copy(line: str) -> bool:
    """A line with a ticket, a link or an id, which cannot be broken."""
    return any(len(word) > COLUMNS - 30 for word in line.split(" "))


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_numbers_are_numbers_and_times_are_times(kind: type[msgspec.Struct]) -> None:
    for name, hint in get_type_hints(kind).items():
        parts = {hint, *get_args(hint)}
        if NUMBERS.match(name) and hint != list[str]:  # of names
            assert parts & {int, float} or any(structs_in(hint)), f"{kind.__name__}.{name} is {hint}"
        if TIMES.match(name):
            assert parts & {str, int, float}, f"{kind.__name__}.{name} is {hint}"


def words_in(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in plain `value`, and where."""
    match value:
        case dict():
            for key, member in value.items():
                yield from words_in(member, f"{where}.{key}")
        case list():
            for member in value:
                yield from words_in(member, where)
        case str():
            yield where, value


def test_what_commands_really_say_has_no_numbers_in_words(tmp_path: Path) -> None:
    """Every command that only lists, on a node with shares, transfers, contacts, grants and things in the trash."""
    quiet = [c for c in all_commands() if c.path in LISTS]
    assert len(quiet) == len(LISTS)

    async def scene() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "a") as anna, memory_node(network, tmp_path / "b") as ben:
            async with anna.contacts.invite() as invitation:
                await ben.contacts.join(invitation.invited.ticket)
            (tmp_path / "photos").mkdir()
            (tmp_path / "photos" / "a.jpg").write_bytes(bytes(15_000_000))
            got = await anna.files.share(tmp_path / "photos")
            received = await ben.files.get(got.ticket, tmp_path / "in")
            (tmp_path / "photos" / "a.jpg").write_bytes(bytes(3_000_000))
            await anna.files.share(tmp_path / "photos")
            assert received.files
            for command, node in itertools.product(quiet, (ben, anna)):
                async for item in invoke(command, service_of(node, command), {}):
                    value = item.value if isinstance(item, Result) else dict(item.fields)
                    if isinstance(item, Result) and item.text is None and isinstance(value, list):
                        assert not cut_in(value, in_words(value)), command.path
                    for where, text in words_in(value, " ".join(command.path)):
                        assert not QUANTITY.match(text), (where, text)
                        if TIMES.match(where.rpartition(".")[2]) and text:
                            assert datetime.fromisoformat(text), (where, text)

    run(scene(), 60)


def cut_in(rows: list[dict[str, Any]], said: str) -> list[str]:
    """What is in `rows` and not whole in the table that is `said`, or a line that is too wide for nothing."""
    words = " ".join(said.split())
    texts = [text for row in rows for where, text in words_in(row, "") if text and where != ".addresses"]
    whole = [" ".join(in_words(text).split()) for text in texts if not re.fullmatch("[a-z2-7]{52}", text)]
    wide = [line for line in said.split("\n") if len(line) > COLUMNS and not is_to_copy(line)]
    return [text for text in whole if text not in words] + wide


LISTS = {
    (word,)
    for word in [
        "status",
        "peers",
        "id",
        "audit",
        "config",
        "usage",
        "circle",
        "blocked",
        "devices",
        "recovery",
        "contacts",
        "shares",
        "ls",
        "resources",
        "people",
        "transfers",
        "trash",
        "limits",
        "grants",
        "overlay",
    ]
}


def service_of(node: Node, command: Command) -> Any:
    """What the function of `command` gets."""
    return node if command.app == NODE_APP else node.service(command.app)


def test_lines_are_broken_at_blanks_and_tickets_never() -> None:
    assert wrapped("  aaaa bbbb cccc", 12) == "  aaaa bbbb\n    cccc"
    ticket = f"  coterie get {'a' * 30}"
    assert wrapped(ticket, 20) == ticket
    assert wrapped("short", 20) == "short"


@pytest.mark.parametrize(
    ("fetched", "seconds", "rate"),
    [(5, 0.1, ""), (999_999, 2.0, ""), (8_000_000, 0.9, ""), (8_000_000, 2.0, ", 4.0 MB/s")],
)
def test_a_rate_is_said_where_it_says_something(fetched: int, seconds: float, rate: str) -> None:
    received = Received("i", "/x", 1, fetched, fetched, seconds)
    assert shown(received).endswith(f" in {seconds:.1f} s{rate}, verified")


def test_an_event_is_not_wider_either() -> None:
    assert isinstance(_event(Progress(phase="receiving", done=1)), Event)
