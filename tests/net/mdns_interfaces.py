"""Run in a process of its own by test_mdns: two resolvers start before there is any network interface."""

import asyncio
import fcntl
import socket
import struct
import sys

from coterie.errors import UsageError
from coterie.identity import SecretKey
from coterie.net.find.mdns import MdnsResolver
from coterie.sim.isolation import enter_namespace
from coterie.wire import PeerRecord

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 0x1  # Linux: SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
CANNOT = 77


def set_loopback(*, up: bool) -> None:
    """Bring the only interface up or down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(probe, GET_FLAGS, request), 16)[0]
        flags = flags | UP if up else flags & ~UP
        fcntl.ioctl(probe, SET_FLAGS, struct.pack("16sh22x", b"lo", flags))


async def main() -> None:
    """Down: nobody is found. Up: both find each other. Down and up again: so they do anew."""
    set_loopback(up=False)
    keys = [SecretKey(bytes([number]) * 32) for number in (1, 2)]
    made = [MdnsResolver(key.peer_id) for key in keys]
    found: list[asyncio.Queue[int]] = [asyncio.Queue(), asyncio.Queue()]

    async def publish(sequence: int) -> None:
        for key, resolver in zip(keys, made, strict=True):
            record = PeerRecord(peer=key.peer_id, sequence=sequence, issued=1, expires=2)
            await resolver.publish(record.sign(key))

    def taker(queue: "asyncio.Queue[int]"):  # type: ignore[no-untyped-def]
        def take(raw: bytes):  # type: ignore[no-untyped-def]
            record = PeerRecord.read(raw)
            queue.put_nowait(record.sequence)
            return record.peer

        return take

    for resolver, queue in zip(made, found, strict=True):
        await resolver.start(taker(queue))
    await publish(1)
    await asyncio.sleep(0.5)
    assert all(queue.empty() for queue in found), "found without a network"
    set_loopback(up=True)
    async with asyncio.timeout(15):
        assert [await queue.get() for queue in found] == [1, 1]
    set_loopback(up=False)
    await asyncio.sleep(6)
    set_loopback(up=True)
    await publish(2)
    async with asyncio.timeout(15):
        assert [await queue.get() for queue in found] == [2, 2]
    for resolver in made:
        await resolver.close()


if __name__ == "__main__":
    import os

    os.environ.pop("COTERIE_ISOLATED", None)
    try:
        if not enter_namespace():
            sys.exit(CANNOT)
    except UsageError:
        sys.exit(CANNOT)
    asyncio.run(main())
