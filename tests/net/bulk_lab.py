"""Two nodes with a bulk conversation between them, over memory, over QUIC streams, and over lanes."""

import time
from typing import Any

from coterie.net import BulkStream, Connection, Endpoint, Guard, Lanes, NetLimits
from coterie.net.lanes.lanes import PeerLanes
from coterie.testing import bulk_lab
from coterie.testing.bulk_lab import BLOCK, UNKNOWN, block
from coterie.wire.frames import HEADER
from tests.net.conftest import Lab

__all__ = ["BLOCK", "UNKNOWN", "BulkLab", "block", "lanes_of", "move_to_lane"]


class BulkLab(bulk_lab.BulkLab):
    """Makes conversations of one kind: "memory", "quic" or "lane"."""

    def __init__(self, kind: str, **lanes: Any) -> None:
        super().__init__(Lab("memory" if kind == "memory" else "quic"))
        self.kind = kind
        self._lanes = {"after_bytes": 0, **lanes}
        if kind == "lane":
            self.path_kind = kind

    async def endpoint(self, number: int, **bounds: Any) -> Endpoint:
        limits = NetLimits(**bounds)
        lanes = Lanes("127.0.0.1", **self._lanes) if self.kind == "lane" else None
        guard = Guard(lambda peer, name: True, limits=limits)
        endpoint = Endpoint(await self.lab.transport(number), guard=guard, limits=limits, lanes=lanes)
        endpoint.start()
        return endpoint

    def begun(self, bulk: BulkStream) -> BulkStream:
        super().begun(bulk)
        if self.kind == "lane":
            move_to_lane(bulk)
        return bulk


def move_to_lane(bulk: BulkStream) -> None:
    """Write what the other side skips until a lane is there."""
    for _ in range(60):
        bulk.write(HEADER.pack(1, UNKNOWN))
        if bulk.path is not None and bulk.path.kind == "lane":
            return
        time.sleep(0.05)
    raise AssertionError(f"no lane came up: {bulk._lanes.problem if bulk._lanes else None}")


def lanes_of(connection: Connection) -> PeerLanes:
    assert isinstance(connection.lanes, PeerLanes)
    return connection.lanes
