"""A player that seeks at random places of a file while it downloads at a fixed rate: how long it waits."""

import asyncio
import http.client
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.figures import Figure, Giver, room
from bench.peer import open_node
from bench.transfer import GB, large_file

RATE_BYTES_PER_S = 10_000_000
SEEKS = 60
READ_BYTES = 500_000  # after each seek: half a second of a film at 8 Mbit/s
PLAYS_S = 0.5  # between seeks


def seeks() -> list[Figure]:
    """Seconds from each seek to the first READ_BYTES there; the median, and the 95th percentile."""
    with room() as place:
        giver = Giver(place / "a", [large_file(place / "film.mkv", GB)])
        waits = sorted(asyncio.run(_play(place / "b", giver.shares[0]["ticket"], place / "copy.mkv")))
        giver.end()
        return [
            Figure("play_seek_p50", waits[len(waits) // 2], "s"),
            Figure("play_seek_p95", waits[int(len(waits) * 0.95)], "s", 2.0, None, "<= 2 s"),
        ]


async def _play(home: Path, ticket: str, target: Path) -> list[float]:
    places = random.Random(1)
    async with open_node(home) as node:
        node.files.limits.change(up=None, down=RATE_BYTES_PER_S, up_hours=None, down_hours=None)
        playing = await node.play.play(ticket, target)
        url = playing.files[0].url
        waits = []
        for _ in range(SEEKS):
            began = time.perf_counter()
            await asyncio.to_thread(_read, url, places.randrange(GB - READ_BYTES))
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(PLAYS_S)
        return waits


def _read(url: str, offset: int) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("GET", parts.path, headers={"Range": f"bytes={offset}-"})
    if len(connection.getresponse().read(READ_BYTES)) != READ_BYTES:
        raise SystemExit(f"less than {READ_BYTES} bytes at {offset}")
    connection.close()
