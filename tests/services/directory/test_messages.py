"""The bounds of what travels: one past each is refused where it is decoded."""

import msgspec
import pytest

from coterie.errors import PeerError
from coterie.services.directory.messages import (
    DIRECTORY,
    FORM_CHARS_MAX,
    FRAME_BYTES_MAX,
    KIND_CHARS_MAX,
    NAME_CHARS_MAX,
    NOTE_CHARS_MAX,
    OFFERS_MAX,
    Ask,
    Offer,
    Offers,
)
from coterie.wire.frames import LENGTH_BYTES

LARGEST = Offer(
    "k" * KIND_CHARS_MAX,
    "\U0001f4c1" * NAME_CHARS_MAX,
    "f" * FORM_CHARS_MAX,
    2**53 - 1,
    0,
    -1,
    "n" * NOTE_CHARS_MAX,
)


def decoded(message: Ask | Offers) -> object:
    frame = DIRECTORY.encode(message)
    return DIRECTORY.decode(frame[LENGTH_BYTES], frame[LENGTH_BYTES + 1 :])


def test_golden_bytes() -> None:
    assert DIRECTORY.encode(Ask("files", "photos")).hex() == "0000000f0192a566696c6573a670686f746f73"
    offer = Offer("files", "photos", "folder", 1_000, 3, 5)
    assert DIRECTORY.encode(Offers([offer])).hex() == (
        "0000001f02929197a566696c6573a670686f746f73a6666f6c646572cd03e80305a0c2"
    )


def test_the_largest_of_all_still_fits() -> None:
    offers = Offers([LARGEST] * (OFFERS_MAX // 2), more=True)
    assert decoded(offers) == offers
    named = [msgspec.structs.replace(LARGEST, name="x" * NAME_CHARS_MAX)] * OFFERS_MAX
    assert len(DIRECTORY.encode(Offers(named))) < FRAME_BYTES_MAX


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "k" * (KIND_CHARS_MAX + 1)},
        {"kind": "Files"},
        {"kind": "a/b"},
        {"name": "x" * (NAME_CHARS_MAX + 1)},
        {"form": "f" * (FORM_CHARS_MAX + 1)},
        {"note": "n" * (NOTE_CHARS_MAX + 1)},
        {"size": -1},
        {"files": 2**53},
        {"mtime_ns": 2**63},
    ],
)
def test_one_past_a_bound_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(PeerError):
        decoded(Offers([msgspec.structs.replace(Offer("files", "photos"), **changed)]))


def test_one_offer_too_many_is_refused() -> None:
    with pytest.raises(PeerError):
        decoded(Offers([Offer("files", "x")] * (OFFERS_MAX + 1)))
    with pytest.raises(PeerError):
        decoded(Ask("files", "x" * (NAME_CHARS_MAX + 1)))
