"""Ed25519 keys (RFC 8032) through PyNaCl: sign, verify, never show."""

from typing import Protocol

from coterie.errors import UsageError
from coterie.identity.peer_id import KEY_BYTES, PeerId
from coterie.texts import tr

SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Who can sign as `peer_id`: a `SecretKey`, or something that has one and says what for."""

    @property
    def peer_id(self) -> PeerId: ...

    def sign(self, message: bytes) -> bytes:
        """64-byte signature of `message`."""
        ...


class SecretKey:
    """A node's secret: a 32-byte seed. Its text forms never contain the seed."""

    __slots__ = ("_seed", "_signing", "peer_id")

    def __init__(self, seed: bytes) -> None:
        from nacl.signing import SigningKey  # 15 ms: only where keys are really used

        if len(seed) != KEY_BYTES:
            raise UsageError(
                tr("a secret key is {key_bytes} bytes, not {seed}", key_bytes=KEY_BYTES, seed=len(seed))
            )
        self._seed = seed
        self._signing = SigningKey(seed)
        self.peer_id = PeerId(bytes(self._signing.verify_key))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for the transport and the keystore only."""
        return self._seed

    def sign(self, message: bytes) -> bytes:
        """64-byte signature of `message`."""
        return bytes(self._signing.sign(message).signature)

    def __repr__(self) -> str:
        return f"SecretKey(of {self.peer_id.short})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise UsageError(tr("a secret key is not to be pickled"))


def verify(peer: PeerId, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made by `peer`."""
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(bytes(peer)).verify(message, signature)
    except BadSignatureError:
        return False
    return True
