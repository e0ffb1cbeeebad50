"""WHO: keys, PeerId, signatures; the keystore on disk."""

from coterie.identity.keys import SecretKey
from coterie.identity.keystore import load_or_create_key
from coterie.identity.peer_id import PeerId

__all__ = ["PeerId", "SecretKey", "load_or_create_key"]
