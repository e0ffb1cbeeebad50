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
from coterie.net.quic.transport import QuicTransport

KEPT_MAX = 150  # connections that this program holds open: an endpoint each


async def strike(victim: PeerId, address: str, number: int) -> Any:
    """One stranger; what keeps its connection open."""
    transport = await QuicTransport.bind(SecretKey(os.urandom(32)), bind_ip="127.0.0.1")
    with suppress(CoterieError):
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
        while number < due and len(tasks) < 64:
            number += 1
            task = asyncio.ensure_future(strike(victim, address, number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda done: kept.append(done.result()))
        while len(kept) > KEPT_MAX:
            transport, _ = kept.popleft()
            closing = asyncio.ensure_future(transport.close())
            tasks.add(closing)
            closing.add_done_callback(tasks.discard)
        print(number, flush=True)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(storm(PeerId.parse(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
    os._exit(0)
