"""What goes into the core of one app's mail, and what comes out of it."""

import msgspec

from coterie.identity import PeerId
from coterie.services.mail.messages import Letter, Outcome, Receipt
from coterie.services.mail.sealing import Opened


class _Value(msgspec.Struct, frozen=True):
    pass


class StreamKey(_Value, frozen=True):
    """One direction of one stream between this computer and `peer`."""

    peer: PeerId
    stream: str
    is_ordered: bool


class Outgoing(_Value, frozen=True):
    """A letter that waits, without its body.

    Fields:
        addressee: one computer; a letter to several is there once for each, with the same id.
        is_for_first: one of the addressees is enough.
        is_bound: sent at least once, and so no other addressee's any more.
        epoch: of the start that gave it its number.
    """

    id: bytes
    addressee: PeerId
    stream: str
    is_ordered: bool
    number: int
    expires: int
    size: int
    digest: bytes
    is_for_first: bool = False
    is_bound: bool = False
    epoch: bytes = b""

    @property
    def key(self) -> StreamKey:
        """Its stream."""
        return StreamKey(self.addressee, self.stream, self.is_ordered)


# ---- events


class Post(_Value, frozen=True):
    """The app sends. `expires`: unix seconds."""

    id: bytes
    addressees: tuple[PeerId, ...]
    stream: str
    is_ordered: bool
    is_for_first: bool
    expires: int
    body: bytes
    digest: bytes


class Arrived(_Value, frozen=True):
    """`bringer` brought a letter, opened and verified."""

    bringer: PeerId
    opened: Opened


class Answered(_Value, frozen=True):
    """A receipt, its signature verified; `bringer` need not be who signed it."""

    bringer: PeerId
    receipt: Receipt


class Handled(_Value, frozen=True):
    """The app has handled letters of a `Deliver`, in its order; the first `False` ended an ordered one."""

    key: StreamKey
    epoch: bytes
    done: tuple[bool, ...]


# ---- outputs


class Keep(_Value, frozen=True):
    """Write a letter to the disk."""

    letter: Outgoing
    body: bytes


class Bind(_Value, frozen=True):
    """Write whether a letter is this addressee's only, and its epoch and number."""

    letter: Outgoing


class Forget(_Value, frozen=True):
    """Delete a letter."""

    id: bytes
    addressee: PeerId


class KeepFinished(_Value, frozen=True):
    """Write of an incoming stream that everything below `floor` is finished, and that `late` are let past.

    `until`: when its letters have expired, unix seconds.
    """

    key: StreamKey
    epoch: bytes
    floor: int
    late: tuple[int, ...] = ()
    until: float = 0.0


class ForgetStream(_Value, frozen=True):
    """Delete what is known of an incoming stream."""

    key: StreamKey
    epoch: bytes


class Deliver(_Value, frozen=True):
    """Give letters of one stream to the app, in order; write that it was taken in the transaction of each."""

    key: StreamKey
    letters: tuple[Opened, ...]


class Transmit(_Value, frozen=True):
    """Seal and send; `head` lacks the app and the body."""

    letter: Outgoing
    head: Letter


class Answer(_Value, frozen=True):
    """Sign and send a receipt to who brought the letter."""

    bringer: PeerId
    opened: Opened
    outcome: Outcome


class Dial(_Value, frozen=True):
    """Try to reach `peer`; `PeerUp` when that worked."""

    peer: PeerId


class Posted(_Value, frozen=True):
    """A letter is taken on; `refused` says why not, and is empty else."""

    id: bytes
    refused: str = ""


class Ended(_Value, frozen=True):
    """A letter to `addressee` is finished: it was taken, or why it was not."""

    id: bytes
    addressee: PeerId
    is_taken: bool
    reason: str = ""
