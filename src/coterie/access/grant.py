"""Grant: a signed, expiring permission that its holder can pass on narrower, never wider.

    grant  = version u8 | issuer 32 | link, 1 to 4 of them
    link   = length u16 (of the body) | signature 64 | body
    body   = msgpack array: audience (32 bytes), resource, verbs, passes, nonce (8 bytes), terms
    signed = "coterie grant" | 0 | version | issuer | signature of the link before (64 zeros for the first) | body

The first link is signed by the issuer, every other one by the audience of the link before it. A node accepts a grant
from the peer that is the last audience, if the issuer is the node itself: there is no other way to use one. A bearer
grant's last audience is a key that travels with it; who has it passes the grant on to itself.
docs/protocol/grants.md has the reasons.
"""

import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
from blake3 import blake3

from coterie.access.resource import (
    ALL_VERBS,
    Verb,
    checked_resource,
    covers,
    resource_fault,
)
from coterie.access.terms import ANY_TIME, Terms
from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError, UsageError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

VERSION = 1
CONTEXT = b"coterie grant\x00"  # no other signature of ours begins so: domain separation
LINKS_MAX = (
    4  # guess: owner, friend, friend's device, and one more; a signature check each (measured: 0.1 ms)
)
PASSES_MAX = LINKS_MAX - 1
NONCE_BYTES = 8  # two grants of the same to the same are told apart, and revoked apart
LINK_ID_BYTES = 16  # 128 bits: nobody finds another link with the id of a revoked one
LIFETIME_MAX_S = (
    5 * 366 * 86_400
)  # guess: what is meant for ever is a share or a circle; revocations live as long
GRANT_BYTES_MAX = 2_048  # four links with the longest resources

_HEAD = struct.Struct(f">B{KEY_BYTES}s")
_LINK = struct.Struct(f">H{SIGNATURE_BYTES}s")
_UNSIGNED = bytes(SIGNATURE_BYTES)


class Signer(Protocol):
    """What signs for a peer: a `SecretKey`, or a node that keeps its own to itself."""

    @property
    def peer_id(self) -> PeerId: ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        ...


class GrantFault(StrEnum):
    """Why a grant is none."""

    OVERSIZED = "too large"
    MALFORMED = "malformed"
    VERSION = "of a newer version"
    FORGED = "forged"
    WIDENED = "wider than what it was made from"
    ENDLESS = "without an end, or with one too far away"


