"""What a path of a live folder is: the values that nobody has replaced yet, side by side, and which writes are known.

A write has a dot: the replica that wrote, and the number of this write among all of that replica in this folder. Its
author says which dots it replaces: those that were shown where it was made, and no others. Two registers of one path
merge to the same register whatever the order: a value stays unless the other side has seen its dot and does not have it
any more. (Preguiça and others 2012, "Dotted version vectors".)

Which of several values has the name, and which are shown as copies beside it, is derived here, on every computer the
same; copies are never entries of their own.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum

import msgspec

from coterie.content.manifest import ID_BYTES, TOTAL_MAX
from coterie.content.names import target_fault
from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError
from coterie.identity.peer_id import KEY_BYTES

REPLICA_BYTES = 16
SIBLINGS_MAX = (
    64  # values of one path side by side that are taken from others; guess: a folder of 50 computers
)
SIBLINGS_BYTES_MAX = 32 << 10  # of them; with 1,024 writers a register fits its message
VALUE_BYTES = 160  # of one, beside its target
REPLICAS_MAX = 1_024  # known writers of one path; guess: 50 computers, each put back from a copy twenty times
COUNTER_MAX = 1 << 53
DEPTH_MAX = 1 << 53
MS_MAX = 1 << 53
MTIME_NS_MAX = TOTAL_MAX

Replica = bytes
"""One copy of a folder on one computer: 16 random bytes."""

Dot = tuple[Replica, int]
"""One write: the replica, and the number of this write among all that it made in the folder, from 1."""

Sibling = tuple[Dot, "Value"]


class Kind(IntEnum):
    """What is at a path. OTHER is only seen on disks, and never travels."""

    FILE = 1
    FOLDER = 2
    LINK = 3
    GONE = 4
    OTHER = 5


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one write put at a path.

    Fields:
        content: id of the blob manifest of a FILE, else empty. `size`: in bytes.
        mtime_ns: unix time; `executable`: by anybody; `target`: of a LINK.
        by: who wrote, a PeerId; `at_ms`: when, by its clock.
        depth: how many writes one after the other led here, at least; `written` counts it.
    """

    kind: Kind
    content: bytes = b""
    size: int = 0
    mtime_ns: int = 0
    executable: bool = False
    target: str = ""
    by: bytes = b""
    at_ms: int = 0
    depth: int = 1

    def equals(self, other: "Value") -> bool:
        """Whether both are the same to whoever opens them: dates and the executable bit do not count."""
        return (self.kind, self.content, self.target) == (other.kind, other.content, other.target)


class Register(msgspec.Struct, frozen=True, gc=False):
    """What is known of a path.

    Fields:
        siblings: the values that stand, sorted by dot.
        context: of each replica the last counter whose writes to this path are all known, sorted.
    """

    siblings: tuple[Sibling, ...] = ()
    context: tuple[tuple[Replica, int], ...] = ()


NOTHING = Register()
_FIRST = {Kind.FOLDER: 2, Kind.FILE: 1, Kind.LINK: 1}  # what lives has the name before what is gone


def merge(a: Register, b: Register) -> Register:
    """All that stands on either side, less what the other side knows to be replaced."""
    if a == b or not b.context:
        return a
    if not a.context:
        return b
    known_a, known_b = dict(a.context), dict(b.context)
    dots_a, dots_b = {dot for dot, _ in a.siblings}, {dot for dot, _ in b.siblings}
    kept = {dot: value for dot, value in a.siblings if dot in dots_b or dot[1] > known_b.get(dot[0], 0)}
    kept.update((dot, value) for dot, value in b.siblings if dot in dots_a or dot[1] > known_a.get(dot[0], 0))
    for replica, counter in b.context:
        if counter > known_a.get(replica, 0):
            known_a[replica] = counter
    return _register(kept.items(), known_a)


