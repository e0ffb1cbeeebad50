"""Services of a peer: one stream beside raw QUIC, new connections a second, thousands open at once, the echo."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure

STREAM_BYTES = 256 << 20
BLOCK = os.urandom(1 << 20)
ECHOES = 500
SHORT = 600
OPEN = 2_000


@contextlib.contextmanager
def _giver(folder: Path) -> Iterator[dict[str, Any]]:
    """A process with a node that exposes an echo and a source, and a raw QUIC endpoint."""
    command = [sys.executable, "-m", "bench.expose", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.communicate(timeout=30)


async def _give(folder: Path) -> None:
    """Until standard input ends."""
    from bench.peer import _raw_giver, open_node
    from coterie.identity import SecretKey
    from coterie.net.quic.transport import QuicTransport

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(STREAM_BYTES // len(BLOCK)):
            writer.write(BLOCK)
            await writer.drain()
        writer.close()

    async with open_node(folder) as node, node.contacts.invite() as invitation:
        raw = await QuicTransport.bind(SecretKey(os.urandom(32)), port=0, bind_ip="127.0.0.1")
        serving = asyncio.ensure_future(_raw_giver(raw))
        for name, answer in (("echo", echo), ("source", source)):
            server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_024)
            node.expose.expose(str(server.sockets[0].getsockname()[1]), name, ["contacts"])
        facts = {
            "peer": str(node.peer_id),
            "ticket": invitation.invited.ticket,
            "raw_peer": str(raw.peer_id),
            "raw_addresses": raw.addresses,
        }
        print(json.dumps(facts), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()


async def _raw_rate(facts: dict[str, Any]) -> float:
    """Bytes a second of one raw QUIC stream."""
    from coterie.identity import PeerId, SecretKey
    from coterie.net.quic.transport import QuicTransport

    transport = await QuicTransport.bind(SecretKey(os.urandom(32)), port=0, bind_ip="127.0.0.1")
    link = await transport.connect(PeerId.parse(facts["raw_peer"]), facts["raw_addresses"])
    stream = await link.open_stream()
    began = time.perf_counter()
    await stream.write(STREAM_BYTES.to_bytes(8, "big"))
    while await stream.read(256 << 10):
        pass
    rate = STREAM_BYTES / (time.perf_counter() - began)
    await transport.close()
    return rate


async def _callers(ports: dict[str, int]) -> dict[str, float]:
    """In a process of its own, as the programs are."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["source"], limit=1 << 20)
    size = 0
    while data := await reader.read(1 << 20):
        size += len(data)
    assert size == STREAM_BYTES
    rate = size / (time.perf_counter() - began)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["echo"])
    took = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        writer.write(b"x" * 64)
        await reader.readexactly(64)
        took.append(time.perf_counter() - began)
    writer.close()

    async def once(keep: bool = False) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports["echo"])
        writer.write(b"x")
        await reader.readexactly(1)
        if not keep:
            writer.close()
        return writer

    async def several() -> None:
        for _ in range(SHORT // 20):
            await once()

    began = time.perf_counter()
    await asyncio.gather(*(several() for _ in range(20)))
    short = SHORT / (time.perf_counter() - began)
    began = time.perf_counter()
    gate = asyncio.Semaphore(50)

    async def held() -> asyncio.StreamWriter:
        async with gate:
            return await once(keep=True)

    kept = await asyncio.gather(*(held() for _ in range(OPEN)))
    opened_s = time.perf_counter() - began
    for writer in kept:
        writer.close()
    return {"rate": rate, "p99": sorted(took)[int(ECHOES * 0.99)], "short": short, "opened_s": opened_s}


async def _take(folder: Path, facts: dict[str, Any]) -> dict[str, float]:
    from bench.peer import open_node

    async with open_node(folder) as node:
        await node.contacts.join(facts["ticket"])
        ports = {}
        for name in ("echo", "source"):
            line = await node.expose.connect(f"{facts['peer']}/{name}")
            ports[name] = int(line.address.rpartition(":")[2])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.expose", "--call", json.dumps(ports), stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
    return {**json.loads(out), "raw": await _raw_rate(facts)}


def measure() -> Iterator[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory() as place, _giver(Path(place) / "giver") as facts:
        got = asyncio.run(_take(Path(place) / "taker", facts))
    rate, raw = got["rate"] / 1e6, got["raw"] / 1e6
    yield Figure("expose one stream", rate, "MB/s", raw, rate / raw, ">= 0.8")
    yield Figure("expose echo p99", got["p99"] * 1e3, "ms", goal="<= 10 ms")
    yield Figure("expose new connections", got["short"], "1/s", goal=">= 200 1/s")
    yield Figure(f"expose {OPEN} open at once", got["opened_s"], "s")


if __name__ == "__main__":
    if sys.argv[1] == "--call":
        from coterie.services.local.descriptors import raise_limit

        raise_limit()
        print(json.dumps(asyncio.run(_callers(json.loads(sys.argv[2])))))
    else:
        asyncio.run(_give(Path(sys.argv[1])))