class GrantRefused(PeerError):
    """Somebody handed us a grant that is none."""

    code = "grant_refused"

    def __init__(self, why: GrantFault, detail: str = "") -> None:
        super().__init__(f"a grant is {why}" + (f": {detail}" if detail else ""))
        self.why = why
        if why is GrantFault.OVERSIZED:
            self.close_code = CloseCode.LIMIT


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a link says: `audience` may do `verbs` to `resource` under `terms` and pass it on `passes` times.

    A field more is refused, unlike elsewhere on the wire: it could be a condition, and must not be overlooked.
    """

    audience: bytes
    resource: str
    verbs: int
    passes: int
    nonce: bytes
    terms: Terms = ANY_TIME


class Link(msgspec.Struct, frozen=True):
    """One step from the issuer to the holder. `signer` made it; `id` names it when it is revoked."""

    signer: PeerId
    audience: PeerId
    resource: str
    verbs: Verb
    passes: int
    terms: Terms
    id: bytes
    signature: bytes


class Grant(msgspec.Struct, frozen=True):
    """A verified chain. What it permits is what its last link says: every link is narrower than the one before."""

    issuer: PeerId
    links: tuple[Link, ...]
    raw: bytes

    @property
    def last(self) -> Link:
        """The narrowest link: what the holder has."""
        return self.links[-1]

    @property
    def holder(self) -> PeerId:
        """Who may use it."""
        return self.links[-1].audience

    @property
    def id(self) -> bytes:
        """The id of the last link (16 bytes)."""
        return self.links[-1].id

    def __repr__(self) -> str:
        return (
            f"Grant({self.id.hex()[:8]} of {self.issuer.short} to {self.holder.short}: {self.last.resource})"
        )


def issue(
    key: Signer,
    audience: PeerId,
    resource: str,
    verbs: Verb,
    *,
    terms: Terms,
    nonce: bytes,
    passes: int = 0,
) -> Grant:
    """A new grant of what belongs to the node of `key`. `nonce`: 8 random bytes.

    Raises:
        UsageError: no resource, no verbs, no end, or terms that cannot be.
    """
    body = Body(bytes(audience), checked_resource(resource), int(verbs), passes, nonce, terms)
    _refuse_own_fault(body)
    return _signed(key, _HEAD.pack(VERSION, bytes(key.peer_id)), _UNSIGNED, body)


def attenuate(
    grant: Grant,
    key: Signer,
    audience: PeerId,
    *,
    nonce: bytes,
    resource: str | None = None,
    verbs: Verb | None = None,
    terms: Terms | None = None,
    passes: int = 0,
) -> Grant:
    """`grant` passed on by its holder (`key`) to `audience`, the same or less; what is None stays as it is.

    Raises:
        UsageError: it would be more, `key` is not the holder's, or the grant must not be passed on.
    """
    held = grant.last
    if key.peer_id != grant.holder:
        raise UsageError(tr("only the holder of a grant can pass it on"))
    if not held.passes:
        raise UsageError(tr("this grant is not to be passed on: it was made without"))
    body = Body(
        bytes(audience),
        checked_resource(held.resource if resource is None else resource),
        int(held.verbs if verbs is None else verbs),
        min(passes, held.passes - 1),
        nonce,
        held.terms if terms is None else terms,
    )
    _refuse_own_fault(body)
    if fault := _widening(body, held):
        raise UsageError(tr("one can pass on less, never more: {fault}", fault=fault))
    return _signed(key, grant.raw, held.signature, body)


@decoder(lambda said: GrantRefused(GrantFault.MALFORMED, said), "it")
def open_grant(raw: bytes, *, is_checked: bool = False) -> Grant:
    """Read and verify a grant: every signature, and that each link is narrower than the one before.

    `is_checked`: this node verified it before it kept it; the signatures are not verified again.

    Time, revocation, who presents it and whether its issuer has what it gives are for the policy to judge.

    Raises:
        GrantRefused: says what is wrong. Nothing of a refused grant is to be used.
    """
    if len(raw) > GRANT_BYTES_MAX:
        raise GrantRefused(GrantFault.OVERSIZED, f"{len(raw)} bytes, at most {GRANT_BYTES_MAX}")
    if len(raw) <= _HEAD.size:
        raise GrantRefused(GrantFault.MALFORMED, "truncated")
    version, issuer = _HEAD.unpack_from(raw)
    if version != VERSION:
        raise GrantRefused(GrantFault.VERSION if version > VERSION else GrantFault.MALFORMED)
    links: list[Link] = []
    signer, before, at = PeerId(issuer), _UNSIGNED, _HEAD.size
    while at < len(raw):
        if len(links) == LINKS_MAX:
            raise GrantRefused(GrantFault.OVERSIZED, f"over {LINKS_MAX} links")
        if at + _LINK.size > len(raw):
            raise GrantRefused(GrantFault.MALFORMED, "truncated")
        length, signature = _LINK.unpack_from(raw, at)
        encoded = raw[at + _LINK.size : at + _LINK.size + length]
        if len(encoded) != length:
            raise GrantRefused(GrantFault.MALFORMED, "truncated")
        body = _decoded(encoded)
        if links and (widening := _widening(body, links[-1])):
            raise GrantRefused(GrantFault.WIDENED, widening)
        signed = _to_sign(PeerId(issuer), before, encoded)
        if not is_checked and not verify(signer, signed, signature):
            raise GrantRefused(GrantFault.FORGED)
        links.append(_link(signer, body, signed, signature))
        signer, before, at = links[-1].audience, signature, at + _LINK.size + length
    return Grant(PeerId(issuer), tuple(links), bytes(raw))


def _signed(key: Signer, head: bytes, before: bytes, body: Body) -> Grant:
    encoded = _ENCODER.encode(body)
    signature = key.sign(_to_sign(PeerId(head[1 : _HEAD.size]), before, encoded))
    return open_grant(head + _LINK.pack(len(encoded), signature) + encoded)


def _to_sign(issuer: PeerId, before: bytes, encoded: bytes) -> bytes:
    return CONTEXT + bytes([VERSION]) + bytes(issuer) + before + encoded


def _link(signer: PeerId, body: Body, signed: bytes, signature: bytes) -> Link:
    return Link(
        signer,
        PeerId(body.audience),
        body.resource,
        Verb(body.verbs),
        body.passes,
        body.terms,
        blake3(signed).digest(LINK_ID_BYTES),  # of what is signed: another signature does not make another id
        signature,
    )


@decoder(lambda said: GrantRefused(GrantFault.MALFORMED, said), "a link")
def _decoded(encoded: bytes) -> Body:
    body = _DECODER.decode(encoded)
    if fault := _fault(body):
        raise GrantRefused(GrantFault.MALFORMED, fault)
    if not body.terms.expires:
        raise GrantRefused(GrantFault.ENDLESS)
    return body


def _fault(body: Body) -> str | None:
    if len(body.audience) != KEY_BYTES or len(body.nonce) != NONCE_BYTES:
        return "an audience or a nonce of the wrong length"
    if fault := resource_fault(body.resource):
        return f"its resource {fault}"
    if not 0 < body.verbs <= int(ALL_VERBS):
        return "no verbs, or unknown ones"
    if not 0 <= body.passes <= PASSES_MAX:
        return f"it can be passed on {PASSES_MAX} times at most"
    return body.terms.fault()


def _refuse_own_fault(body: Body) -> None:
    if fault := _fault(body):
        raise UsageError(tr("no such grant can be: {fault}", fault=fault))
    if not body.terms.expires:
        raise UsageError(tr("a grant needs an end; for what has none, use a share or a circle"))


def _widening(body: Body, held: Link) -> str | None:
    """What `body` would add to `held`, or None when it adds nothing."""
    if not covers(held.resource, body.resource):
        return f"{body.resource} is not within {held.resource}"
    if body.verbs & ~int(held.verbs):
        return "it has more verbs"
    if body.passes >= held.passes:
        return "it could be passed on too often"
    return None if body.terms.within(held.terms) else "its terms are wider"


def signers(grant: Grant) -> Sequence[tuple[bytes, tuple[PeerId, ...]]]:
    """For each link its id and who may revoke it: its signer, and those of the links before it."""
    made = tuple(link.signer for link in grant.links)
    return [(link.id, made[: at + 1]) for at, link in enumerate(grant.links)]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Body)
