"""Messages of a protocol as letters: what is no message does no harm."""

import asyncio
from typing import Any

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.services.mail.box import Mail
from coterie.services.mail.protocol_letters import ProtocolLetters
from coterie.wire.frames import Message, Protocol
from tests.services.mail.histories import ANNA, BEN
from tests.support import run


class Said(Message, frozen=True):
    text: str


PROTOCOL = Protocol(name="said", versions=(1,), kinds={1: Said}, frame_bytes_max=64)


class Box:
    """The two calls of a mail box that are used; a letter to ben is refused."""

    def __init__(self) -> None:
        self.sent: list[tuple[PeerId, bytes, dict[str, Any]]] = []

    def receive(self, take: Any) -> None:
        self.take = take

    async def send(self, to: PeerId, body: bytes, **options: Any) -> bytes:
        if to == BEN:
            raise PeerError("no more letters to ben")
        self.sent.append((to, body, options))
        return b""


def test_a_message_comes_out_as_it_went_in_and_rubbish_is_taken_once() -> None:
    heard: list[tuple[PeerId, Message]] = []

    def hear(sender: PeerId, message: Message) -> None:
        heard.append((sender, message))
        raise PeerError("it is out of bounds")

    async def main() -> None:
        box: Any = Box()
        letters = ProtocolLetters(box, PROTOCOL, hear)
        await letters.send([BEN, ANNA], Said("hello"), stream="s", lasts_s=9)
        ((to, body, options),) = box.sent  # one who is refused keeps nobody from theirs
        assert (to, options) == (ANNA, {"stream": "s", "is_ordered": False, "lasts_s": 9})
        others = [b"", b"\1", b"\1rubbish", b"\2" + body[1:], body + bytes(64)]
        for one in (body, *others, body):
            mail = Mail(sender=ANNA, id=bytes(16), stream="s", body=one)
            await asyncio.to_thread(box.take, mail, None)
        await asyncio.sleep(0)
        assert heard == [(ANNA, Said("hello"))] * 2

    run(main())
