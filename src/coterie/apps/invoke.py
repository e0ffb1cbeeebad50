"""One call of a declared command, the same for every face: plain parameters in, events and a result out."""

import functools
import importlib
import inspect
import math
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from coterie.apps.command import Command, Live, Progress, commands_of
from coterie.apps.parameter import TEXTS, Duration, Here, Parameter, Rate, Size, Target
from coterie.decoding import decoder
from coterie.errors import CoterieError, UsageError
from coterie.plain_text import in_utf8, lines, with_one_line_fields
from coterie.quantity import read_duration, read_rate, read_size
from coterie.texts import tr

_QUANTITIES: Mapping[Any, Callable[[str], int]] = {
    Duration: read_duration,
    Size: read_size,
    Rate: read_rate,
}
_TEXTS = (*TEXTS, Path, Here, Target)

_TOLD = frozenset(
    {"note", "reason", "problem", "state", "source", "dropped", "troubles"}
)  # fields with text of errors
NUMBER_MAX = 2**53 - 1  # what every JSON parser reads exactly; enough for bytes, seconds and counts


class Event(msgspec.Struct, frozen=True):
    """What a command tells while it works: the Struct's name, its fields as plain values, its text if any.

    `is_live`: it is what was asked for, and not only how far that is.
    """

    kind: str
    fields: Mapping[str, Any]
    text: str | None = None
    is_live: bool = False

    def line(self) -> dict[str, Any]:
        """As one object of JSON, as the local API sends it."""
        said = {} if self.text is None else {"text": self.text}
        live = {"live": True} if self.is_live else {}
        return {"event": self.kind, **said, **live, **self.fields}


class Result(msgspec.Struct, frozen=True):
    """What a command returned, as plain values, and its text for people when it has one.

    `incomplete`: something that was asked for is missing; the value says what. `over`: nothing more comes of it, also
    of a command that keeps a node up.
    """

    value: Any
    text: str | None = None
    incomplete: bool = False
    over: bool = False

    def line(self) -> dict[str, Any]:
        """As one object of JSON, as the local API sends it."""
        said = {} if self.text is None else {"text": self.text}
        incomplete = {"incomplete": True} if self.incomplete else {}
        return {"result": self.value, **said, **incomplete, **({"over": True} if self.over else {})}


def load_commands(app: str, module: str) -> list[Command]:
    """The commands of `app`, declared in the module called `module`."""
    return commands_of(app, importlib.import_module(module))


def to_plain(value: Any) -> Any:
    """`value` as JSON-like builtins; paths, peer ids and the like become their text.

    Bytes of a name that is no UTF-8 are shown as "\\xff": no output could carry what stands for them.
    """
    return _in_utf8(msgspec.to_builtins(value, enc_hook=str))


def _in_utf8(plain: Any) -> Any:
    match plain:
        case str():
            return in_utf8(plain)
        case dict():
            return {_in_utf8(key): _in_utf8(member) for key, member in plain.items()}
        case list():
            return [_in_utf8(member) for member in plain]
    return plain


@functools.cache
def parameters_type(command: Command) -> type[msgspec.Struct]:
    """A Struct type that holds, and so validates and describes, the parameters of `command`."""
    fields = [_field(parameter) for parameter in command.parameters]
    name = "".join(word.title() for part in (command.app, *command.path) for word in part.split("-"))
    return msgspec.defstruct(f"{name}Parameters", fields, kw_only=True, forbid_unknown_fields=True)


@decoder(UsageError, "a parameter")
def read_parameters(command: Command, raw: Any) -> dict[str, Any]:
    """Arguments for the function of `command` from plain values.

    Raises:
        UsageError: unknown, missing or of the wrong type; names the parameter.
    """
    words = " ".join(command.path)
    if not isinstance(raw, Mapping):
        raise UsageError(tr("{words}: the parameters must be one JSON object", words=words))
    known = {parameter.name for parameter in command.parameters}
    for name in raw:
        if name not in known:
            listed = ", ".join(p.name for p in command.parameters) or "none"
            raise UsageError(
                tr(
                    "{words}: unknown parameter {name!r}; known: {listed}",
                    words=words,
                    name=str(name)[:100],
                    listed=listed,
                )
            )
    try:
        checked = msgspec.convert(raw, parameters_type(command))
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        raise UsageError(f"{words}: {place.rstrip('`') + ': ' if place else ''}{reason}") from None
    return {p.name: _argument(words, p, getattr(checked, p.name)) for p in command.parameters}


async def invoke(
    command: Command,
    service: Any,
    raw: Mapping[str, Any],
    *,
    in_names: Callable[[str], str] = str,
) -> AsyncGenerator[Event | Result, None]:
    """Run `command` on `service`: its events as they come, then exactly one `Result`.

    Closing the iterator early cancels the command. Errors, and fields with the text of one, are said `in_names`: they
    come from where only ids are known.
    """
    try:
        async with aclosing(_invoke(command, service, raw, in_names)) as items:
            async for item in items:
                yield item
    except CoterieError as error:
        error.args = (in_names(str(error)), *error.args[1:])
        raise
    except SystemExit as error:  # it would end the node, and not the call
        raise RuntimeError(f"the command wanted to end the program: sys.exit({error.code!r})") from error


