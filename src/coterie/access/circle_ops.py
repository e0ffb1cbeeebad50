"""Operations of a circle: what one says, how it is written, signed and bounded. See docs/protocol/circle.md.

    operation = version (u8, 1) | signature (64) | body
    body      = the msgpack array of `Op`
    id        = BLAKE3(CONTEXT | body), 32 bytes: a second signature of the same body is the same operation
    signature = Ed25519 by `author` over CONTEXT | body

What depends on the history of an operation is checked where that is known: in circle_log.py.
"""

from collections.abc import Callable
from enum import IntEnum

import msgspec
from blake3 import blake3

from coterie.access.names import NAME_CHARS_MAX
from coterie.decoding import decoder
from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

VERSION = 1
CONTEXT = b"coterie circle operation 1\x00"
CONSENT_CONTEXT = b"coterie device of a person 1\x00"
ID_BYTES = 32
NONCE_BYTES = 16
OP_BYTES_MAX = 2048  # at all bounds below an operation is under 1.7 kB
PARENTS_MAX = 8  # guess: more branches at once are merged by more operations
REVOKED_PER_OP_MAX = 16  # guess
REVOKED_BYTES_MAX = 32  # a BLAKE3 hash

_HEAD_BYTES = 1 + SIGNATURE_BYTES

OpId = bytes
Sign = Callable[[bytes], bytes]


class Role(IntEnum):
    """What a member may do in the circle; higher may more. 0, nobody, is never a member's role."""

    GUEST = 1
    MEMBER = 2
    OWNER = 3


class Kind(IntEnum):
    """What an operation does. The fields it uses beside author, person and parents stand behind it."""

    CREATE = (
        1  # device (the author), name of the founder, title, nonce, consent unless the device is the person
    )
    ADD = 2  # subject, device, role, name, consent unless the device is the subject
    REMOVE = 3  # subject
    ROLE = 4  # subject, role
    RENAME = 5  # subject, name
    TITLE = 6  # title: the circle's name
    LEAVE = 7
    ADD_DEVICE = 8  # device, consent, is_paper
    REMOVE_DEVICE = 9  # subject, device
    REVOKE = 10  # revoked: opaque ids, for grants


