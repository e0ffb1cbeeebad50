"""What a parameter of a command is: so that faces read it, check it, and offer what it may be.

Completion in shells, pickers of other faces and the description of the API know a parameter by its type alone.
"""

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import msgspec

Duration = NewType("Duration", float)  # seconds; people write 90s, 15m, 8h, 7d, 2w
Size = NewType("Size", int)  # bytes; people write 500, 20kB, 1.5GB
Rate = NewType("Rate", int)  # bytes a second, 0 for no limit; people write 500kB/s, 2MB/s
Here = NewType(
    "Here", Path
)  # the folder where the user stands: a command line gives it, nobody is asked for it
Target = NewType("Target", str)  # a path; with a separator at its end a folder, which need not be there
Peer = NewType("Peer", str)  # a computer: a name, an id, or the beginning of one
Person = NewType("Person", str)  # whom something is for: a person, a circle, CIRCLE:guest, contacts, anyone
Place = NewType("Place", str)  # what somebody offers, and what is in it: anna, anna/photos/2024
Secret = NewType("Secret", str)  # what opens something: a code, an invitation, a grant, words on paper
Ticket = NewType("Ticket", str)  # a ticket, which opens something, or a place
PathOrPerson = NewType("PathOrPerson", str)  # a file or folder, or a name, in a list of both
Resource = NewType("Resource", str)  # what is permitted: its kind and what people call it, like files/photos
Verbs = NewType("Verbs", str)  # what is permitted to do with it, like read,list

NAMES: Mapping[Any, str] = {
    Duration: "duration",
    Size: "size",
    Rate: "rate",
    Path: "path",
    Here: "path",
    Target: "path",
    Peer: "peer",
    Person: "person",
    Place: "place",
    Secret: "secret",
    Ticket: "ticket",
    PathOrPerson: "path-or-person",
    Resource: "resource",
    Verbs: "verbs",
}
"""The types that say more than text, number or switch, by the names that the API calls them."""

TEXTS = (str, Peer, Person, Place, Secret, Ticket, PathOrPerson, Resource, Verbs)
SECRETS = (Secret, Ticket)
"""Command lines read these from standard input where they are given as "-": no list of processes shows them."""

_PLAIN = (*TEXTS, int, float, bool, Path, Here, Target, Duration, Size, Rate)


class Values(msgspec.Struct, frozen=True):
    """Where what a parameter may be is listed: the `field` of each line that a command returns.

    Of an app's own things: `Share = Annotated[str, Values("shares", "name")]`.

    Fields:
        command: its words, of the same app; of `app` where that is said.
        given: parameters that stand before this one, and that the command takes too.
    """

    command: str
    field: str
    app: str = ""
    given: tuple[str, ...] = ()


LISTED: Mapping[Any, Values] = {
    Peer: Values("ls", "name", app="node"),
    Person: Values("people", "name", app="node"),
    PathOrPerson: Values("ls", "name", app="node"),
    Resource: Values("resources", "resource", app="node"),
}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a command: `type` is the annotation without None, `optional` whether it had one.

    `many`: it is a list of what `type` says. `values`: where what it may be is listed.
    """

    name: str
    type: Any
    required: bool
    default: Any
    help: str
    positional: bool
    optional: bool = False
    many: bool = False
    values: Values | None = None


def read_annotation(hint: Any) -> tuple[Any, bool, bool, Values | None] | None:
    """The `type`, `optional`, `many` and `values` of a `Parameter` with this annotation; None: no face renders it."""
    hint, optional = _without_none(hint)
    many = typing.get_origin(hint) is list
    hint, values = _without_values(typing.get_args(hint)[0] if many else hint)
    if hint not in _PLAIN and typing.get_origin(hint) is not Literal:
        return None
    if many and hint not in TEXTS:
        return None
    return hint, optional, many, values or LISTED.get(hint)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """`X | None` as (X, True), anything else as (itself, False)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kept = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(kept) == 1:
            return kept[0], True
    return hint, False


def _without_values(hint: Any) -> tuple[Any, Values | None]:
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    kind, *notes = typing.get_args(hint)
    return kind, next((note for note in notes if isinstance(note, Values)), None)
