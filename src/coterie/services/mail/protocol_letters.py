"""Messages of an app's protocol as letters: the same that it says on a stream to who is here, for who is away.

For messages that may come twice (a crash between the receipt and the handler loses one, a stream may bring it, too) and
that a meeting of the two brings as well: a computer without mail, as those of version 0.1, hears them then.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from coterie.errors import CoterieError, PeerError
from coterie.identity import PeerId
from coterie.services.mail.limits import LIFETIME_MAX_S
from coterie.wire.frames import Message, Protocol

if TYPE_CHECKING:
    import sqlite3

    from coterie.services.mail.box import Mail, MailBox

log = logging.getLogger(__name__)


class ProtocolLetters:
    """Takes all letters of the app's mail. Made inside the node's event loop."""

    def __init__(self, mail: "MailBox", protocol: Protocol, hear: Callable[[PeerId, Message], None]) -> None:
        """`hear(sender, message)` is called in the loop; it may raise `PeerError`, and is not called again then."""
        self._mail = mail
        self._protocol = protocol
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        mail.receive(self._take)

    async def send(
        self, peers: Iterable[PeerId], message: Message, *, stream: str, lasts_s: float = LIFETIME_MAX_S
    ) -> list[PeerId]:
        """Keep `message` for each of `peers`, in no order with others, until it is there or for `lasts_s`.

        Gives those for whom it is not kept.
        """
        body, refused = self._protocol.letter_of(message), []
        for peer in peers:
            try:
                await self._mail.send(peer, body, stream=stream, is_ordered=False, lasts_s=lasts_s)
            except CoterieError as error:
                log.warning("%s hears of a change only when it is met: %s", peer.short, error)
                refused.append(peer)
        return refused

    def _take(self, mail: "Mail", db: "sqlite3.Connection") -> None:
        """In a thread of the mail."""
        try:
            message = self._protocol.message_in(mail.body)
        except PeerError as error:
            log.info("%s sent %s", mail.sender.short, error)
            return
        if isinstance(message, Message):
            self._loop.call_soon_threadsafe(self._give, mail.sender, message)

    def _give(self, sender: PeerId, message: Message) -> None:
        try:
            self._hear(sender, message)
        except CoterieError as error:
            log.info("a letter of %s says nothing here: %s", sender.short, error)
