"""A storm of strangers: connections of ever new peers, some silent, some that greet. A program of its own."""

import asyncio
import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

from coterie.errors import CoterieError
from coterie.identity import PeerId, SecretKey
from coterie.net import NetLimits, greeting
from coterie.net.quic import transport as quic
from coterie.net.quic.transport import QuicTransport

KEPT_MAX = 150  # connections that this program holds open: an endpoint each
UNDER_WAY_MAX = 128  # strikes at once


async def strike(victim: PeerId, address: str, number: int, old: Any) -> Any:
    """One stranger; what keeps its connection open. `old`: that of an earlier one, whose endpoint is used again."""
    transport, raw = old or (await QuicTransport.bind(SecretKey(os.urandom(32)), bind_ip="127.0.0.1"), None)
    if raw is not None:
        raw.close(0, "")
    with suppress(CoterieError, TimeoutError):
        async with asyncio.timeout(5):
            raw = await transport.connect(victim, [address])
            if number % 2:
                await greeting.greet(raw, os.urandom(16), NetLimits())
            return transport, raw
    return transport, None


async def storm(victim: PeerId, address: str, per_s: float, seconds: float) -> None:
    kept: deque[Any] = deque()
    tasks: set[asyncio.Task[Any]] = set()
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        due = (time.monotonic() - began) * per_s
        while number < due and len(tasks) < UNDER_WAY_MAX:
            number += 1
            old = kept.popleft() if len(kept) >= KEPT_MAX else None
            task = asyncio.ensure_future(strike(victim, address, number, old))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda done: kept.append(done.result()))
        print(number, flush=True)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    quic.REFUSED_TRIES_MAX = 1  # so that the rate is the one that was asked for
    asyncio.run(storm(PeerId.parse(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
    os._exit(0)
