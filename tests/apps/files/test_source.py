"""What somebody wants is told by what it is, however it was pasted; nothing hides another thing of the same name."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coterie.apps.command import commands_of
from coterie.apps.files import commands
from coterie.apps.files.source import (
    MagnetSource,
    Place,
    Source,
    TorrentFileSource,
    path_meant,
    read_place,
    read_source,
    spelled_path,
)
from coterie.apps.invoke import Result, invoke
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.net import MemoryNetwork
from coterie.wire import Ticket
from coterie.wire.ticket import SECRET_BYTES, TicketKind
from tests.apps.files.nodes import memory_node
from tests.support import run

HERE = Path("/home/u")
TORRENT = b"d8:announce3:abc4:infod6:lengthi5eee"
HEX, BASE32, LONG = "0123456789abcdef" * 2 + "89abcdef", "abcdefgh" * 3 + "ijklmn23", "0123456789ABCDEF" * 4
PEER = PeerId(b"\x11" * 32)
TICKET = Ticket(TicketKind.TREE, PEER, b"\x01" * 32, b"\x02" * SECRET_BYTES, ("10.0.0.1:5",))
LINK = f"magnet:?xt=urn:btih:{HEX}&dn=film&tr=udp%3A%2F%2Ft"


def told(text: str, files: dict[str, bytes] | None = None, known: tuple[str, ...] = ("anna",)) -> Source:
    """What `text` is among `files` (their beginnings by path), where `known` are the people."""
    path = path_meant(text, HERE)
    begin = (files or {}).get(os.path.normpath(path)) if path is not None else None
    return read_source(text, path=path, begin=begin, is_known=lambda name: name in known)


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        LINK.replace("magnet", "MAGNET").replace("urn:btih", "URN:BTIH").replace("xt", "XT"),
        LINK.replace("&", "&amp;"),
        f"\u201c{LINK}\u201d",
        f"<{LINK}>",
        f"  {LINK}.\n",
        f"\ufeff{LINK[:40]}\u200b{LINK[40:]}",
        f"coterie get '{LINK}'",
        f"{LINK[:50]}\r\n  {LINK[50:]}",
        LINK.replace(":?", "%3A%3F")
        .replace("=", "%3D")
        .replace("&", "%26")
        .replace("%3A%2F%2F", "%253A%252F%252F"),
        LINK.replace("magnet:?", "magnet://?"),
    ],
)
def test_a_link_however_it_was_pasted(text: str) -> None:
    assert told(text) == MagnetSource(LINK)


def test_a_link_with_a_name_that_has_blanks() -> None:
    assert told(f"magnet:?xt=urn:btih:{HEX}&dn=my film") == MagnetSource(
        f"magnet:?xt=urn:btih:{HEX}&dn=my%20film"
    )


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (HEX, f"magnet:?xt=urn:btih:{HEX}"),
        (f" '{HEX.upper()}' ", f"magnet:?xt=urn:btih:{HEX.upper()}"),
        (f"urn:btih:{HEX}", f"magnet:?xt=urn:btih:{HEX}"),
        (BASE32, f"magnet:?xt=urn:btih:{BASE32}"),
        (LONG, f"magnet:?xt=urn:btmh:1220{LONG.lower()}"),
        (f"urn:btmh:1220{LONG.lower()}", f"magnet:?xt=urn:btmh:1220{LONG.lower()}"),
    ],
)
def test_a_hash_alone(text: str, link: str) -> None:
    assert told(text) == MagnetSource(link)


def test_a_torrent_file_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(NotFound, match=r"there is no file .*album\.torrent"):
        told("album.torrent")


@pytest.mark.parametrize("text", [HEX[:-1], HEX + "0", "g" * 40, BASE32[:-1] + "1", LONG + "0"])
def test_what_is_nearly_a_hash_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="nothing that can be fetched"):
        told(text)


@pytest.mark.parametrize("around", ["{}", "`{}`", "coterie get {}\n", "\u00ab{}\u00bb", "*{}*", "{}."])
@pytest.mark.parametrize(
    "form", [str, lambda t: str(t).upper(), lambda t: f"{str(t)[:60]}\u2011\n{str(t)[60:]}"]
)
def test_a_ticket_however_it_was_pasted(around: str, form: object) -> None:
    assert told(around.format(form(TICKET))) == TICKET  # type: ignore[operator]


def test_a_torrent_is_told_by_its_content_and_not_by_its_name() -> None:
    files = {"/home/u/album": TORRENT, "/home/u/page.torrent": b"<html>", "/home/u/bob/x.torrent": TORRENT}
    assert told("album", files) == TorrentFileSource(HERE / "album")
    assert told("./album", files) == TorrentFileSource(HERE / "album")
    assert told("'/home/u/album'", files) == TorrentFileSource(HERE / "album")
    assert told("file:///home/u/album", files) == TorrentFileSource(HERE / "album")
    assert told("bob/x.torrent", files) == TorrentFileSource(HERE / "bob/x.torrent")  # nobody is called bob
    for text in ("page.torrent", "./page.torrent"):
        with pytest.raises(UsageError, match=r"page\.torrent is a file, but no torrent file"):
            told(text, files)
    with pytest.raises(NotFound, match="there is no file /home/u/gone"):
        told("./gone", files)


def test_a_place_is_told_by_who_is_known() -> None:
    assert told("anna/photos/2024") == Place("anna", "photos/2024")
    assert told("anna/x.torrent") == Place("anna", "x.torrent")
    assert told('"anna/my photos\u2013old.jpg"') == Place(
        "anna", "my photos\u2013old.jpg"
    )  # names stay as they are
    assert told("anna/photos", {"/home/u/anna/photos": b"\xff\xd8"}) == Place(
        "anna", "photos"
    )  # nothing to get from
    assert told("bob/photos") == Place("bob", "photos")  # whoever looks for bob says that nobody is called so
    assert told("//bob/photos/") == Place("bob", "photos")
    assert str(read_place("/anna/photos/")) == "anna/photos"


def test_what_may_be_both_says_how_to_mean_each() -> None:
    files = {"/home/u/anna/film": TORRENT}
    with pytest.raises(UsageError, match=r"write \./anna/film for the file, //anna/film for the place"):
        told("anna/film", files)
    assert told("./anna/film", files) == TorrentFileSource(HERE / "anna/film")
    assert told("//anna/film", files) == Place("anna", "film")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing that can be fetched"),
        ("anna", "coterie ls anna"),
        ("https://example.org/x.torrent", "on the web"),
        ("coterieaaaa", "truncated"),
        ("//", "a name and what it shares"),
    ],
)
def test_what_cannot_be_got_says_why(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        told(text)


def test_without_a_folder_a_relative_path_is_none() -> None:
    assert path_meant("x.torrent", None) is None
    with pytest.raises(UsageError, match="give a whole path"):
        read_source("./x.torrent", path=None, begin=None, is_known=lambda name: False)


def test_a_path_is_one_where_it_is_spelled_so() -> None:
    assert spelled_path("./photos", HERE) == "/home/u/photos"
    assert spelled_path("../photos", HERE) == "/home/photos"
    assert spelled_path("photos", HERE) == "photos"
    assert spelled_path("anna/photos", HERE) == "anna/photos"


@given(st.text(max_size=200))
@example("~0")  # the home of a user that does not exist
def test_whatever_is_pasted_is_something_or_says_what_it_is_not(text: str) -> None:
    with contextlib.suppress(UsageError, NotFound):
        assert isinstance(told(text), Source)


def test_the_folder_of_the_user_decides_and_not_that_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders have a share of the same name: ./photos means that of the folder one stands in."""
    ours, nodes = tmp_path / "ours", tmp_path / "nodes"
    for folder in (ours, nodes):
        (folder / "photos").mkdir(parents=True)
        (folder / "photos" / "a.jpg").write_bytes(str(folder).encode())
    (ours / "album").write_bytes(b"d4:infole")
    unshare = next(c for c in commands_of("files", commands) if c.path == ("unshare",))
    get = next(c for c in commands_of("files", commands) if c.path == ("get",))

    async def scene() -> None:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as anna:
            monkeypatch.chdir(nodes)
            shared = {str(folder): await anna.files.share(folder / "photos") for folder in (ours, nodes)}
            raw = {"share": "./photos", "here": str(ours)}
            ended = [item async for item in invoke(unshare, anna.files, raw)]
            assert isinstance(ended[-1], Result)
            assert ended[-1].value["id"] == shared[str(ours)].id
            with pytest.raises(CoterieError, match="torrent"):  # it was found, by its content, and is damaged
                raw = {"ticket": "album", "target": str(tmp_path / "in"), "here": str(ours)}
                assert not [item async for item in invoke(get, anna.files, raw)]
            with pytest.raises(UsageError, match="nothing that can be fetched"):
                raw = {"ticket": "album", "target": str(tmp_path / "in")}
                assert not [item async for item in invoke(get, anna.files, raw)]

    run(scene(), 30)
