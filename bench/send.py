"""1 GB sent to a contact, from accepting to received, beside `get` of the same file between the same two processes."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import Figure, median

ROUNDS = 3
SMALL_ROUNDS = 10
GB = 1_000_000_000


async def _give(folder: Path) -> None:
    """Share the file and be a contact; then one offer of a file for each line on standard input."""
    from bench.peer import open_node
    from bench.transfer import large_file

    large, small = large_file(folder / "large.bin", GB), large_file(folder / "small.bin", 1_000)
    async with open_node(folder / "giver") as node, node.contacts.invite() as invitation:
        shared = await node.files.share(large)
        print(json.dumps({"ticket": shared.ticket, "join": invitation.invited.ticket}), flush=True)
        met = await invitation.met()
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            record = await node.send.read([large if line == "large" else small])
            node.send.offer_to(record, met.peer)


async def _take(folder: Path, giver: Any, facts: dict[str, Any]) -> dict[str, list[float]]:
    from bench.peer import open_node

    took: dict[str, list[float]] = {"get": [], "send": [], "small": []}
    async with open_node(folder / "taker") as node:
        await node.contacts.join(facts["join"])

        async def send(what: str) -> float:
            known = len(node.send.inbox())
            giver.stdin.write(f"{what}\n")
            giver.stdin.flush()
            while len(node.send.inbox()) == known:
                await asyncio.sleep(0.01)
            got = node.send.inbox()[-1]
            began = time.perf_counter()
            node.send.accept(got.id, folder / "sent")
            with node.send.watching() as fresh:
                while node.send.inbox()[-1].state != "received":
                    fresh.clear()
                    await fresh.wait()
            return time.perf_counter() - began

        for _ in range(ROUNDS):
            began = time.perf_counter()
            await node.files.get(facts["ticket"], folder / "got.bin")
            took["get"].append(time.perf_counter() - began)
            (folder / "got.bin").unlink()
            took["send"].append(await send("large"))
            for path in (folder / "sent").iterdir():
                path.unlink()
        for _ in range(SMALL_ROUNDS):
            took["small"].append(await send("small"))
    return took


def measure() -> list[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="coterie-bench-") as place:
        command = [sys.executable, "-m", "bench.send", place]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as giver:
            assert giver.stdout is not None
            assert giver.stdin is not None
            took = asyncio.run(_take(Path(place), giver, json.loads(giver.stdout.readline())))
            giver.communicate("", timeout=30)
    get, send = (median([GB / 1e6 / seconds for seconds in took[name]]) for name in ("get", "send"))
    ratio = median([g / s for g, s in zip(took["get"], took["send"], strict=True)])
    return [
        Figure("send_1gb", send, "MB/s", get, ratio, ">= 0.9 of get"),
        Figure("send_1kb", 1e3 * median(took["small"]), "ms"),
    ]


if __name__ == "__main__":
    asyncio.run(_give(Path(sys.argv[1])))
