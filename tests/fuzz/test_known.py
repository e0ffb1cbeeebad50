"""What decoders once let through, each as it was sent."""

from collections.abc import Callable

import msgspec
import pytest
from nacl.secret import SecretBox

from coterie.access.limits import read_amount
from coterie.apps.circles.admission import Purpose, read_purpose
from coterie.apps.circles.recovery import Card, Keepsake, unseal
from coterie.apps.invoke import load_commands, read_parameters
from coterie.content.bittorrent.read import read_torrent
from coterie.content.bittorrent.torrent_file import PieceHashes, TorrentEntry, torrent_file
from coterie.content.limit import parse_hours
from coterie.errors import CoterieError, PeerError, UsageError
from coterie.identity import PeerId
from coterie.settings import Config

DEEP = b"\x91" * 100_000 + b"\xc0"  # lists in lists: MessagePack that no decoder can follow
pack = msgspec.msgpack.encode


def with_deep_field(value: msgspec.Struct) -> bytes:
    """`value` with one more field, which decoders skip, nested beyond all bounds."""
    raw = pack(value)
    assert 0x90 <= raw[0] < 0x9F
    return bytes([raw[0] + 1]) + raw[1:] + DEEP


def test_an_invitation_nested_too_deep() -> None:
    with pytest.raises(PeerError):
        read_purpose(with_deep_field(Purpose(1, bytes(32), 1, "home", bytes(32))))


def test_a_deposit_nested_too_deep() -> None:
    key = bytes(32)
    keepsake = Keepsake(bytes(32), bytes(32), [], [], [Card(bytes(32), "x", [])])
    sealed = bytes(SecretBox(key).encrypt(with_deep_field(keepsake), bytes(24)))
    with pytest.raises(PeerError):
        unseal(sealed, key)


def test_a_torrent_whose_tracker_is_no_text() -> None:
    made = torrent_file(
        "x", [TorrentEntry(("x",), 1)], [[PieceHashes(b"1" * 20, b"2" * 32)]], 16_384, is_folder=False,
        trackers=["http://tracker.example/xx"],
    )  # fmt: skip
    with pytest.raises(CoterieError, match="cannot be read"):
        read_torrent(made.metainfo.replace(b"/xx", b"/\xff\xfe"))


@pytest.mark.parametrize("text", ["é" * 52, "٣" * 52, "\ud800" * 52, "ſ" * 52, "İ" * 26])
def test_a_peer_id_that_is_not_ascii(text: str) -> None:
    with pytest.raises(UsageError):
        PeerId.parse(text)


INVITE = next(c for c in load_commands("contacts", "coterie.apps.contacts.commands") if c.path == ("invite",))


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_parameters(INVITE, {"lasting": "9" * 5000 + "d"}),
        lambda: read_parameters(INVITE, {"lasting": "9" * 30 + "d"}),
        lambda: read_amount("9" * 30 + "TB"),
        lambda: read_amount("9" * 5000),
        lambda: parse_hours("9" * 5000 + ":00-18:00=5"),
        lambda: parse_hours("08:00-18:00=1e999"),
        lambda: parse_hours("08:00-18:00=nan"),
        lambda: Config().changed("port", "9" * 5000),
        lambda: Config.parse("port = " + "9" * 5000),
    ],
)
def test_numbers_beyond_all_bounds(read: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        read()


@pytest.mark.parametrize(
    ("app", "command", "parameters"),
    [
        ("files", "limits", {"up": 10**30}),
        ("files", "limits", {"down": -(10**30)}),
        ("files", "share", {"path": "/tmp/\0x"}),
        ("files", "share", {"path": "/tmp/\ud800"}),
        ("files", "share", {"path": "/tmp/x", "name": "a\udcff"}),
        ("files", "share", {"path": "/tmp/x", "to": ["a\0b"]}),
    ],
)
def test_parameters_that_no_disk_and_no_database_can_have(
    app: str, command: str, parameters: dict[str, object]
) -> None:
    found = next(c for c in load_commands(app, f"coterie.apps.{app}.commands") if c.path == (command,))
    with pytest.raises(UsageError):
        read_parameters(found, parameters)


def test_a_path_that_is_no_utf8_is_one() -> None:
    found = next(c for c in load_commands("files", "coterie.apps.files.commands") if c.path == ("share",))
    assert read_parameters(found, {"path": "/tmp/\udcff"})["path"].name == "\udcff"
