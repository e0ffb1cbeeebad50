"""The one way to take apart what others sent: whatever a decoder stumbles over becomes an error that names the culprit.

    @decoder(PeerError, "a ticket")
    def read_ticket(raw: bytes) -> Ticket: ...

A library that decodes may fail in more ways than its documentation says: nested too deep, no UTF-8, a number beyond all
bounds. None of them may end a task of the node or reach a person as "unexpected". `tests/test_decoders.py` finds what
is decoded elsewhere, and gives every decoder mutated samples.
"""

import functools
import struct
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec

from coterie.errors import CoterieError

P = ParamSpec("P")
T = TypeVar("T")
REASON_CHARS_MAX = 100  # of what a library says
FAULTS = (
    ValueError,  # no UTF-8, no base 32, a number of too many digits; what a Struct's own checks raise
    msgspec.MsgspecError,
    RecursionError,
    ArithmeticError,
    LookupError,
    TypeError,
    SyntaxError,  # what the standard library's XML parser raises
    struct.error,
)
DECODERS: dict[
    str, Callable[..., object]
] = {}  # by "module:name": for tests, which give each mutated samples


def decoder(refusal: Callable[[str], CoterieError], what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a function that decodes; what fails in it is raised as `refusal("WHAT cannot be read: REASON")`.

    Its own `CoterieError`s pass.
    """

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def decode(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except FAULTS as error:
                raise refusal(f"{what} cannot be read: {reason(error)}") from None

        DECODERS[f"{function.__module__}:{function.__qualname__}"] = decode
        return decode

    return mark


def reason(error: BaseException) -> str:
    """What a library says about bytes that it cannot decode, in a few words."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    said = str(error)[:REASON_CHARS_MAX]
    return said if said and not isinstance(error, LookupError) else type(error).__name__
