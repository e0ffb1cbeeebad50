"""The form of a command, from its declaration; and the parameters that a filled form says. Pure."""

import posixpath
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from coterie.apps.command import Command
from coterie.apps.parameter import (
    NAMES,
    SECRETS,
    Duration,
    Here,
    Parameter,
    Rate,
    Size,
)
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.quantity import write_duration
from coterie.texts import translated
from coterie.web.results import word
from coterie.wire.ticket import holds_ticket

FIELDS_MAX = 1_000  # of one form
SUGGESTED: Mapping[Any, tuple[str, ...]] = {
    Duration: ("15m", "1h", "8h", "1d", "7d", "30d"),
    Size: ("100MB", "1GB", "10GB", "100GB"),
    Rate: ("500kB/s", "1MB/s", "5MB/s", "0"),
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One control of a form.

    Fields:
        kind: "text", "number", "switch", "choice", "many", "path", "secret", or the name of a type (`NAMES`). A
            "ticket" may be a place as well, which everybody may read: what is typed is masked once it is a ticket.
        label, help: for people.
        options: what may be chosen (`choice`), or is suggested.
        is_listed: whether the node lists what it may be.
    """

    name: str
    kind: str
    label: str
    help: str
    value: str
    is_required: bool
    is_main: bool
    options: tuple[str, ...] = ()
    is_listed: bool = False
    is_many: bool = False
    is_masked: bool = False


def fields_of(command: Command, given: Mapping[str, str] | None = None) -> list[Field]:
    """A control for each parameter of `command`, with what is `given` already."""
    return [_field(parameter, given or {}) for parameter in command.parameters if parameter.type is not Here]


def _field(parameter: Parameter, given: Mapping[str, str]) -> Field:
    kind: str = "text"
    options: tuple[str, ...] = ()
    if parameter.type is bool:
        kind = "switch"
    elif typing.get_origin(parameter.type) is Literal:
        kind, options = "choice", tuple(map(str, typing.get_args(parameter.type)))
    elif parameter.type in (int, float):
        kind = "number"
    elif parameter.type in NAMES:
        kind, options = NAMES[parameter.type], SUGGESTED.get(parameter.type, ())
    value = given.get(parameter.name, _default(parameter))
    return Field(
        name=parameter.name,
        kind=kind,
        label=word(parameter.name.rstrip("_")),
        help=translated(parameter.help),
        value=value,
        is_required=parameter.required,
        is_main=parameter.positional or parameter.required,
        options=options,
        is_listed=parameter.values is not None,
        is_many=parameter.many,
        is_masked=kind == "secret" or (kind == "ticket" and holds_ticket(value)),
    )


def _default(parameter: Parameter) -> str:
    default = parameter.default
    if default is None or default == "" or isinstance(default, list):
        return ""
    if parameter.type is Duration:
        return write_duration(default)
    if isinstance(default, bool):
        return "on" if default else ""
    return str(default)


@decoder(UsageError, "a form")
def read_pairs(body: bytes) -> list[tuple[str, str]]:
    """The pairs of a form that a browser sent. Raises `UsageError`."""
    return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=FIELDS_MAX)


def read_form(command: Command, form: Sequence[tuple[str, str]], here: str) -> dict[str, Any]:
    """Plain parameters from the pairs of a form; what is left empty is left out. `here`: the folder of its owner,
    from which paths of this computer start.

    Numbers are left as they are typed where they are none: reading the parameters says what is wrong.
    """
    raw: dict[str, Any] = {}
    for parameter in command.parameters:
        said = [value for name, value in form if name == parameter.name]
        if parameter.type is Here:
            raw[parameter.name] = here
        elif parameter.type is bool:
            raw[parameter.name] = "on" in said
        elif parameter.many:
            listed = [line.strip() for value in said for line in value.splitlines() if line.strip()]
            if listed or parameter.required:
                raw[parameter.name] = [_value(parameter, line, here) for line in listed]
        elif any(said):
            raw[parameter.name] = _value(parameter, next(value for value in said if value), here)
        elif parameter.required:
            raw[parameter.name] = "" if parameter.type not in (int, float) else None
    return raw


def _value(parameter: Parameter, text: str, here: str) -> Any:
    if parameter.type in NAMES and NAMES[parameter.type] == "path":
        return posixpath.join(here, text.strip().removeprefix("~/"))
    if parameter.type in (int, float):
        try:
            return parameter.type(text)
        except ValueError:
            return text
    return text if parameter.type in SECRETS else text.strip()
