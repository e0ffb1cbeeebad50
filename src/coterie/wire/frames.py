"""Frames: how typed messages and bulk bytes stand on a stream.

    frame = length (u32, big-endian; of what follows) | kind (u8) | body

The body of a typed kind is the msgpack array of a `msgspec.Struct`; the body of a bulk kind is raw bytes.
A kind that the receiver does not know is skipped; a body that does not decode is the peer's fault.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from coterie.decoding import FAULTS, decoder, reason
from coterie.errors import CloseCode, LimitExceeded, PeerError, UsageError
from coterie.texts import tr

HEADER = struct.Struct(">IB")
LENGTH_BYTES = 4
FRAME_BYTES_MAX = 1 << 20  # 1 MiB: above the largest chunk (512 KiB) and the largest manifest node

SMALL_PART_BYTES = 4096  # guess: below this a copy costs less than keeping the piece apart


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of every wire message: a msgpack array; fields may be appended, never moved."""


class Bulk(msgspec.Struct, frozen=True):
    """A bulk frame: raw bytes under a kind. `data` is valid until the next read of the stream."""

    kind: int
    data: bytes | memoryview


@dataclass(frozen=True)
class Protocol:
    """One wire protocol: its name, the versions we speak, its kinds and its largest frame.

    `kinds` maps a number (1..255) to a `Message` type; `bulk_kinds` are the numbers with raw bodies. Number 0 is the
    network's own (`wire/lanes.py`).
    """

    name: str
    versions: tuple[int, ...]
    kinds: Mapping[int, type[Message]]
    bulk_kinds: frozenset[int] = frozenset()
    frame_bytes_max: int = FRAME_BYTES_MAX
    _decoders: dict[int, "msgspec.msgpack.Decoder[Message]"] = field(init=False, repr=False, compare=False)
    _numbers: dict[type[Message], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bulk_kinds & set(self.kinds):
            raise UsageError(tr("protocol {name}: a kind is both typed and bulk", name=self.name))
        object.__setattr__(self, "_decoders", {k: msgspec.msgpack.Decoder(t) for k, t in self.kinds.items()})
        object.__setattr__(self, "_numbers", {t: k for k, t in self.kinds.items()})

    def encode(self, message: Message) -> bytes:
        """One whole frame for `message`. Raises `LimitExceeded` when it does not fit."""
        body = _ENCODER.encode(message)
        return self._header(self._numbers[type(message)], len(body)) + body

    def bulk_header(self, kind: int, body_bytes: int) -> bytes:
        """The five bytes that go before `body_bytes` raw bytes of a bulk frame."""
        if kind not in self.bulk_kinds:
            raise UsageError(tr("protocol {name} has no bulk kind {kind}", name=self.name, kind=kind))
        return self._header(kind, body_bytes)

    @decoder(PeerError, "a message")
    def decode(self, kind: int, body: bytes | memoryview) -> Message | Bulk | None:
        """The value of one frame; None for a kind that this version does not know.

        Raises:
            PeerError: the body is malformed.
        """
        if kind in self.bulk_kinds:
            return Bulk(kind, body)
        known = self._decoders.get(kind)
        if known is None:
            return None
        try:
            return known.decode(body)
        except FAULTS as error:
            raise PeerError(f"malformed {self.name} message of kind {kind}: {reason(error)}") from None

    def letter_of(self, message: Message) -> bytes:
        """A message as the body of a letter: a frame without its length."""
        return self.encode(message)[HEADER.size - 1 :]

    def message_in(self, body: bytes) -> Message | Bulk | None:
        """What `letter_of` made; as `decode`. Raises `PeerError`."""
        if not 1 < len(body) <= self.frame_bytes_max:
            raise PeerError(f"a {self.name} message of {len(body)} bytes")
        return self.decode(body[0], body[1:])

    def _header(self, kind: int, body_bytes: int) -> bytes:
        if body_bytes + 1 > self.frame_bytes_max:
            raise LimitExceeded(
                tr(
                    "a {name} message of {body_bytes} bytes is over {frame_bytes_max}",
                    name=self.name,
                    body_bytes=body_bytes,
                    frame_bytes_max=self.frame_bytes_max,
                )
            )
        return HEADER.pack(body_bytes + 1, kind)


def _plain(value: Any) -> bytes:
    """Subclasses of `bytes`, a `PeerId` among them, travel as bytes."""
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


class FrameDecoder:
    """Cuts a byte stream into frames, holding at most one incomplete frame.

    A length over the limit is refused on sight, before a byte of it is stored.
    """

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._parts: list[bytearray | memoryview] = []  # joined once, when the frame is whole
        self._pending_bytes = 0
        self._needed_bytes = LENGTH_BYTES  # of `_parts`, before looking at them again makes sense

    @property
    def pending_bytes(self) -> int:
        """Bytes of an incomplete frame that wait for more."""
        return self._pending_bytes

    def take_pending(self) -> bytes:
        """The bytes of the incomplete frame, for another to go on with."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._pending_bytes = 0
        return rest

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield (kind, body) for every frame that `data` completes. Exhaust it before the next call.

        Raises:
            PeerError: an empty frame or one over the limit (close code LIMIT).
        """
        view = memoryview(data)
        if self._parts:
            self._keep(view)
            if self._pending_bytes < self._needed_bytes:
                return
            view = memoryview(b"".join(self._parts))
            self._parts.clear()
            self._pending_bytes = 0
        at, end = 0, len(view)
        while end - at >= HEADER.size:
            length, kind = HEADER.unpack_from(view, at)
            self._check(length)
            stop = at + LENGTH_BYTES + length
            if stop > end:
                break
            yield kind, view[at + HEADER.size : stop]
            at = stop
        if at < end:
            self._needed_bytes = self._size_of(view[at : at + LENGTH_BYTES])
            self._keep(view[at:])

    def _keep(self, part: memoryview) -> None:
        self._pending_bytes += len(part)
        if len(part) >= SMALL_PART_BYTES:
            self._parts.append(part)
            return
        # A view costs 200 bytes: a peer that sends byte by byte must not make many of them.
        if not self._parts or not isinstance(self._parts[-1], bytearray):
            self._parts.append(bytearray())
        self._parts[-1] += part  # type: ignore[operator]

    def _size_of(self, beginning: memoryview) -> int:
        """Bytes of the frame that begins so; those of the length field while it is not whole itself."""
        if len(beginning) < LENGTH_BYTES:
            return LENGTH_BYTES
        length = int.from_bytes(beginning, "big")
        self._check(length)
        return LENGTH_BYTES + length

    def _check(self, length: int) -> None:
        if length < 1:
            raise PeerError("an empty frame")
        if length > self._frame_bytes_max:
            raise PeerError(
                f"a frame of {length} bytes is over the limit of {self._frame_bytes_max}", CloseCode.LIMIT
            )
