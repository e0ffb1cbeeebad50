"""JSON of what may have paths in it: a name on this disk can be any bytes, and what is no UTF-8 is half a pair.

Such halves of surrogate pairs are written as their escapes (`\\udcff`), as Python's own `json` does, and read again.
Anything else is as `msgspec.json` has it.
"""

import json
from typing import Any, TypeVar

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """`value` as JSON. Raises `TypeError` for what has no such form."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value, str_keys=True)).encode()


@decoder(UsageError, "JSON")
def decode(raw: bytes, kind: type[T]) -> T:
    """What `encode` wrote, as `kind`. Raises `UsageError`: it is no such thing."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if b"\\ud" not in raw:
            raise
        return msgspec.convert(json.loads(raw), kind)
