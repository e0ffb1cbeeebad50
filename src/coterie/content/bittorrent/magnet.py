"""Magnet links: what names a torrent in one line, with what coterie adds to it. Pure functions.

A link of ours names both versions of the torrent (BEP 9, BEP 52), its name, size and trackers, peers to begin with
(`x.pe`, BEP 9), and in `x.coterie` either a ticket, where the share is public, or the content id, which opens nothing.
Other programs pass over what they do not know.
"""

import re
from base64 import b32decode, b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr
from coterie.wire.pasted import PASTED_CHARS_MAX, bare, plain

MAGNET_CHARS_MAX = 16_384  # guess: a hundred trackers
PEERS_MAX = 16  # guess: of `x.pe`; more are not needed to begin with
CONTENT_PREFIX = "content-"  # before a content id in `x.coterie`; anything else is a ticket
_SCHEME = "magnet:?"
_ID_BYTES = 32
_LINK = re.compile(r"magnet:/{0,2}\?", re.IGNORECASE)
_ESCAPED_LINK = re.compile(r"magnet(:|%3a)(%3f|\?)xt(=|%3d)", re.IGNORECASE)
_NAMES = re.compile(r"(?<=[?&])(xt(?:\.\d+)?)=urn(?::|%3a)(btih|btmh)(?::|%3a)", re.IGNORECASE)
_HASH = re.compile(
    r"(?:(?:urn:)?btih:)?(?P<v1>[0-9a-f]{40}|[a-z2-7]{32})|(?:(?:urn:)?btmh:)?(?:1220)?(?P<v2>[0-9a-f]{64})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What a link says to coterie: a ticket to fetch it as a share, or only which content it is."""

    ticket: str = ""
    content_id: bytes = b""


def is_magnet(text: str) -> bool:
    """Whether `text` looks like a magnet link at all."""
    return text[: len(_SCHEME)].lower() == _SCHEME


def link_in(text: str) -> str:
    """The magnet link in pasted `text`, in the form that every program reads; empty when there is none."""
    if "magnet" not in text[:PASTED_CHARS_MAX].lower():
        return ""
    shown = plain(re.sub(r"\s*[\r\n]+\s*", "", text))  # a mail breaks long lines
    if _ESCAPED_LINK.search(shown) and not _LINK.search(shown):
        shown = unquote(shown)
    begin = _LINK.search(shown)
    if begin is None:
        return ""
    named = _NAMES.sub(
        lambda found: f"{found[1].lower()}=urn:{found[2].lower()}:", "?" + shown[begin.end() :]
    )
    return _SCHEME + named[1:].replace(" ", "%20")


def link_of_hash(text: str) -> str:
    """The link of a torrent named by its hash alone: 40 or 64 digits, or 32 of base32; empty when it is none."""
    found = _HASH.fullmatch(bare(text))
    if found is None:
        return ""
    v1, v2 = found["v1"], found["v2"]
    return f"{_SCHEME}xt=urn:btih:{v1}" if v1 else f"{_SCHEME}xt=urn:btmh:1220{v2.lower()}"


def magnet_link(
    v1: bytes,
    v2: bytes,
    name: str,
    *,
    size: int = 0,
    trackers: Sequence[str] = (),
    peers: Sequence[str] = (),
    hint: Hint | None = None,
) -> str:
    """The link of a torrent with these two hashes (either may be empty). `peers` are "ip:port"."""
    parts = [f"xt=urn:btih:{v1.hex()}"] if v1 else []
    if v2:
        parts.append(f"xt=urn:btmh:1220{v2.hex()}")  # BEP 52: a multihash, SHA-256 of 32 bytes
    parts.append(f"dn={quote(name, safe='')}")
    if size:
        parts.append(f"xl={size}")
    parts += [f"tr={quote(tracker, safe='')}" for tracker in trackers]
    parts += [f"x.pe={quote(peer, safe=':[]')}" for peer in peers[:PEERS_MAX]]
    if hint is not None:
        content = b32encode(hint.content_id).decode().rstrip("=").lower()
        parts.append(f"x.coterie={quote(hint.ticket) or CONTENT_PREFIX + content}")
    return _SCHEME + "&".join(parts)


@decoder(UsageError, "this magnet link")
def hint_of(link: str) -> Hint | None:
    """What `link` says to coterie. A hint that cannot be read is none: the link is good without it.

    Raises:
        UsageError: not a magnet link, or beyond all measure.
    """
    if not is_magnet(link):
        raise UsageError(tr("a magnet link begins with 'magnet:?'"))
    if len(link) > MAGNET_CHARS_MAX:
        raise UsageError(
            tr(
                "this magnet link is longer than {magnet_chars_max:,} characters",
                magnet_chars_max=MAGNET_CHARS_MAX,
            )
        )
    said = parse_qs(link[len(_SCHEME) :], max_num_fields=MAGNET_CHARS_MAX).get("x.coterie", [""])[0]
    if not said:
        return None
    if not said.startswith(CONTENT_PREFIX):
        return Hint(ticket=said)
    text = said.removeprefix(CONTENT_PREFIX).upper()
    try:
        content_id = b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return Hint(content_id=content_id) if len(content_id) == _ID_BYTES else None
