"""What travels: envelopes, which carriers can pass on without reading them, and receipts. See docs/protocol/mail.md."""

from enum import IntEnum
from typing import Annotated

import msgspec

from coterie.identity.keys import SIGNATURE_BYTES
from coterie.identity.peer_id import KEY_BYTES
from coterie.services.mail.limits import BODY_BYTES_MAX, NAME_CHARS_MAX
from coterie.wire import Protocol
from coterie.wire.frames import Message

ID_BYTES = 16  # random
EPOCH_BYTES = 8  # random
DIGEST_BYTES = 32
SEALED_BYTES_MAX = (
    BODY_BYTES_MAX + BODY_BYTES_MAX // 4
)  # padding adds 12 % at most, the head some hundred bytes
EXPIRES_MAX = 2**53

Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Id = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Epoch = Annotated[bytes, msgspec.Meta(min_length=EPOCH_BYTES, max_length=EPOCH_BYTES)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
Number = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=EXPIRES_MAX)]


class Outcome(IntEnum):
    """What became of a letter."""

    TAKEN = 1  # the app has it: its records and this are on disk
    LATE = 2  # it came after its time, or after later ones were let past: the app does not get it
    AWAY = 3  # the app does not run there now: not the end


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed and signed.

    Fields:
        number: from 1, of its (sender, addressee, app, stream, is_ordered, epoch).
        epoch: made anew when the sender has lost its count.
        floor: all smaller numbers are finished, by the sender's word.
        gap_until: unix seconds: by then every smaller number is finished or has expired.
        attempt: another for each time that it is sent; the receipt repeats it.
    """

    app: Name
    stream: Name
    is_ordered: bool
    epoch: Epoch
    number: Number
    floor: Number
    gap_until: Moment
    attempt: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]


class Envelope(Message, frozen=True):
    """A letter on its way. Who carries it sees for whom it is, its id, its end (unix seconds) and about its size."""

    addressee: Key
    id: Id
    expires: Moment
    sealed: Annotated[bytes, msgspec.Meta(max_length=SEALED_BYTES_MAX)]


class Receipt(Message, frozen=True):
    """What became of the letter `id` of `sender`, signed by `addressee`, who had to open it to know the digest."""

    addressee: Key
    sender: Key
    id: Id
    outcome: Outcome
    attempt: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


PROTOCOL = Protocol("mail", (1,), {1: Envelope, 2: Receipt}, frame_bytes_max=SEALED_BYTES_MAX + 1_024)
