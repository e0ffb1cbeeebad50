"""What `grants` keeps on disk, each a list of `coterie.services.data.records.Records`."""

import msgspec

from coterie.access.grant import Grant

NOUN = "grant"
RECORDS_MAX = 4_096  # guess: of each list; see `GrantTable` for what happens then
ID_CHARS = 16  # hexadecimal characters of a link's id: told apart by eye, and by 64 bits


class GivenRecord(msgspec.Struct):
    """A link that this node made: of its own things, or of a grant it passed on. `grant`: the whole chain.

    `bearer`: it is for whoever has its text. Version 0.1 did not note that.
    """

    id: str
    created: float
    grant: bytes
    bearer: bool = False


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


class ToldRecord(msgspec.Struct):
    """A computer of this person (`id`: its id in hex) for which letters about all that this one gave were written."""

    id: str
    created: float


def record_id(grant: Grant) -> str:
    """What people call it."""
    return grant.id.hex()[:ID_CHARS]
