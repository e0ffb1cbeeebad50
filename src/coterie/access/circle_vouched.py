"""Which computers a person vouches for itself, and which it took off its list. Pure.

A key vouches for the computers that it added, they for those that they added, and the first is the key that is the
person. What others say about a person's computers gives no right of the person and takes none: an owner may add whom
it likes to a circle as a computer of anybody.
"""

from collections.abc import Container

import msgspec

from coterie.access.circle_log import CircleLog
from coterie.access.circle_ops import Kind, Op, OpId
from coterie.identity import PeerId

OWN_TITLE = "my devices"  # of the log of a person's own computers


class LostComputer(msgspec.Struct, frozen=True):
    """A computer that `person` itself took off its list, by `removals`; the last of them at `at` (unix ms)."""

    person: PeerId
    removals: tuple[OpId, ...]
    at: int


def is_own_log(first: Op) -> bool:
    """Whether a log that begins so may be that of a person's own computers: made by the key that is the person."""
    return first.kind == Kind.CREATE and first.title == OWN_TITLE and first.author == first.person


def is_witnessed(log: CircleLog, here: PeerId) -> bool:
    """Whether this is the log of another person's own computers, and no circle that `here` is or was in."""
    person = log.first.op.person
    return is_own_log(log.first.op) and log.persons() == (person,) and here not in log.devices_ever(person)


def is_own_op(op: Op, person: bytes) -> bool:
    """Whether `op` belongs into the log of the computers of `person`: by them, and about nobody else."""
    return op.person == person and op.subject in (b"", person)


def own_computers(log: CircleLog) -> tuple[PeerId, dict[bytes, None]]:
    """Whose log of its own computers this is, and every computer that the person ever vouched for, itself first."""
    person = log.first.op.person
    keys = vouched_computers(log).get(person, {person: None})
    return PeerId(person), {key: None for key in keys if not log.is_paper(person, key)}


def vouched_computers(log: CircleLog) -> dict[bytes, dict[bytes, None]]:
    """For each person who ever added a computer, the keys that trace back to the person's own key."""
    added: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for author, person, device in log.added_devices():
        added.setdefault(person, []).append((author, device))
    return {person: _reached(person, pairs) for person, pairs in added.items()}


def lost_computers(log: CircleLog, in_use: Container[PeerId]) -> dict[PeerId, LostComputer]:
    """Computers that their own person removed, by a key that it vouches for; not those `in_use` by anybody.

    The removed computer agreed to belong to that person, or is the person: no log takes an addition without that.
    """
    removed = list(log.removed_devices())
    vouched = vouched_computers(log) if removed else {}
    lost: dict[PeerId, LostComputer] = {}
    for op_id, author, person, key, at in removed:
        device = PeerId(key)
        if device in in_use or author not in vouched.get(person, {person: None}):
            continue
        known = lost.get(device)
        earlier = known.removals if known is not None and known.person == person else ()
        lost[device] = LostComputer(PeerId(person), (*earlier, op_id), at)
    return lost


def _reached(person: bytes, pairs: list[tuple[bytes, bytes]]) -> dict[bytes, None]:
    by_author: dict[bytes, list[bytes]] = {}
    for author, device in pairs:
        by_author.setdefault(author, []).append(device)
    reached = {person: None}
    waiting = [person]
    while waiting:
        for device in by_author.get(waiting.pop(), ()):
            if device not in reached:
                reached[device] = None
                waiting.append(device)
    return reached
