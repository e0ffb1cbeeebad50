"""What requests to the drive, and its answers, say. Pure."""

import base64
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError

_DAV = "{DAV:}"


class Listed(msgspec.Struct, frozen=True):
    """One file or folder: its path, bytes, and when it was changed last, in seconds since 1970."""

    path: str
    is_folder: bool
    size: int
    at: float


@decoder(UsageError, "what the drive lists")
def read_listing(raw: bytes) -> list[Listed]:
    """The answer to a PROPFIND of our own drive (RFC 4918, 14.16). Raises `UsageError`."""
    found = []
    for one in ElementTree.fromstring(raw).iter(f"{_DAV}response"):  # noqa: S314  (what we wrote ourselves)
        path = unquote(urlsplit(one.findtext(f"{_DAV}href") or "").path, errors="surrogateescape")
        when = one.findtext(f".//{_DAV}getlastmodified")
        found.append(
            Listed(
                path.rstrip("/") or "/",
                one.find(f".//{_DAV}collection") is not None,
                int(one.findtext(f".//{_DAV}getcontentlength") or 0),
                parsedate_to_datetime(when).timestamp() if when else 0.0,
            )
        )
    return found


@decoder(UsageError, "what the drive says of its room")
def read_room(raw: bytes) -> int | None:
    """The room in the answer to a PROPFIND of our own drive (RFC 4331); None: it says none. Raises `UsageError`."""
    found = ElementTree.fromstring(raw).findtext(f".//{_DAV}quota-available-bytes")  # noqa: S314  (ours)
    return int(found) if found else None


MASKS = (("?", "\ufdd0"), (";", "\ufdd1"))  # noncharacters, which no name has (Unicode 23.7)


@decoder(UsageError, "the destination of a request to the drive")
def masked_destination(header: str) -> str:
    """`Destination` for wsgidav, which decodes it first and then takes "?" and ";" in a name for the end of the path.

    A name has a mask in their place, until `unmasked`. Raises `UsageError`.
    """
    split = urlsplit(header, allow_fragments=False)
    path = unquote(split.path, errors="strict")
    for letter, mask in MASKS:
        path = path.replace(letter, mask)
    return (f"{split.scheme}://{split.netloc}" if split.netloc else "") + quote(path)


def unmasked(path: str) -> str:
    """The path that was meant."""
    for letter, mask in MASKS:
        path = path.replace(mask, letter)
    return path


@decoder(UsageError, "the destination of a request to the drive")
def read_destination(header: str) -> str:
    """The path of `Destination`, decoded (RFC 4918, 10.3); whose it is, wsgidav checks. Raises `UsageError`."""
    return unquote(urlsplit(header, allow_fragments=False).path, errors="strict")


@decoder(UsageError, "the address of a request to the drive")
def read_target(address: str) -> tuple[str, str]:
    """The path of an address, decoded, and its query: some programs quote less in a login. Raises `UsageError`."""
    target = urlsplit(address, allow_fragments=False)
    return unquote(target.path), target.query


@decoder(UsageError, "the password of a request to the drive")
def read_password(given: str) -> str:
    """Of "NAME:PASSWORD" in base 64. Raises `UsageError`."""
    return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