def written(
    register: Register, replaced: Collection[Dot], dot: Dot, value: Value, *, is_copy: bool = False
) -> Register:
    """The register after a write here, which replaces the dots that were shown where it was made.

    `is_copy`: what was shown there was a copy; what is written there stays one, for nobody's name shall change while he
    edits. The end of a copy (GONE) beside values that live needs no mark of its own.
    """
    stay = [one for one in register.siblings if one[0] not in replaced]
    known = dict(register.context)
    known[dot[0]] = max(known.get(dot[0], 0), dot[1])
    depth = max((old.depth for known_dot, old in register.siblings if known_dot in replaced), default=0) + 1
    first = winner(Register(tuple(stay)))
    if first is not None and first[1].kind != Kind.GONE:
        if value.kind == Kind.GONE and (is_copy or not replaced):
            return _register(stay, known)
        if is_copy:
            depth = min(depth, first[1].depth - 1)
    new = _register(
        [*stay, (dot, msgspec.structs.replace(value, depth=min(max(depth, 0), DEPTH_MAX)))], known
    )
    return bounded(new, keep=dot)


def resolved(register: Register, dot: Dot, value: Value) -> Register:
    """The register after a write that replaces everything that is known."""
    known = dict(register.context)
    known[dot[0]] = max(known.get(dot[0], 0), dot[1])
    depth = min(max((old.depth for _, old in register.siblings), default=0) + 1, DEPTH_MAX)
    return bounded(_register([(dot, msgspec.structs.replace(value, depth=depth))], known))


def bounded(register: Register, *, keep: Dot | None = None) -> Register:
    """The register within what others take: of too many values the least give way, as if they had been replaced.

    That is so only where more than SIBLINGS_MAX stand side by side. Of too many writers some are forgotten: what they
    replaced may stand again beside what is there. `keep`: the value that gives way to none.
    """
    siblings, size = [], 0
    ranked = sorted(register.siblings, key=lambda one: (one[0] == keep, _rank(one)), reverse=True)
    for one in ranked[:SIBLINGS_MAX]:
        size += VALUE_BYTES + len(one[1].target.encode())
        if size > SIBLINGS_BYTES_MAX:
            break
        siblings.append(one)
    if len(siblings) == len(register.siblings) and len(register.context) <= REPLICAS_MAX:
        return register
    known = dict(register.context[:REPLICAS_MAX])
    for (replica, counter), _ in siblings:
        known[replica] = max(known.get(replica, 0), counter)
    return _register(siblings, known)


def renumbered(register: Register, replica: Replica, known_max: int, dots: Mapping[Dot, Dot]) -> Register:
    """The register as if `replica` had made no write behind number `known_max`; `dots`: the new names of its writes."""
    siblings = [(dots.get(dot, dot), value) for dot, value in register.siblings]
    known = {one: min(n, known_max) if one == replica else n for one, n in register.context}
    for (one, counter), _ in siblings:
        known[one] = max(known.get(one, 0), counter)
    return _register(siblings, {one: n for one, n in known.items() if n})


def winner(register: Register) -> Sibling | None:
    """Which value has the name: a folder, then what is not gone, then what most writes led to, then the latest write.

    The clock of a computer decides only between writes of one depth, and the loser is a copy: nothing depends on clocks
    being right. None: nothing was ever there.
    """
    siblings = register.siblings
    if len(siblings) < 2:
        return siblings[0] if siblings else None
    return max(siblings, key=_rank)


def copies(register: Register, *, beside_folder: bool = False) -> list[Sibling]:
    """The values that live and differ from the winner, best first, equal ones once.

    `beside_folder`: the path is a folder because something lives below it, so every file and link is a copy.
    """
    if len(register.siblings) < 2 and not beside_folder:
        return []
    first = winner(register)
    shown = [] if first is None or beside_folder else [first[1]]
    found: list[Sibling] = []
    for dot, value in sorted(register.siblings, key=_rank, reverse=True):
        if value.kind not in (Kind.FILE, Kind.LINK) or any(value.equals(one) for one in shown):
            continue
        shown.append(value)
        found.append((dot, value))
    return found


