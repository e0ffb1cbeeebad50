"""Messages with contents in them, at the rate that the owner set for all that goes to others or comes from them.

A message goes whole, and the next one waits until the rate has caught up with it.
"""

import asyncio

from coterie.content.limit import LOOK_S, ByteLimit

MESSAGE_S = 2.0  # so long a message takes at most where there is a limit: who asks waits for it; guess
MESSAGE_BYTES_MIN = 4 << 10


def bytes_in_one(limit: ByteLimit, bytes_max: int) -> int:
    """Bytes of contents for one message that may have `bytes_max`."""
    if not limit.bytes_per_s:
        return bytes_max
    return min(bytes_max, max(MESSAGE_BYTES_MIN, int(MESSAGE_S * limit.bytes_per_s)))


async def wait(limit: ByteLimit) -> None:
    """Until the next bytes may go. The limit may change meanwhile."""
    loop = asyncio.get_running_loop()
    while (wait_s := limit.ready_at(loop.time()) - loop.time()) > 0:  # noqa: ASYNC110  (nobody tells of a new limit)
        await asyncio.sleep(min(wait_s, LOOK_S))


def went(limit: ByteLimit, size: int) -> None:
    """So many bytes go or came."""
    limit.take(size, asyncio.get_running_loop().time())
