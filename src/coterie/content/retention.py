"""How long the store of versions keeps what was replaced, and what gives way when there is no room."""

from collections.abc import Sequence

import msgspec

KEPT_S = 30 * 86_400.0  # recoverable for so long; what people expect of a trash can; guess
YOUNG_S = 7 * 86_400.0  # never dropped to make room; guess: a week of holidays
SHARE_OF_DISK = 0.10  # of a disk, for versions that lie on it; guess
VERSIONS_MAX = 200_000  # on one disk; guess: 60 MB of memory


class Held(msgspec.Struct, frozen=True):
    """A version that is kept: since when (seconds since 1970), and the bytes that it takes."""

    id: str
    at: float
    bytes: int


class Plan(msgspec.Struct, frozen=True):
    """What to drop before something more is kept. `short_bytes` and `short_versions`: what is lacking even so."""

    drop: tuple[str, ...]
    short_bytes: int = 0
    short_versions: int = 0


def expired(held: Sequence[Held], now: float) -> tuple[str, ...]:
    """What has been kept for its whole time."""
    return tuple(one.id for one in held if now - one.at >= KEPT_S)


def make_room(held: Sequence[Held], now: float, *, room_bytes: int, more_bytes: int, more: int) -> Plan:
    """How `more` versions of `more_bytes` find room: the oldest give way, but none that is young.

    `room_bytes`: for all of them together. Where it cannot be, nothing gives way but what has expired.
    """
    over = expired(held, now)
    left = sorted((one for one in held if one.id not in set(over)), key=lambda one: (one.at, one.id))
    short_bytes = sum(one.bytes for one in left) + more_bytes - room_bytes
    short_versions = len(left) + more - VERSIONS_MAX
    dropped: list[str] = []
    for one in left:
        if (short_bytes <= 0 and short_versions <= 0) or now - one.at < YOUNG_S:
            break
        dropped.append(one.id)
        short_bytes -= one.bytes
        short_versions -= 1
    if short_bytes > 0 or short_versions > 0:
        return Plan(over, max(short_bytes, 0), max(short_versions, 0))
    return Plan((*over, *dropped))
