"""What the QUIC wheel raises. Every call of it stands in a `try` for `WHEEL_ERRORS`: none leaves `net/quic*`."""

import iroh
from iroh.iroh_ffi import InternalError

# `InternalError` is a panic of the wheel; the other two are the binding's words for an argument that it cannot pass on.
WHEEL_ERRORS = (iroh.IrohError, InternalError, ValueError, OverflowError)

CLOSED = iroh.IrohErrorKind.CLOSED


def text_of(error: BaseException) -> str:
    """The wheel's own words."""
    return str(error.message()) if isinstance(error, iroh.IrohError) else f"the transport failed: {error}"


def is_closed_error(error: BaseException) -> bool:
    """Whether the wheel says that this side ended the stream or the connection."""
    return isinstance(error, iroh.IrohError) and error.kind() == CLOSED


def last_line(text: str) -> str:
    """The cause without the wheel's source positions."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