class Op(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The body of an operation. `at` is unix milliseconds, for people only: no rule reads it."""

    circle: bytes
    kind: int
    author: bytes
    person: bytes
    parents: tuple[bytes, ...] = ()
    at: int = 0
    subject: bytes = b""
    device: bytes = b""
    role: int = 0
    name: str = ""
    title: str = ""
    revoked: tuple[bytes, ...] = ()
    consent: bytes = b""
    is_paper: bool = False
    nonce: bytes = b""


class SignedOp(msgspec.Struct, frozen=True):
    """An operation with its id, and the bytes that travel and are kept."""

    id: OpId
    op: Op
    raw: bytes


class OpRefused(PeerError):
    """This operation can never count: it is malformed, forged, or its author was not permitted to make it."""


@decoder(UsageError, "what is to be signed")
def sign_op(op: Op, sign: Sign) -> SignedOp:
    """`op` signed; `sign` gives the author's signature. Raises `UsageError` for what nobody would accept."""
    body = _ENCODER.encode(_plain(op))
    op = _DECODER.decode(body)
    raw = bytes([VERSION]) + sign(CONTEXT + body) + body
    if wrong := ("it is too large" if len(raw) > OP_BYTES_MAX else what_is_wrong(op)):
        raise UsageError(tr("this cannot be written into a circle: {wrong}", wrong=wrong))
    return SignedOp(_id_of(body), op, raw)


@decoder(OpRefused, "an operation")
def read_op(raw: bytes, *, is_verified: bool = False) -> SignedOp:
    """The operation in `raw`. `is_verified`: its signature was checked before it was stored.

    Raises:
        OpRefused: says what is wrong.
    """
    if len(raw) > OP_BYTES_MAX or len(raw) <= _HEAD_BYTES:
        raise OpRefused("an operation of an impossible size")
    if raw[0] != VERSION:
        raise OpRefused(f"an operation of version {raw[0]}; this coterie knows version {VERSION}")
    body = raw[_HEAD_BYTES:]
    op = _DECODER.decode(body)
    if wrong := what_is_wrong(op):
        raise OpRefused(f"an operation out of bounds: {wrong}")
    if not is_verified:
        _check_signatures(op, raw[1:_HEAD_BYTES], body)
    return SignedOp(_id_of(body), op, raw)


def id_of_raw(raw: bytes) -> OpId:
    """The id of an operation whose bytes were not looked at yet."""
    return _id_of(raw[_HEAD_BYTES:])


def consent(person: bytes, device: PeerId, sign: Sign) -> bytes:
    """The signature by which `device` says that it belongs to `person`."""
    return sign(CONSENT_CONTEXT + person + device)


def is_consent(person: bytes, device: bytes, signature: bytes) -> bool:
    """Whether `device` said so."""
    return verify(PeerId(device), CONSENT_CONTEXT + person + device, signature)


def clean(text: str) -> bool:
    """Whether `text` can be a name: 1 to NAME_CHARS_MAX printable characters, no space at either end."""
    return 0 < len(text) <= NAME_CHARS_MAX and text.isprintable() and text == text.strip()


def _check_signatures(op: Op, signature: bytes, body: bytes) -> None:
    if not verify(PeerId(op.author), CONTEXT + body, signature):
        raise OpRefused("a forged operation: the signature is not its author's")
    if needs_consent(op) and not is_consent(_owner_of_device(op), op.device, op.consent):
        raise OpRefused("a device is added that did not agree to it")


def needs_consent(op: Op) -> bool:
    """Whether the device that `op` adds has to have agreed."""
    if op.kind == Kind.CREATE:
        return op.device != op.person
    return op.kind == Kind.ADD_DEVICE or (op.kind == Kind.ADD and op.device != op.subject)


def _owner_of_device(op: Op) -> bytes:
    return op.subject if op.kind == Kind.ADD else op.person


def what_is_wrong(op: Op) -> str:
    """The first bound that `op` breaks by itself, in words; empty when it is sound."""
    if len(op.author) != KEY_BYTES or len(op.person) != KEY_BYTES:
        return "its author is no key"
    if not 0 <= op.at < 1 << 63:
        return "its time is out of range"
    if len(op.parents) > PARENTS_MAX or list(op.parents) != sorted({*op.parents}):
        return f"more than {PARENTS_MAX} parents, or not in order"
    if any(len(parent) != ID_BYTES for parent in op.parents):
        return "a parent is no id"
    if op.kind == Kind.CREATE:
        return _wrong_in_create(op)
    if len(op.circle) != ID_BYTES or not op.parents:
        return "it belongs to no circle"
    return _wrong_in_kind(op)


def _wrong_in_create(op: Op) -> str:
    if op.circle or op.parents or len(op.nonce) != NONCE_BYTES:
        return "a circle begins without a past and with 16 random bytes"
    if op.device != op.author:
        return "a circle begins with the device that made it"
    return "" if clean(op.name) and clean(op.title) else "a name that cannot be"


def _wrong_in_kind(op: Op) -> str:
    has_subject, has_device = len(op.subject) == KEY_BYTES, len(op.device) == KEY_BYTES
    match op.kind:
        case Kind.ADD:
            sound = has_subject and has_device and op.role in set(Role) and clean(op.name)
        case Kind.REMOVE:
            sound = has_subject
        case Kind.ROLE:
            sound = has_subject and op.role in set(Role)
        case Kind.RENAME:
            sound = has_subject and clean(op.name)
        case Kind.TITLE:
            sound = clean(op.title)
        case Kind.LEAVE:
            sound = True
        case Kind.ADD_DEVICE:
            sound = has_device
        case Kind.REMOVE_DEVICE:
            sound = has_subject and has_device
        case Kind.REVOKE:
            sound = 0 < len(op.revoked) <= REVOKED_PER_OP_MAX and all(
                0 < len(one) <= REVOKED_BYTES_MAX for one in op.revoked
            )
        case _:
            return f"its kind {op.kind} is not known here; update coterie"
    return "" if sound else f"a field of {Kind(op.kind).name} is missing or out of bounds"


def _plain(op: Op) -> Op:
    """`op` without peer ids, which the encoder does not know as bytes."""
    keys = {name: bytes(getattr(op, name)) for name in ("author", "person", "subject", "device")}
    return msgspec.structs.replace(op, **keys)


def _id_of(body: bytes) -> OpId:
    return blake3(CONTEXT + body).digest()


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Op)
