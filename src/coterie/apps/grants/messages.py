"""The wire types of `grants`; see docs/protocol/grants.md. Messages in any order, answered or not as each says."""

from coterie.access.grant import GRANT_BYTES_MAX
from coterie.access.revocation import REVOCATION_BYTES
from coterie.errors import CloseCode, PeerError
from coterie.wire.frames import Message, Protocol

REVOCATIONS_PER_MESSAGE_MAX = (
    256  # 31 kB; what a message costs is their signatures, 25 ms (0.1 ms each, measured)
)
GRANTS_PER_MESSAGE_MAX = 16  # 33 kB; 64 signatures at most


class Present(Message, frozen=True):
    """To the issuer, from the holder: this grant is to be used. Answered by `Taken`."""

    grant: bytes


class Taken(Message, frozen=True):
    """Whether the grant will be honoured; a refusal does not say why."""

    accepted: bool


class Gave(Message, frozen=True):
    """To another computer of the same person: grants that the sender gave, so that this one can take them back."""

    grants: list[bytes]


class Revoked(Message, frozen=True):
    """Revocations that the sender knows of. Heard from those who are known; not answered."""

    revocations: list[bytes]


PROTOCOL = Protocol(
    name="grants",
    versions=(1,),
    kinds={1: Present, 2: Taken, 3: Revoked, 4: Gave},
    frame_bytes_max=64 << 10,
)


def check(message: Message) -> None:
    """Raise `PeerError` unless a message is within its bounds."""
    match message:
        case Present(grant):
            sound = len(grant) <= GRANT_BYTES_MAX
        case Gave(grants):
            sound = len(grants) <= GRANTS_PER_MESSAGE_MAX
            sound = sound and all(len(raw) <= GRANT_BYTES_MAX for raw in grants)
        case Revoked(revocations):
            sound = len(revocations) <= REVOCATIONS_PER_MESSAGE_MAX
            sound = sound and all(len(raw) == REVOCATION_BYTES for raw in revocations)
        case _:
            sound = isinstance(message, Taken)
    if not sound:
        raise PeerError(f"a {type(message).__name__} out of bounds", CloseCode.LIMIT)
