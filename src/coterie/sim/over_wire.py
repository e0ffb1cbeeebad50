"""A core that speaks real bytes in a simulated world: what a decoder refuses does not reach it."""

from collections.abc import Callable
from typing import Any

from coterie.errors import LimitExceeded, PeerError
from coterie.machine import Machine, Received, Send
from coterie.wire.frames import FrameDecoder, Protocol


class OverWire:
    """Encodes what its core sends and decodes what it gets, as a stream would.

    A frame that is malformed or over the protocol's limit is dropped and counted; on a real stream it would be the
    stream's end. `size_of` of the world is then `len`.

    Args:
        core: its messages are of `protocol`.
        protocol: typed kinds only.
        refused: called with the error of each frame that was dropped.
    """

    def __init__(
        self, core: Machine, protocol: Protocol, *, refused: Callable[[PeerError], None] = lambda error: None
    ) -> None:
        self.core = core
        self.refused = 0
        self._protocol = protocol
        self._tell = refused

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if type(event) is not Received:
            return self._encoded(self.core.handle(event, now))
        outputs: list[Any] = []
        try:
            for kind, body in FrameDecoder(self._protocol.frame_bytes_max).feed(event.message):
                message = self._protocol.decode(kind, body)
                if message is not None:
                    outputs += self.core.handle(Received(event.peer, message), now)
        except PeerError as error:
            self.refused += 1
            self._tell(error)
        return self._encoded(outputs)

    def _encoded(self, outputs: list[Any]) -> list[Any]:
        return [self._frame(output) if type(output) is Send else output for output in outputs]

    def _frame(self, send: Send) -> Send:
        try:
            return Send(send.peer, self._protocol.encode(send.message))
        except LimitExceeded as error:
            error.add_note(f"a core wants to send {type(send.message).__name__} to {send.peer!r}")
            raise
