"""The error tree. Each class names the culprit; the text is what the user reads."""

import errno
from enum import IntEnum


class CloseCode(IntEnum):
    """Stable numbers that close a stream or a connection on the wire."""

    NORMAL = 0
    DUPLICATE = 1  # both sides dialled; the other connection of this pair stays
    IDLE = 2  # no stream for the idle bound
    SHUTDOWN = 3  # the node is stopping
    CANCELLED = 4  # the local caller no longer wants it
    PROTOCOL_VIOLATION = 16
    LIMIT = 17
    REFUSED = 18  # the guard, or no such protocol: a stranger cannot tell which
    VERSION = 19  # no common version
    INTERNAL = 20  # the handler failed
    TIMEOUT = 21
    REVOKED = 22  # what was allowed no longer is: not worth trying again


class CoterieError(Exception):
    """Everything coterie raises on purpose. `code` is stable and machine readable."""

    code = "error"


class UsageError(CoterieError):
    """The caller asked for something that cannot be: the request must change."""

    code = "usage"


class PeerError(CoterieError):
    """The other side broke the protocol or closed on us.

    `close_code` is the number on the wire (see `CloseCode`), `INTERNAL` when there was none.
    """

    code = "peer"

    def __init__(self, text: str, close_code: int = CloseCode.PROTOCOL_VIOLATION) -> None:
        super().__init__(text)
        self.close_code = close_code


class TransportError(CoterieError):
    """The network between the two sides failed: worth trying again later."""

    code = "transport"


class NoAnswer(TransportError):
    """The other side is connected, and said nothing within the time."""


class AccessDenied(CoterieError):
    """The request is understood and not permitted."""

    code = "access_denied"


class NotFound(CoterieError):
    """No such thing here, or none that the asker may know of."""

    code = "not_found"


class LimitExceeded(CoterieError):
    """A named bound was reached; the text names it."""

    code = "limit"


class StorageError(CoterieError):
    """This machine's disk, files or database stand in the way."""

    code = "storage"


class DiskFull(StorageError):
    """A disk, or a quota on it, has no room."""


_OUR_FAULT = frozenset(
    {errno.EBADF, errno.EINVAL, errno.EFAULT, errno.ENOTSOCK}
)  # a call that was wrong in itself
_SQLITE_ORDINARY = frozenset(
    {5, 6, 8, 10, 13, 14}
)  # busy, locked, read-only, input or output, full, cannot open


def is_ordinary(error: BaseException) -> bool:
    """Whether `error` is what happens to anybody: a peer that left, no network, a full disk, a time-out.

    Everything else is a fault of the program, and a traceback helps whoever mends it.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_ordinary, error.exceptions))
    if isinstance(error, OSError):
        return error.errno not in _OUR_FAULT
    sqlite = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, CoterieError) or (isinstance(sqlite, int) and sqlite & 0xFF in _SQLITE_ORDINARY)
