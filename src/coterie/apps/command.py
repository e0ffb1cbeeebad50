"""Commands: typed functions declared once; the command line and the HTTP API are rendered from them.

    @command("path")
    async def share(files: FilesService, path: Path, *, name: str = "") -> SharedItem:
        '''Share a file or folder.

        path: What to share.
        name: Shown to others instead of the file name.
        '''

The first parameter is the app's service and is filled in by the node; its annotation is never evaluated, so the
service may be imported under TYPE_CHECKING only. Names given to `command` are positional on the command line, all
others are options. A parameter is `str`, `int`, `float`, `bool`, `Path`, one of the types in `coterie.apps.parameter`
(`Peer`, `Person`, `Place`, `Secret`, `Duration`, `Size`, ...), a `Literal`, an optional of these, or a list of texts; a
`Path` or `Target` is made absolute where the user stands. A text that may be a path among other things stays as it was
typed; where it was typed, a command line says in the parameter of the type `Here`. A function returns a
`msgspec.Struct`, a list of them, or None; an async generator yields events (Structs) and last its result. A Struct may
have a `text()` method that says it for people, and an `is_incomplete()` method that says whether something of what was
asked for is missing (the command line then ends with a status of its own). An `is_over()` method says that nothing more
comes of it: a command that `stays` then ends. `Progress` is always an event: it is passed on at once and is never taken
for the result. So is a `Live`, which command lines print as they print results.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from coterie.apps.parameter import (
    SECRETS,
    Duration,
    Here,
    Parameter,
    PathOrPerson,
    Peer,
    Person,
    Place,
    Rate,
    Resource,
    Secret,
    Size,
    Target,
    Ticket,
    Values,
    Verbs,
    read_annotation,
)
from coterie.progress import Live, Progress

__all__ = [
    "PURPOSES",
    "Choice",
    "Command",
    "Duration",
    "Here",
    "Live",
    "Needs",
    "Parameter",
    "PathOrPerson",
    "Peer",
    "Person",
    "Place",
    "Progress",
    "Rate",
    "Resource",
    "Secret",
    "Size",
    "Target",
    "Ticket",
    "Values",
    "Verbs",
    "command",
    "commands_of",
]

F = TypeVar("F", bound=Callable[..., Any])
Needs = Literal["network", "others", "store", "running"]
PURPOSES = ("Share and get", "People", "Permissions", "This computer", "The network")
"""The headings that commands stand under, what people do first before the rest; others come after these."""
_MARK = "__coterie_command__"


class Choice(msgspec.Struct, frozen=True):
    """An answer the command line offers on an error: a key to press, what it says, the options it sets."""

    key: str
    label: str
    sets: Mapping[str, Any]


class Command(msgspec.Struct, frozen=True, eq=False):
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
    asks: Mapping[str, tuple[Choice, ...]] = msgspec.field(default_factory=dict)
    needs: Needs = "network"
    interrupt_text: str = ""
    empty_text: str = ""
    prompts: Mapping[str, str] = msgspec.field(default_factory=dict)
    purpose: str = ""
    kind: str = ""
    title: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parameters that open something."""
        return tuple(p.name for p in self.parameters if p.type in SECRETS)


class _Declaration(msgspec.Struct, frozen=True):
    positional: tuple[str, ...]
    path: str
    stays: bool
    asks: Mapping[str, tuple[Choice, ...]]
    needs: Needs
    interrupt_text: str
    returns: str
    empty_text: str
    prompts: Mapping[str, str]
    purpose: str
    kind: str
    title: str


