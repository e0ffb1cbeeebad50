"""What permissions are about: a resource is a path that begins with its kind; a verb is what is done to it.

    files/k3fw7a/2024/summer     the folder 2024/summer of the share k3fw7a
    protocol/chat                streams of the protocol chat

Who may do something to a resource may do it to everything below. Names compare byte for byte, as those of files do.
"""

from collections.abc import Sequence
from enum import IntFlag

import msgspec

from coterie.errors import UsageError
from coterie.texts import tr

RESOURCE_BYTES_MAX = 255  # guess: a share and six folders; four links of a grant with such stay below 2 kB
PARTS_MAX = 24  # guess: twice as deep as people nest folders; bounds the work of a decision
SEPARATOR = "/"


class Verb(IntFlag):
    """What may be done. Several together are a set of verbs; the numbers are on the wire."""

    LIST = 1
    READ = 2
    WRITE = 4
    USE = 8
    ADMINISTER = 16


ALL_VERBS = Verb.LIST | Verb.READ | Verb.WRITE | Verb.USE | Verb.ADMINISTER


class ResourceKind(msgspec.Struct, frozen=True):
    """A kind of resources as an app declares it: its name, the verbs that make sense for it, what it is in one line.

    `called`: what people read before the name of one, "the share" before photos; empty: the kind itself, files/photos.
    """

    name: str
    verbs: Verb
    what: str
    called: str = ""


PROTOCOL = ResourceKind("protocol", Verb.USE, "streams of that protocol", called="the protocol")
"""The one kind of the core; every other one is declared by an app (`App.kinds`)."""


def kind_fault(kind: ResourceKind) -> str | None:
    """What is wrong with the declaration of a kind, or None."""
    if SEPARATOR in kind.name or resource_fault(kind.name):
        return f"'{kind.name}' cannot be a kind of resources"
    if not kind.verbs or int(kind.verbs) & ~int(ALL_VERBS):
        return f"the kind '{kind.name}' has no verbs, or some that do not exist"
    return None


def parse_verbs(text: str, kind: str = "", possible: Verb = ALL_VERBS) -> Verb:
    """The set in "read,list". Raises `UsageError` for a verb that is none, or none of the `possible` ones of `kind`."""
    verbs = Verb(0)
    for word in text.replace(",", " ").split():
        verb = Verb.__members__.get(word.upper())
        if verb is None or not verb & possible:
            known = ", ".join(v.name.lower() for v in Verb if v & possible and v.name)
            raise UsageError(
                tr(
                    "'{word}' is nothing one can do to {kind}; there are {known}",
                    word=word,
                    kind=kind or "a resource",
                    known=known,
                )
            )
        verbs |= verb
    if not verbs:
        raise UsageError(tr("say what may be done: one or more verbs, like read,list"))
    return verbs


def say_verbs(verbs: Verb) -> str:
    """A set of verbs in words: "list, read"."""
    return ", ".join(v.name.lower() for v in Verb if v & verbs and v.name)


def resource_fault(text: str) -> str | None:
    """What keeps `text` from being a resource, or None."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if size > RESOURCE_BYTES_MAX:
        return f"is longer than {RESOURCE_BYTES_MAX} bytes"
    parts = text.split(SEPARATOR)
    if len(parts) > PARTS_MAX:
        return f"is deeper than {PARTS_MAX} levels"
    kind = parts[0]
    if not (kind and kind.isascii() and kind.replace("-", "").isalnum() and kind == kind.lower()):
        return "does not begin with a kind, like files or protocol"
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return "has an empty part, '.' or '..'"
    return None


def checked_resource(text: str) -> str:
    """`text` if it is a resource. Raises `UsageError` that says what is wrong with it."""
    fault = resource_fault(text)
    if fault:
        raise UsageError(tr("{text!r} is no resource: it {fault}", text=text[:100], fault=fault))
    return text


def kind_of(resource: str) -> str:
    """The first part of a resource."""
    return resource.partition(SEPARATOR)[0]


def covers(wide: str, narrow: str) -> bool:
    """Whether `narrow` is `wide` or below it."""
    return narrow == wide or (narrow.startswith(wide) and narrow[len(wide)] == SEPARATOR)


def with_parents(resource: str) -> Sequence[str]:
    """`resource` and everything above it, widest first."""
    parts = resource.split(SEPARATOR)
    return [SEPARATOR.join(parts[: count + 1]) for count in range(len(parts))]
