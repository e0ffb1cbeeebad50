"""How many chunks a second one core schedules: the swarm core with eight sources, every event that a chunk causes."""

import time
from collections import deque
from random import Random
from typing import Any

from bench.figures import Figure
from coterie.content.swarm import events as e
from coterie.content.swarm.core import SwarmCore
from coterie.machine import SetTimer, TimerFired

SOURCES = 8
CHUNKS = 8192  # a full node: 1.3 GB
CHUNK_BYTES = 160_000
TOLD_AT_ONCE = 20  # pieces in one message of a source that is fetching too


def schedule() -> list[Figure]:
    """Half the sources are whole, half tell what they gain, twenty pieces at a time, while the download runs."""
    began = time.process_time()
    count = run(Random(1))
    rate = count / (time.process_time() - began)
    return [Figure("swarm_schedule", rate, "chunks/s", goal=">= 10,000")]


def run(random: Random) -> int:
    """One download of one node; the number of chunks."""
    core = SwarmCore(random)
    now = 0.0
    asked: list[deque[tuple[int, int]]] = [deque() for _ in range(SOURCES)]
    timers: dict[Any, float] = {}
    left = CHUNKS

    def feed(event: Any) -> None:
        for output in core.handle(event, now):
            if type(output) is e.AskChunks:
                asked[output.peer].append((output.first, output.count))
            elif type(output) is e.AskNode:
                prepared = e.Prepared(b"root", None, (CHUNK_BYTES,) * CHUNKS, range(CHUNKS), ())
                feed(e.NodeArrived(output.peer, b"root", None, prepared))
            elif type(output) is SetTimer:
                timers[output.key] = output.at

    for source in range(SOURCES):
        feed(e.SourceUp(source, source % 2 == 0, SOURCES))
    feed(e.Begin(b"root", None))
    told = 0
    while left:
        now += 0.001
        for source in range(SOURCES):
            if asked[source]:
                _, chunks = asked[source].popleft()
                feed(e.Arrived(source, chunks * CHUNK_BYTES, 0.01))
                feed(e.Stored(source, chunks))
                left -= chunks
        if told < CHUNKS:
            for source in range(1, SOURCES, 2):
                feed(e.Holds(source, b"root", ((1 << TOLD_AT_ONCE) - 1) << told))
            told += TOLD_AT_ONCE
        for key in [key for key, at in timers.items() if at <= now]:
            del timers[key]
            feed(TimerFired(key))
    return CHUNKS
