"""REACH: connections and streams to peers, over QUIC or in memory. Importing this does not load QUIC."""

from coterie.net.connection import Connection
from coterie.net.endpoint import Endpoint
from coterie.net.guard import Guard
from coterie.net.interfaces import PathInfo, Transport
from coterie.net.lanes.bulk_stream import BulkStream
from coterie.net.lanes.lanes import Lanes
from coterie.net.limits import NetLimits
from coterie.net.memory import MemoryNetwork, MemoryTransport
from coterie.net.stream import Stream

__all__ = [
    "BulkStream",
    "Connection",
    "Endpoint",
    "Guard",
    "Lanes",
    "MemoryNetwork",
    "MemoryTransport",
    "NetLimits",
    "PathInfo",
    "Stream",
    "Transport",
]
