"""A folder that moved as a whole, as one message: which writes that is, on every computer the same. Pure.

Who renamed the folder writes two registers for each path in it, as for any rename: what was at the old path is at the
new one, and the old one is gone. All of it follows from what stood before and from a few numbers. So only these are
told, with a digest of what stood before: where the digest is another, the writes are asked for one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from blake3 import blake3

from coterie.apps.folders import names
from coterie.apps.folders.register import DEPTH_MAX, NOTHING, Dot, Kind, Register, Value, unpack

PATHS_MAX = 200_000  # that move in one; guess: a folder of so many files moves in some 10 s
DIGEST_BYTES = 32


class FolderMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All writes of one move.

    Fields:
        source, target: the paths of the folder before and after.
        replica, counter: who wrote, and the number of its first write in this.
        count: how many paths moved, that of the folder among them. There are twice as many writes.
        by, at_ms: as in `Value`.
        digest: of what stood before at all those paths, and at those to which they moved.
    """

    source: str
    target: str
    replica: bytes
    counter: int
    count: int
    by: bytes
    at_ms: int
    digest: bytes = b""


class Before(NamedTuple):
    """One path in the folder: its packed register, and that of the path to which it moves (empty: none)."""

    path: str
    body: bytes
    there: bytes


class Place(NamedTuple):
    """What becomes of one path: `old`, written as `dot`, stood at it; its new path is `new`, it is itself `gone`."""

    path: str
    dot: Dot
    old: Value
    target: str
    new: Register
    gone: Register


def digest_of(rows: Sequence[Before]) -> bytes:
    """The digest of what stood before."""
    hasher = blake3()
    for at in range(0, len(rows), 1_000):
        hasher.update(msgspec.msgpack.encode(rows[at : at + 1_000]))
    return hasher.digest()


def places(move: FolderMove, rows: Sequence[Before]) -> list[Place] | None:
    """What the writes come to; None: what stood is not so simple that it moves in one."""
    found: list[Place] = []
    start = len(move.source)
    for at, (path, body, there) in enumerate(rows):
        register, old_there, depth = unpack(body), NOTHING, 1
        if len(register.siblings) != 1:
            return None
        ((dot, old),) = register.siblings
        if there:
            old_there = unpack(there)
            if any(one.kind != Kind.GONE for _, one in old_there.siblings):
                return None
            depth = max((one.depth for _, one in old_there.siblings), default=0) + 1
        if old.kind == Kind.GONE:
            return None
        new = Value(*_as_it_is(old), move.by, move.at_ms, min(depth, DEPTH_MAX))
        gone = Value(Kind.GONE, by=move.by, at_ms=move.at_ms, depth=min(old.depth + 1, DEPTH_MAX))
        first = _after(old_there, (move.replica, move.counter + at), new)
        second = _after(register, (move.replica, move.counter + move.count + at), gone)
        found.append(Place(path, dot, old, move.target + path[start:], first, second))
    return found


def _as_it_is(old: Value) -> tuple[Kind, bytes, int, int, bool, str]:
    return old.kind, old.content, old.size, old.mtime_ns, old.executable, old.target


def _after(before: Register, dot: Dot, value: Value) -> Register:
    """As `register.written` where everything that stood is replaced."""
    if not before.context:
        return Register(((dot, value),), (dot,))
    known = dict(before.context)
    known[dot[0]] = max(known.get(dot[0], 0), dot[1])
    return Register(((dot, value),), tuple(sorted(known.items())))


def fault(move: FolderMove) -> str | None:
    """What makes a move impossible, as the end of a sentence; None when it is fine."""
    for path in (move.source, move.target):
        if found := names.path_fault(path):
            return found
    for one, other in ((move.source, move.target), (move.target, move.source)):
        if one == other or one.startswith(f"{other}/"):
            return "moves into itself"
    return None


def too_long(move: FolderMove, rows: Sequence[Before]) -> bool:
    """Whether some path cannot be where it is to move."""
    longer = len(move.target.encode()) > len(move.source.encode())
    if not longer and move.target.count("/") <= move.source.count("/"):
        return False
    return any(names.path_fault(move.target + path[len(move.source) :]) for path, _, _ in rows)
