"""One side of a benchmark in a process of its own: `give` shares paths and serves, `take` fetches and measures.

Both speak JSON lines on standard output. `give` ends when its standard input closes and says its peak memory.
"""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from coterie import Node
from coterie.identity import PeerId, SecretKey
from coterie.net.quic.transport import QuicTransport

RAW_WRITE_BYTES = 256 << 10  # measured: the best size of a write


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def rss_peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def _raw_giver(transport: QuicTransport) -> None:
    """Answer each raw stream's 8-byte count with that many bytes, as fast as the transport takes them."""
    block = os.urandom(RAW_WRITE_BYTES)
    while True:
        connection = await transport.accept()
        with contextlib.suppress(Exception):
            while True:
                stream = await connection.accept_stream()
                left = int.from_bytes(await stream.read(8), "big")
                while left:
                    part = block[: min(left, RAW_WRITE_BYTES)]
                    await stream.write(part)
                    left -= len(part)
                await stream.finish()


@contextlib.asynccontextmanager
async def open_node(home: Path) -> AsyncIterator[Node]:
    """A node on loopback."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lanes = os.environ.get("COTERIE_BENCH_LANES", "true")
    (home / "config.toml").write_text(f'bind = "127.0.0.1"\ndiscovery = false\nlanes = {lanes}\n')
    async with Node.open(home) as node:
        yield node


async def give(home: Path, paths: list[Path]) -> None:
    async with open_node(home) as node:
        raw = await QuicTransport.bind(SecretKey(os.urandom(32)), port=0, bind_ip="127.0.0.1")
        server = asyncio.ensure_future(_raw_giver(raw))
        say(raw_peer=str(raw.peer_id), raw_addresses=raw.addresses)
        for path in paths:
            began = time.perf_counter()
            shared = await node.files.share(path)
            say(
                ticket=shared.ticket,
                seconds=time.perf_counter() - began,
                files=shared.files,
                size=shared.size,
            )
        closed = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(closed.set)), daemon=True
        ).start()
        await closed.wait()
        server.cancel()
        await raw.close()
    say(rss_peak=rss_peak(), sent=node.files.server.sent_bytes)


async def _raw_take(peer: str, addresses: list[str], size: int) -> float:
    transport = await QuicTransport.bind(SecretKey(os.urandom(32)), port=0, bind_ip="127.0.0.1")
    connection = await transport.connect(PeerId.parse(peer), addresses)
    stream = await connection.open_stream()
    began = time.perf_counter()
    await stream.write(size.to_bytes(8, "big"))
    got = 0
    while data := await stream.read(RAW_WRITE_BYTES):
        got += len(data)
    seconds = time.perf_counter() - began
    connection.close(0, "done")
    await transport.close()
    if got != size:
        raise SystemExit(f"the raw stream brought {got} of {size} bytes")
    return seconds


async def take(home: Path, raw: dict[str, Any], ticket: str, target: Path, rounds: int) -> None:
    """Measure `rounds` pairs: raw stream (0 bytes: skipped), then a whole get; the target is removed between."""
    for _ in range(rounds):
        raw_s = await _raw_take(raw["peer"], raw["addresses"], raw["size"]) if raw["size"] else None
        async with open_node(home) as node:
            began, cpu = time.perf_counter(), time.process_time()
            received = await node.files.get(ticket, target)
            get_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        say(
            raw_s=raw_s,
            get_s=get_s,
            cpu_s=cpu_s,
            size=received.size,
            files=received.files,
            failed=len(received.failed),
        )
        if rounds > 1:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    say(rss_peak=rss_peak())


def main() -> None:
    job = json.loads(sys.argv[1])
    if job["job"] == "give":
        asyncio.run(give(Path(job["home"]), [Path(p) for p in job["paths"]]))
    else:
        asyncio.run(take(Path(job["home"]), job["raw"], job["ticket"], Path(job["target"]), job["rounds"]))


if __name__ == "__main__":
    main()
