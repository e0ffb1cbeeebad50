"""Torrent files as sites and programs hand them out: in gzip, or with a byte order mark. Whole or their beginning."""

import codecs
import zlib

from coterie.decoding import decoder
from coterie.errors import PeerError

GZIP = b"\x1f\x8b\x08"  # RFC 1952: two bytes that tell it, and deflate, the only method


@decoder(PeerError, "this torrent file")
def plain_metainfo(raw: bytes, bytes_max: int) -> bytes:
    """The bencoded bytes in `raw`, at most `bytes_max` of them however much was packed; `raw` where that is neither."""
    if raw.startswith(GZIP):
        try:
            raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, bytes_max)
        except zlib.error:
            return raw
    return raw.removeprefix(codecs.BOM_UTF8)[:bytes_max]
