"""Revocations: what is taken back before its time, signed by who gave it, kept until it would have ended anyway.

    revocation = version u8 | signer 32 | link id 16 | expires u64 | signature 64          (121 bytes)
    signed     = "coterie revocation" | 0 | version | signer | link id | expires

Anybody may carry one to anybody. Whether the signer had a right to it shows where the grant is judged: a link can be
revoked by its signer and by the signers of the links before it. Circles carry revocations, too (circle_revoked.py).
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from coterie.access.grant import LIFETIME_MAX_S, LINK_ID_BYTES, Grant, Signer, signers
from coterie.decoding import decoder
from coterie.errors import LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

VERSION = 1
CONTEXT = b"coterie revocation\x00"
REVOCATIONS_MAX = 4_096  # guess: 0.5 MB; a household revokes a few a year
REVOCATIONS_PER_SIGNER_MAX = 256  # guess: nobody fills another's list
EXPIRES_SLACK_S = 86_400  # guess: clocks of two computers

_FORM = struct.Struct(f">B{KEY_BYTES}s{LINK_ID_BYTES}sQ{SIGNATURE_BYTES}s")
REVOCATION_BYTES = _FORM.size


class Revocation(msgspec.Struct, frozen=True):
    """`signer` takes the link `link_id` back; to be kept until `expires` (unix seconds)."""

    signer: PeerId
    link_id: bytes
    expires: int
    raw: bytes


def revoke(key: Signer, link_id: bytes, expires: int) -> Revocation:
    """Take back a link that ends at `expires`, signed by `key`."""
    signature = key.sign(_to_sign(key.peer_id, link_id, expires))
    return open_revocation(_FORM.pack(VERSION, key.peer_id, link_id, expires, signature))


@decoder(PeerError, "a revocation")
def open_revocation(raw: bytes) -> Revocation:
    """Read and verify what `revoke` made. Raises `PeerError` when it is none."""
    if len(raw) != REVOCATION_BYTES or raw[0] != VERSION:
        raise PeerError("a revocation that is none, or of a newer version")
    _, signer, link_id, expires, signature = _FORM.unpack(raw)
    if not verify(PeerId(signer), _to_sign(PeerId(signer), link_id, expires), signature):
        raise PeerError("a forged revocation")
    return Revocation(PeerId(signer), link_id, expires, bytes(raw))


class Revocations:
    """All revocations known here that still matter. Bounded: those of others by signer, and in all."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._known: dict[tuple[bytes, PeerId], Revocation] = {}
        self._counts: dict[PeerId, int] = {}
        self._carried: Mapping[bytes, Collection[PeerId]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> list[Revocation]:
        """Every one, in the order in which they came."""
        return list(self._known.values())

    def add(self, revocation: Revocation, now: float) -> bool:
        """Keep one; whether it is news. One that has ended, or claims to last for ever, is not kept.

        Raises:
            LimitExceeded: the list, or its signer's part of it, is full of those that still matter.
        """
        place = (revocation.link_id, revocation.signer)
        if place in self._known or not now < revocation.expires <= now + LIFETIME_MAX_S + EXPIRES_SLACK_S:
            return False
        count = self._counts.get(revocation.signer, 0)
        if len(self._known) >= REVOCATIONS_MAX or (
            revocation.signer != self._own and count >= REVOCATIONS_PER_SIGNER_MAX
        ):
            self.expire(now)
            count = self._counts.get(revocation.signer, 0)
        if revocation.signer != self._own and count >= REVOCATIONS_PER_SIGNER_MAX:
            raise LimitExceeded(
                tr(
                    "{short} has {revocations_per_signer_max} revocations here already",
                    short=revocation.signer.short,
                    revocations_per_signer_max=REVOCATIONS_PER_SIGNER_MAX,
                )
            )
        if len(self._known) >= REVOCATIONS_MAX:
            raise LimitExceeded(
                tr("there are {revocations_max} revocations here already", revocations_max=REVOCATIONS_MAX)
            )
        self._known[place] = revocation
        self._counts[revocation.signer] = count + 1
        return True

    def expire(self, now: float) -> None:
        """Forget those whose grants have ended by themselves."""
        self._known = {place: r for place, r in self._known.items() if r.expires > now}
        self._counts = {}
        for _, signer in self._known:
            self._counts[signer] = self._counts.get(signer, 0) + 1

    def carry(self, carried: Mapping[bytes, Collection[PeerId]]) -> bool:
        """From now on also these, which circles carry: link ids, with the keys in whose name each is taken back.

        Whether that is another answer than before. How many there are, the logs of the circles bound.
        """
        is_news = carried != self._carried
        self._carried = carried
        return is_news

    def of(self, grant: Grant) -> bool:
        """Whether `grant` is void: any of its links was taken back by who may."""
        for link_id, may_revoke in signers(grant):
            carried = self._carried.get(link_id, ())
            if any((link_id, signer) in self._known or signer in carried for signer in may_revoke):
                return True
        return False

    def load(self, raws: Iterable[bytes], now: float) -> Sequence[bytes]:
        """Add those in `raws` that were written by `all`; returns those that could not be read."""
        damaged = []
        for raw in raws:
            try:
                self.add(open_revocation(raw), now)
            except (PeerError, LimitExceeded):
                damaged.append(raw)
        return damaged


def _to_sign(signer: PeerId, link_id: bytes, expires: int) -> bytes:
    return CONTEXT + _FORM.pack(VERSION, signer, link_id, expires, b"")[:-SIGNATURE_BYTES]
