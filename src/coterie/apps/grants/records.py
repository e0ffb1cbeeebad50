"""What `grants` keeps on disk, each a list of `coterie.apps.records.Records`."""

import msgspec

from coterie.access.grant import Grant, open_grant
from coterie.apps.records import Records
from coterie.errors import LimitExceeded

RECORDS_MAX = 4_096  # guess: of each list; expired ones make room
ID_CHARS = 16  # hexadecimal characters of a link's id: told apart by eye, and by 64 bits


class GivenRecord(msgspec.Struct):
    """A link that this node made: of its own things, or of a grant it passed on. `grant`: the whole chain."""

    id: str
    created: float
    grant: bytes


class HeldRecord(msgspec.Struct):
    """A grant that this node may use, of the things of another."""

    id: str
    created: float
    grant: bytes
    addresses: list[str]


class AcceptedRecord(msgspec.Struct):
    """A grant of this node's things that its holder presented."""

    id: str
    created: float
    grant: bytes


def make_room(records: Records, now: float) -> None:  # type: ignore[type-arg]
    """Forget what has ended at `now` (unix seconds). Raises `LimitExceeded` where that is not enough."""
    listed = list(records)
    if len(listed) < RECORDS_MAX:
        return
    for record in listed:
        if open_grant(record.grant).last.terms.expires <= now:
            records.remove(record.id)
    if len(list(records)) >= RECORDS_MAX:
        raise LimitExceeded(f"there are {RECORDS_MAX} grants already; they make room when they end")


def record_id(grant: Grant) -> str:
    """What people call it."""
    return grant.id.hex()[:ID_CHARS]
