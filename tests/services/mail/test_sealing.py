"""Letters and receipts on the wire: golden bytes, padding, who may open and who may sign."""

from random import Random

import msgspec
import pytest

from coterie.errors import CoterieError, PeerError
from coterie.identity import SecretKey
from coterie.services.mail.limits import BODY_BYTES_MAX, NAME_CHARS_MAX
from coterie.services.mail.messages import PROTOCOL, SEALED_BYTES_MAX, Envelope, Letter, Outcome, Receipt
from coterie.services.mail.sealing import PADDED_BYTES_MIN, Seals, digest, read_letter
from coterie.wire.padding import padded_bytes
from tests.services.mail.golden import CONTENT, ENVELOPE, RECEIPT

ANNA, BEN, MALLORY = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3))
LETTER = Letter("app", "stream", True, b"epoch..8", 5, 3, 2_000, 77, b"good morning")
ID, EXPIRES = b"i" * 16, 2_000_000_000


def sealed(letter: Letter = LETTER) -> Envelope:
    return Seals(ANNA).seal(letter, BEN.peer_id, ID, EXPIRES)


def test_a_letter_is_opened_by_its_addressee_only() -> None:
    opened = Seals(BEN).open(sealed())
    assert (opened.sender, opened.letter, opened.id, opened.expires) == (ANNA.peer_id, LETTER, ID, EXPIRES)
    with pytest.raises(PeerError, match="another computer"):
        Seals(MALLORY).open(sealed())
    with pytest.raises(PeerError, match="cannot be opened"):
        Seals(MALLORY).open(msgspec.structs.replace(sealed(), addressee=bytes(MALLORY.peer_id)))


@pytest.mark.parametrize("change", [{"id": b"j" * 16}, {"expires": EXPIRES + 1}])
def test_what_carriers_see_is_signed_too(change: dict[str, object]) -> None:
    with pytest.raises(PeerError, match="forged"):
        Seals(BEN).open(msgspec.structs.replace(sealed(), **change))  # type: ignore[arg-type]


def test_a_letter_cannot_be_passed_on_as_for_another() -> None:
    """Who opened it seals what it found for a third: the signature names the addressee."""
    from nacl.public import SealedBox
    from nacl.signing import VerifyKey

    whole = Seals(BEN)._opening.decrypt(sealed().sealed)
    box = SealedBox(VerifyKey(bytes(MALLORY.peer_id)).to_curve25519_public_key())
    moved = Envelope(bytes(MALLORY.peer_id), ID, EXPIRES, bytes(box.encrypt(whole)))
    with pytest.raises(PeerError, match="forged"):
        Seals(MALLORY).open(moved)


def test_sizes_tell_little() -> None:
    seed = Random().randrange(2**32)
    random = Random(seed)
    sizes = {len(sealed(msgspec.structs.replace(LETTER, body=bytes(n))).sealed) for n in range(100)}
    assert len(sizes) == 1
    for _ in range(1_000):
        size = random.randrange(1, SEALED_BYTES_MAX)
        padded = padded_bytes(size, PADDED_BYTES_MIN)
        assert size <= padded <= max(256, size * 1.12), f"seed {seed}, size {size}"
        assert padded_bytes(padded, PADDED_BYTES_MIN) == padded, f"seed {seed}, size {size}"


def test_a_letter_that_is_padded_otherwise_is_refused() -> None:
    with pytest.raises(PeerError, match="padded"):
        read_letter(CONTENT + bytes(1), bytes(BEN.peer_id), ID, EXPIRES)
    with pytest.raises(PeerError, match="padded"):
        read_letter(CONTENT[:-1] + b"x", bytes(BEN.peer_id), ID, EXPIRES)


def test_a_receipt_is_of_the_addressee_and_for_this_sender() -> None:
    receipt = Seals(BEN).receipt(Seals(BEN).open(sealed()), Outcome.TAKEN)
    assert receipt.digest == digest(LETTER.body)
    assert Seals(ANNA).is_sound(receipt)
    assert not Seals(MALLORY).is_sound(receipt)
    for change in (
        {"outcome": Outcome.LATE},
        {"id": b"j" * 16},
        {"attempt": 78},
        {"digest": bytes(32)},
        {"addressee": bytes(MALLORY.peer_id)},
        {"sender": bytes(MALLORY.peer_id)},
    ):
        assert not Seals(ANNA).is_sound(msgspec.structs.replace(receipt, **change))  # type: ignore[arg-type]


def test_golden_bytes() -> None:
    assert Seals(BEN).open(PROTOCOL.decode(1, ENVELOPE)).letter == LETTER  # type: ignore[arg-type]
    assert read_letter(CONTENT, bytes(BEN.peer_id), ID, EXPIRES).letter == LETTER
    receipt = Seals(BEN).receipt(Seals(BEN).open(sealed()), Outcome.TAKEN)
    assert PROTOCOL.encode(receipt)[5:] == RECEIPT
    assert PROTOCOL.decode(2, RECEIPT) == receipt


def test_bounds_of_the_wire() -> None:
    whole = msgspec.structs.replace(LETTER, app="a" * NAME_CHARS_MAX, body=bytes(BODY_BYTES_MAX))
    frame = PROTOCOL.encode(sealed(whole))
    assert Seals(BEN).open(PROTOCOL.decode(1, frame[5:])).letter == whole  # type: ignore[arg-type]
    for change in (
        {"body": bytes(BODY_BYTES_MAX + 1)},
        {"app": "a" * (NAME_CHARS_MAX + 1)},
        {"number": 0},
        {"epoch": b"7bytes."},
    ):
        with pytest.raises(CoterieError):
            Seals(BEN).open(sealed(msgspec.structs.replace(LETTER, **change)))  # type: ignore[arg-type]
    too_large = Envelope(bytes(BEN.peer_id), ID, EXPIRES, bytes(SEALED_BYTES_MAX + 1))
    with pytest.raises(CoterieError):
        PROTOCOL.decode(1, msgspec.msgpack.encode(too_large))
    with pytest.raises(CoterieError):
        PROTOCOL.decode(2, msgspec.msgpack.encode(Receipt(b"", b"", b"", Outcome.TAKEN, 1, b"", b"")))
