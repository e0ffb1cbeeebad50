"""The one thing that somebody means by a name or an id, of several: else what to say. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from coterie.errors import NotFound, UsageError
from coterie.texts import tr

SHOWN_MAX = 5  # ids in the question which one was meant
T = TypeVar("T")


def the_one(text: str, found: Sequence[tuple[str, T]], nothing: str = "") -> T:
    """The only one of those `found` for what somebody wrote, each with the id or name that tells it from the others.

    Raises:
        NotFound: there is none; says `nothing`.
        UsageError: there are several; says how each is named.
    """
    if not found:
        raise NotFound(nothing)
    if len(found) > 1:
        names = ", ".join(sorted(name for name, _ in found)[:SHOWN_MAX])
        raise UsageError(tr("'{text}' may be any of {names}; say which", text=text, names=names))
    return found[0][1]