def dots_shown(register: Register, value: Value, *, is_copy: bool = False) -> tuple[Dot, ...]:
    """The dots that whoever sees `value` has seen: of equal values, and of deletions where it has the name."""
    return tuple(
        dot for dot, one in register.siblings if one.equals(value) or (one.kind == Kind.GONE and not is_copy)
    )


def _rank(sibling: Sibling) -> tuple[int, int, int, Dot]:
    dot, value = sibling
    return _FIRST.get(value.kind, 0), value.depth, value.at_ms, dot


def _register(siblings: Iterable[Sibling], known: dict[Replica, int]) -> Register:
    found, context = tuple(siblings), tuple(known.items())
    if len(found) > 1:
        found = tuple(sorted(found, key=_dot))
    return Register(found, context if len(context) < 2 else tuple(sorted(context)))


def _dot(sibling: Sibling) -> Dot:
    return sibling[0]


# ---- as bytes

_Packed = tuple[list[tuple[bytes, int, Value]], list[tuple[bytes, int]]]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Packed)


def pack(register: Register) -> bytes:
    """A register in about 120 bytes where it has one value. Equal registers, equal bytes."""
    if len(register.siblings) == len(register.context) == 1:  # as most are
        (dot, value), known = register.siblings[0], register.context[0]
        return _ENCODER.encode(([(*dot, value)], [] if known == dot else [known]))
    implied = {dot for dot, _ in register.siblings}
    rest = [known for known in register.context if known not in implied]
    return _ENCODER.encode(([(*dot, value) for dot, value in register.siblings], rest))


@decoder(PeerError, "what a path of a live folder is")
def unpack(raw: bytes) -> Register:
    """What `pack` made, checked: it may have come from anybody. Raises `PeerError`."""
    siblings, rest = _DECODER.decode(raw)
    if len(siblings) == 1 and not rest:  # as most are
        ((replica, counter, value),) = siblings
        if len(replica) == REPLICA_BYTES and 0 < counter <= COUNTER_MAX and not _fault(value):
            dot = (replica, counter)
            return Register(((dot, value),), (dot,))
    known = dict(rest)
    if len(siblings) > SIBLINGS_MAX or len(rest) > REPLICAS_MAX or len(known) != len(rest):
        raise PeerError(f"a path with {len(siblings)} values of {len(rest)} writers", CloseCode.LIMIT)
    for replica, counter, value in siblings:
        known[replica] = max(known.get(replica, 0), counter)
        if fault := _fault(value):
            raise PeerError(f"a path of a live folder with {fault}")
    if not all(len(replica) == REPLICA_BYTES and 0 < n <= COUNTER_MAX for replica, n in known.items()):
        raise PeerError("a write that nobody can have made")
    if any(counter <= 0 for _, counter, _ in siblings):
        raise PeerError("a write without a number")
    found = {(replica, counter): value for replica, counter, value in siblings}
    if len(found) != len(siblings):
        raise PeerError("one write twice")
    return _register(found.items(), known)


def _fault(value: Value) -> str:
    """What is wrong with a value; empty: nothing."""
    match value.kind:
        case Kind.FILE:
            is_sound = len(value.content) == ID_BYTES and not value.target
        case Kind.LINK:
            is_sound = not value.content and target_fault(value.target) is None
        case Kind.FOLDER | Kind.GONE:
            is_sound = not value.content and not value.target
        case _:
            return "a kind that is not known"
    if not is_sound:
        return "a value that is no file, folder or link"
    if not (0 <= value.size <= TOTAL_MAX and -MTIME_NS_MAX <= value.mtime_ns <= MTIME_NS_MAX):
        return "a size or date that cannot be"
    if len(value.by) != KEY_BYTES or not (0 <= value.at_ms <= MS_MAX and 0 <= value.depth <= DEPTH_MAX):
        return "a writer or time that cannot be"
    return ""
