"""The side that uses services of peers: opens streams to them, and ports here that lead there."""

import itertools
import socket
from contextlib import AbstractAsyncContextManager

from coterie.apps.context import Context
from coterie.apps.expose.messages import PROTOCOL, Opened, Refused, Use
from coterie.errors import CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.services.carry.calls import Call, Calls
from coterie.services.carry.datagrams import carry_datagrams
from coterie.services.carry.messages import FLOW_MAX
from coterie.services.carry.packets import Packets
from coterie.services.carry.splice import break_off, splice
from coterie.services.local import Flow
from coterie.wire.frames import Message


class Connecting:
    """Streams to services of peers. All methods belong to the event loop."""

    def __init__(self, context: Context, packets: Packets) -> None:
        self._calls = Calls(PROTOCOL, context.net.connect, context.jobs.start, _judge, what="services")
        self._packets = packets
        self._flows = itertools.count()

    def open(self, peer: PeerId, use: Use) -> AbstractAsyncContextManager[Call[Opened]]:
        """A stream to a service while the block runs.

        Errors as `Calls.open`; besides:
            NotFound: no such service, or not for this node.
            TransportError: the program there was not reached.
        """
        return self._calls.open(peer, use, is_lasting=use.kind != "ask")

    async def ask(self, peer: PeerId, name: str) -> Opened:
        """What the service is, without connecting to its program. Errors as `open`."""
        async with self.open(peer, Use(name, "ask")) as call:
            return call.answer

    async def carry(self, peer: PeerId, name: str, program: socket.socket) -> None:
        """Connect `program`, a TCP connection, to a service until both sides have finished. Errors as `open`."""
        try:
            async with self.open(peer, Use(name)) as call:
                await splice(call.stream, program, call.rest, heard=call.heard)
        except CoterieError:
            break_off(program)
            raise

    async def carry_flow(self, peer: PeerId, name: str, flow: Flow) -> None:
        """Connect `flow`, of a UDP port here, to a service until one side is silent. Errors as `open`."""
        number = 1 + next(self._flows) % FLOW_MAX
        async with self.open(peer, Use(name, "udp", number)) as call:
            taken = number if call.answer.flow == number else 0
            with self._packets.flow(call.stream.link, taken, is_asker=True) as packets:
                await carry_datagrams(call.stream, flow, call.rest, packets=packets, heard=call.heard)


def _judge(peer: PeerId, answer: Message) -> Opened:
    match answer:
        case Opened():
            return answer
        case Refused(reason, is_failed):
            said = f"{peer.short} says: {reason}"
            raise TransportError(said) if is_failed else NotFound(said)
    raise PeerError(f"{peer.short} did not answer as coterie does")