def command(  # noqa: PLR0913 - all but the first are named options
    *positional: str,
    path: str = "",
    stays: bool = False,
    asks: Mapping[str, tuple[Choice, ...]] | None = None,
    needs: Needs = "network",
    interrupt_text: str = "",
    returns: str = "",
    empty_text: str = "",
    prompts: Mapping[str, str] | None = None,
    purpose: str = "",
    kind: str = "",
    title: str = "",
) -> Callable[[F], F]:
    """Declare a command.

    Args:
        positional: parameters without a dash on the command line, in order.
        path: words on the command line, e.g. "transfers pause"; the function's name when empty.
        stays: without a running node, the command line keeps its own node up afterwards, until Ctrl-C.
        asks: for an error code, what a person at a terminal is asked; the call is repeated with what the
            answer sets.
        needs: without a running node the command line opens one with the network, or offline when only the
            "store" is needed. Who needs "others" only, asks them and is not to be found by them: the node is there at
            once, and tells of itself when the command lasts. "running" commands say that no node is running.
        interrupt_text: said after Ctrl-C: what is kept and how to go on.
        returns: "module:name" of the result's type, where importing it would slow down the command line.
        empty_text: said instead of an empty list.
        prompts: parameters that a command line asks for with these words when they are not given: secrets, which
            are not to stand in the history of a shell.
        purpose: the heading it stands under in help pages; when empty, the `PURPOSE` of its module.
        kind: the kind of resources (`App.kinds`) that it offers to others: its help says which verbs they have.
        title: what a page calls it; when empty, the beginning of its summary.
    """
    declaration = _Declaration(
        positional,
        path,
        stays,
        asks or {},
        needs,
        interrupt_text,
        returns,
        empty_text,
        prompts=prompts or {},
        purpose=purpose,
        kind=kind,
        title=title,
    )

    def mark(function: F) -> F:
        setattr(function, _MARK, declaration)
        return function

    return mark


def commands_of(app: str, module: types.ModuleType) -> list[Command]:
    """Every command declared in `module` itself, in the order of the source.

    Raises:
        TypeError: a declaration that no face can render; names the function and the parameter.
    """
    found = [f for f in vars(module).values() if inspect.isfunction(f) and hasattr(f, _MARK)]
    return [_describe(app, function) for function in found if function.__module__ == module.__name__]


def _describe(app: str, function: Callable[..., Any]) -> Command:
    declared: _Declaration = getattr(function, _MARK)
    summary, details, notes = _read_docstring(inspect.getdoc(function) or "")
    _, *signature = inspect.signature(function).parameters.values()
    hints = _hints(function)
    unknown = {*declared.positional, *declared.prompts} - {p.name for p in signature}
    if unknown:
        raise TypeError(f"{function.__qualname__}: no parameter named {', '.join(sorted(unknown))}")
    parameters = [_parameter(function, p, hints, notes, p.name in declared.positional) for p in signature]
    order = {name: place for place, name in enumerate(declared.positional)}
    parameters.sort(key=lambda p: order.get(p.name, len(order)))
    return Command(
        app=app,
        path=tuple((declared.path or function.__name__.rstrip("_").replace("_", "-")).split()),
        function=function,
        summary=summary,
        details=details,
        parameters=tuple(parameters),
        returns=declared.returns or hints.get("return"),
        streams=inspect.isasyncgenfunction(function),
        stays=declared.stays,
        asks=declared.asks,
        needs=declared.needs,
        interrupt_text=declared.interrupt_text,
        empty_text=declared.empty_text,
        prompts=declared.prompts,
        kind=declared.kind,
        title=declared.title,
        purpose=declared.purpose or getattr(function, "__globals__", {}).get("PURPOSE", ""),
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Evaluated annotations of all but the first parameter."""
    first = next(iter(inspect.signature(function).parameters))
    annotations = {name: hint for name, hint in inspect.get_annotations(function).items() if name != first}
    stand_in = types.FunctionType((lambda: None).__code__, getattr(function, "__globals__", {}))
    stand_in.__annotations__ = annotations
    return typing.get_type_hints(stand_in, include_extras=True)


def _parameter(
    function: Callable[..., Any],
    declared: inspect.Parameter,
    hints: Mapping[str, Any],
    notes: Mapping[str, str],
    positional: bool,
) -> Parameter:
    read = read_annotation(hints.get(declared.name))
    if read is None:
        raise TypeError(
            f"{function.__qualname__}: a command cannot take {declared.name}: {hints.get(declared.name)}"
        )
    kind, optional, many, values = read
    required = declared.default is inspect.Parameter.empty
    return Parameter(
        name=declared.name,
        type=kind,
        required=required,
        default=None if required else declared.default,
        help=notes.get(declared.name, ""),
        positional=positional,
        optional=optional,
        many=many,
        values=values,
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
