"""What shows that somebody has a ticket's secret without showing the secret, and where its holders meet.

Whom we ask may be anybody: a table of strangers named them. So a session is opened with a proof that is good from one
peer to one other for one content: who is shown it can neither use it elsewhere nor learn the secret from it. No number
used once is needed: TLS proves both peer ids, and to show the same proof again only the same asker can.
"""

import hmac
from dataclasses import dataclass

from blake3 import blake3

from coterie.identity import PeerId
from coterie.wire.ticket import SECRET_BYTES

PROOF_BYTES = 32
_PROOF_KEY = "coterie files 1: key of the proof that a session is opened with"
_MEETING = "coterie files 1: where those meet that have the same ticket"
_NOBODYS = bytes(SECRET_BYTES)


def prove(secret: bytes, asker: bytes, giver: bytes, root: bytes) -> bytes:
    """The proof (32 bytes) that `asker` shows to `giver` (peer ids) for the content `root`."""
    key = blake3(secret, derive_key_context=_PROOF_KEY).digest()
    return blake3(asker + giver + root, key=key).digest(PROOF_BYTES)


@dataclass(frozen=True, slots=True)
class Shown:
    """What `asker` showed to `giver` (us) for the content `root`."""

    asker: PeerId
    giver: PeerId
    root: bytes
    proof: bytes

    def proves(self, secret: bytes | None) -> bool:
        """Whether the asker has this secret, compared in constant time.

        None is had by nobody, after the same work: an asker cannot tell a wrong secret from a missing thing.
        """
        expected = prove(secret or _NOBODYS, bytes(self.asker), bytes(self.giver), self.root)
        return hmac.compare_digest(self.proof, expected) and secret is not None


def meeting_key(secret: bytes, root: bytes) -> bytes:
    """Under which key (32 bytes) those find each other who have the ticket: nobody else can tell what it is for."""
    return blake3(root + secret, derive_key_context=_MEETING).digest()