async def _invoke(
    command: Command, service: Any, raw: Mapping[str, Any], in_names: Callable[[str], str]
) -> AsyncGenerator[Event | Result, None]:
    arguments = read_parameters(command, raw)
    if not command.streams:
        value = command.function(service, **arguments)
        yield _result(await value if inspect.isawaitable(value) else value, in_names)
        return
    held: Any = None  # only the last item is the result, and nobody knows yet which that is
    try:
        async with aclosing(command.function(service, **arguments)) as items:
            async for item in items:
                if held is not None:
                    yield _event(held, in_names)
                held = None if isinstance(item, Progress | Live) else item
                if held is None:
                    yield _event(item, in_names)
    except Exception:
        if held is not None:
            yield _event(held, in_names)
        raise
    yield _result(held, in_names)


def _field(parameter: Parameter) -> tuple[str, Any, Any] | tuple[str, Any]:
    hint = str if parameter.type in _TEXTS else parameter.type
    if parameter.many:
        hint = list[str]
    if hint in _QUANTITIES:
        hint = float | str if hint is Duration else int | str
    if parameter.optional:
        hint = hint | None
    if parameter.required:
        return parameter.name, hint
    if isinstance(parameter.default, list):
        return parameter.name, hint, msgspec.field(default_factory=list)
    default = str(parameter.default) if isinstance(parameter.default, Path) else parameter.default
    return parameter.name, hint, default


def _argument(words: str, parameter: Parameter, value: Any) -> Any:
    if parameter.type in (Path, Here) and value is not None:
        return _path(words, parameter, value)
    if parameter.type is Target and value is not None:
        path, is_folder = str(_path(words, parameter, value)), value.endswith((os.sep, os.altsep or os.sep))
        return os.path.join(path, "") if is_folder else path
    if fault := next(filter(None, map(_fault, value if isinstance(value, list) else [value])), ""):
        raise UsageError(f"{words}: {parameter.name} {fault}")
    return (
        _quantity(words, parameter, value) if parameter.type in _QUANTITIES and value is not None else value
    )


def _path(words: str, parameter: Parameter, value: str) -> Path:
    path = Path(value)
    if not path.is_absolute():
        raise UsageError(
            tr(
                "{words}: {parameter} must be an absolute path, not {value!r}",
                words=words,
                parameter=parameter.name,
                value=value,
            )
        )
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError
    except ValueError:
        raise UsageError(
            tr(
                "{words}: {parameter} is no path that this system can have",
                words=words,
                parameter=parameter.name,
            )
        ) from None
    return path


def _quantity(words: str, parameter: Parameter, value: float | str) -> float:
    """A number from what a person or a program gave. Raises `UsageError` for text that is none, and below zero."""
    try:
        number = _QUANTITIES[parameter.type](value) if isinstance(value, str) else value
        if not 0 <= number < math.inf:
            raise ValueError(f"{number} is below zero or without end")
    except ValueError as error:
        raise UsageError(f"{words}: {parameter.name}: {error}") from None
    return number


def _fault(value: Any) -> str:
    """What no command can take: the disk, the database and the network have no such text or number."""
    match value:
        case str() if "\0" in value:
            return "has a zero byte in it"
        case str() if any("\ud800" <= char <= "\udfff" for char in value):
            return "is no text: it has bytes that are no UTF-8"
        case bool():
            return ""
        case int() if abs(value) > NUMBER_MAX:
            return f"is a number beyond {NUMBER_MAX:,}"
        case float() if not math.isfinite(value) or abs(value) > NUMBER_MAX:
            return f"is no number up to {NUMBER_MAX:,}"
    return ""


def _event(item: Any, in_names: Callable[[str], str] = str) -> Event:
    item = _with_names(item, in_names)
    plain = to_plain(item)
    fields = plain if isinstance(plain, dict) else {"value": plain}
    return Event(type(item).__name__, fields, _text(item), isinstance(item, Live))


def _result(value: Any, in_names: Callable[[str], str] = str) -> Result:
    value = _with_names(value, in_names)
    members = value if isinstance(value, list) else [value]
    incomplete = any(_says(member, "is_incomplete") for member in members)
    return Result(to_plain(value), _text(value), incomplete, _says(value, "is_over"))


def _with_names(value: Any, in_names: Callable[[str], str], *, is_told: bool = False) -> Any:
    """`value` with names for ids in its fields that tell what happened, as errors do."""
    match value:
        case str() if is_told and type(value) is str:
            return in_names(value)
        case list():
            return [_with_names(member, in_names, is_told=is_told) for member in value]
        case msgspec.Struct():
            old = {name: getattr(value, name) for name in value.__struct_fields__}
            new = {name: _with_names(f, in_names, is_told=name in _TOLD) for name, f in old.items()}
            return msgspec.structs.replace(value, **new) if new != old else value
    return value


def _says(value: Any, what: str) -> bool:
    """Whether `value` itself says that: that something is missing, that it is over."""
    say = getattr(value, what, None)
    return bool(say()) if callable(say) and isinstance(value, msgspec.Struct) else False


def _text(value: Any) -> str | None:
    """What `value` says for people; for a list, when each of its members has a text, one after the other.

    Names of others stand in it: the lines are ours alone.
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        texts = [_text(member) for member in value]
        return "\n".join(text for text in texts if text is not None) if None not in texts else None
    if not isinstance(value, msgspec.Struct) or not callable(getattr(value, "text", None)):
        return None
    return lines(str(with_one_line_fields(value).text()))
