"""Commands: typed functions declared once; the command line and the HTTP API are rendered from them.

    @command("path")
    async def share(files: FilesService, path: Path, *, name: str = "") -> SharedItem:
        '''Share a file or folder.

        path: What to share.
        name: Shown to others instead of the file name.
        '''

The first parameter is the app's service and is filled in by the node. Names given to `command` are
positional on the command line, all others are options. A parameter is `str`, `int`, `float`, `bool`, `Path`, a `Literal`, an
optional of these, or a `list[str]`; a `Path` is made absolute where the user stands. A function returns a `msgspec.Struct`, a list of
them, or None; an async generator yields progress events (Structs) and last its result. A Struct may have a
`text()` method that says it for people.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__coterie_command__"


@dataclass(frozen=True)
class Choice:
    """A question that the command line asks on an error: a key to press, what it says, the options it sets."""

    key: str
    label: str
    sets: Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a command: `type` is the annotation without its optional part."""

    name: str
    type: Any
    required: bool
    default: Any
    help: str
    positional: bool


@dataclass(frozen=True)
class Command:
    """A declared command. `path` is its words on the command line, e.g. ("transfers", "pause")."""

    app: str
    path: tuple[str, ...]
    function: Callable[..., Any]
    summary: str
    details: str
    parameters: tuple[Parameter, ...]
    returns: Any
    streams: bool
    stays: bool
    asks: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)


def command(
    *positional: str,
    path: str = "",
    stays: bool = False,
    asks: Mapping[str, tuple[Choice, ...]] | None = None,
) -> Callable[[F], F]:
    """Declare a command.

    Args:
        positional: parameters without a dash on the command line, in order.
        path: words on the command line, e.g. "transfers pause"; the function's name when empty.
        stays: without a running node, the command line keeps its own node up afterwards, until Ctrl-C.
        asks: for an error code, what a person at a terminal is asked; the call is repeated with what the answer sets.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, (positional, path, stays, asks or {}))
        return function

    return mark


def commands_of(app: str, module: ModuleType) -> list[Command]:
    """Every command declared in `module`, in the order of the source."""
    found = [f for f in vars(module).values() if inspect.isfunction(f) and hasattr(f, _MARK)]
    return [_describe(app, function) for function in found]


def _describe(app: str, function: Callable[..., Any]) -> Command:
    positional, path, stays, asks = getattr(function, _MARK)
    summary, details, notes = _read_docstring(inspect.getdoc(function) or "")
    hints = typing.get_type_hints(function)
    parameters = tuple(
        Parameter(
            name=p.name,
            type=hints[p.name],
            required=p.default is inspect.Parameter.empty,
            default=None if p.default is inspect.Parameter.empty else p.default,
            help=notes.get(p.name, ""),
            positional=p.name in positional,
        )
        for p in list(inspect.signature(function).parameters.values())[1:]
    )
    return Command(
        app=app,
        path=tuple((path or function.__name__.rstrip("_").replace("_", "-")).split()),
        function=function,
        summary=summary,
        details=details,
        parameters=parameters,
        returns=hints.get("return"),
        streams=inspect.isasyncgenfunction(function),
        stays=stays,
        asks=asks,
    )


def _read_docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """Summary line, details, and the `name: help` lines of the last paragraph."""
    summary, _, rest = text.partition("\n")
    notes: dict[str, str] = {}
    details: list[str] = []
    for line in rest.strip().splitlines():
        name, colon, note = line.partition(": ")
        if colon and name.isidentifier():
            notes[name] = note.strip()
        elif line.startswith("    ") and notes:
            last = next(reversed(notes))
            notes[last] += " " + line.strip()
        else:
            details.append(line)
    return summary, "\n".join(details).strip(), notes
