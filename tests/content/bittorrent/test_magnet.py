"""Magnet links: what ours say, and what is read of others'."""

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.content.bittorrent.magnet import (
    MAGNET_CHARS_MAX,
    PEERS_MAX,
    Hint,
    hint_of,
    is_magnet,
    magnet_link,
)
from coterie.errors import UsageError

V1, V2 = bytes(range(20)), bytes(range(32))


def test_another_program_reads_all_of_it() -> None:
    link = magnet_link(
        V1,
        V2,
        "a & b/ü",
        size=5,
        trackers=["http://t.example/announce?x=1&y=2"],
        peers=["10.0.0.1:80", "[fd00::1]:81"],
        hint=Hint(content_id=V2),
    )
    read = lt.parse_magnet_uri(link)
    assert (read.info_hashes.v1.to_bytes(), read.info_hashes.v2.to_bytes()) == (V1, V2)
    assert read.name == "a & b/ü"
    assert list(read.trackers) == ["http://t.example/announce?x=1&y=2"]
    assert list(read.peers) == [("10.0.0.1", 80), ("fd00::1", 81)]


def test_golden_link() -> None:
    assert magnet_link(V1, V2, "n", size=3, hint=Hint(content_id=V2)) == (
        "magnet:?xt=urn:btih:000102030405060708090a0b0c0d0e0f10111213"
        "&xt=urn:btmh:1220000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "&dn=n&xl=3&x.coterie=content-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
    )


def test_hints_come_back() -> None:
    for hint in (Hint(content_id=V2), Hint(ticket="coterieabc")):
        assert hint_of(magnet_link(V1, b"", "n", hint=hint)) == hint
    assert hint_of(magnet_link(V1, b"", "n")) is None


@pytest.mark.parametrize("said", ["content-", "content-a", "content-!!", "content-" + "a" * 200, ""])
def test_a_hint_that_cannot_be_read_is_none(said: str) -> None:
    assert hint_of(f"magnet:?xt=urn:btih:{V1.hex()}&x.coterie={said}") is None


def test_peers_are_bounded() -> None:
    link = magnet_link(V1, b"", "n", peers=[f"10.0.0.{number}:1" for number in range(PEERS_MAX + 1)])
    assert link.count("x.pe=") == PEERS_MAX


def test_what_is_no_link_is_told() -> None:
    assert is_magnet("MAGNET:?xt=")
    assert not is_magnet("coterieabc")
    with pytest.raises(UsageError, match="begins with"):
        hint_of("http://x")
    hint_of("magnet:?" + "a" * (MAGNET_CHARS_MAX - 8))
    with pytest.raises(UsageError, match="longer than"):
        hint_of("magnet:?" + "a" * (MAGNET_CHARS_MAX - 7))


@given(st.text(max_size=300))
def test_nothing_breaks_the_reader(text: str) -> None:
    hint_of("magnet:?" + text)
