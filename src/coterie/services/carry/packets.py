"""Datagrams of flows that go as datagrams of the connection itself, each behind the number of its flow.

They are lost or overtaken as UDP is. What does not fit one packet goes over the flow's stream: see `datagrams`.
"""

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from coterie.errors import LimitExceeded, PeerError, UsageError
from coterie.net import Connection
from coterie.services.carry.messages import FLOW_BYTES, pack_packet, read_packet
from coterie.services.local.flows import Inbox
from coterie.wire.frames import Protocol


class PacketFlow:
    """The way of one flow: what came, and `send`."""

    def __init__(self, protocol: Protocol, connection: Connection, number: int, *, is_asker: bool) -> None:
        self.came = Inbox()
        self._protocol = protocol
        self._connection = connection
        self._number = number
        self._is_asker = is_asker

    async def send(self, data: bytes) -> bool:
        """Send one datagram; False: it does not fit. Raises `TransportError`."""
        if len(data) > self._connection.datagram_room(self._protocol) - FLOW_BYTES:
            return False
        packet = pack_packet(self._number, data, is_asker=self._is_asker)
        try:
            await self._connection.send_datagram(self._protocol, packet)
        except UsageError:  # packets have just become smaller
            return False
        return True


class Packets:
    """The flows of one protocol on one node, by connection."""

    def __init__(self, protocol: Protocol, start: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        """`start` runs work in the background."""
        self._protocol = protocol
        self._start = start
        self._flows: dict[Connection, dict[tuple[int, bool], PacketFlow]] = {}

    @contextlib.contextmanager
    def flow(self, link: object, number: int, *, is_asker: bool) -> Iterator[PacketFlow | None]:
        """The way of the flow of this number, while the block runs.

        None where its stream alone carries it: the other side does not take packets (0), or the number is in use.
        """
        flows = self._flows_of(link) if isinstance(link, Connection) and number else None
        key = number, not is_asker  # of the packets that come
        if flows is None or key in flows:
            yield None
            return
        assert isinstance(link, Connection)  # noqa: S101  (else `flows` is None)
        flows[key] = PacketFlow(self._protocol, link, number, is_asker=is_asker)
        try:
            yield flows[key]
        finally:
            del flows[key]

    def _flows_of(self, connection: Connection) -> dict[tuple[int, bool], PacketFlow] | None:
        if connection not in self._flows:
            try:
                packets = connection.datagrams(self._protocol)
            except LimitExceeded:
                return None
            self._flows[connection] = {}
            self._start(self._read(connection, packets), "reading datagrams of a computer")
        return self._flows[connection]

    async def _read(self, connection: Connection, packets: Any) -> None:
        """Until the connection ends."""
        flows = self._flows[connection]
        try:
            async for packet in packets:
                try:
                    number, is_askers, data = read_packet(packet)
                except PeerError:
                    continue  # nothing says that a datagram came whole, or from this version
                flow = flows.get((number, is_askers))
                if flow is not None:
                    flow.came.arrive(data)
        finally:
            self._flows.pop(connection, None)
