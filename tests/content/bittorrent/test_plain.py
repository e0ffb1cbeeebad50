"""Torrent files in gzip and with a byte order mark are read, however much is packed in them."""

import codecs
import gzip

import pytest

from coterie.content.bittorrent.layout import METAINFO_BYTES_MAX
from coterie.content.bittorrent.plain import plain_metainfo
from coterie.content.bittorrent.read import read_torrent
from coterie.errors import LimitExceeded

RAW = b"d8:announce3:abc4:infod6:lengthi5eee"


@pytest.mark.parametrize("before", [b"", codecs.BOM_UTF8])
def test_it_is_the_same_packed_or_marked(before: bytes) -> None:
    assert plain_metainfo(before + RAW, 1_000) == RAW
    assert plain_metainfo(gzip.compress(before + RAW), 1_000) == RAW


def test_the_beginning_tells_it() -> None:
    assert plain_metainfo(gzip.compress(RAW + bytes(100_000))[:80], 8) == RAW[:8]


def test_what_is_packed_is_bounded() -> None:
    bomb = gzip.compress(bytes(METAINFO_BYTES_MAX + 2))
    assert len(bomb) < 100_000
    plain = plain_metainfo(bomb, METAINFO_BYTES_MAX + 1)
    assert len(plain) == METAINFO_BYTES_MAX + 1
    with pytest.raises(LimitExceeded):
        read_torrent(plain)


def test_what_only_begins_so_stays_as_it_is() -> None:
    assert plain_metainfo(b"\x1f\x8b\x08nothing packed", 1_000) == b"\x1f\x8b\x08nothing packed"
