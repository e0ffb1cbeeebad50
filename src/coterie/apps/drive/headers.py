"""What requests to the drive say in their headers. Pure."""

import base64
from urllib.parse import unquote, urlsplit

from coterie.decoding import decoder
from coterie.errors import UsageError


@decoder(UsageError, "the destination of a request to the drive")
def read_destination(header: str) -> str:
    """The path of `Destination`, decoded (RFC 4918, 10.3); whose it is, wsgidav checks. Raises `UsageError`."""
    return unquote(urlsplit(header, allow_fragments=False).path, errors="strict")


@decoder(UsageError, "the password of a request to the drive")
def read_password(given: str) -> str:
    """Of "NAME:PASSWORD" in base 64. Raises `UsageError`."""
    return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
