"""Ticket secrets: whoever knows one holds the right that it names."""

import hmac

from coterie.wire.ticket import SECRET_BYTES

_NOBODYS = bytes(SECRET_BYTES)


def secret_matches(offered: bytes, expected: bytes | None) -> bool:
    """Whether `offered` is the secret `expected` (16 bytes).

    With None, nothing matches, after the same work: an asker cannot tell a wrong secret from a missing thing.
    """
    same = hmac.compare_digest(offered, expected if expected is not None else _NOBODYS)
    return same and expected is not None
