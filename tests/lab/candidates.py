"""A node that names addresses for a direct path, or hears them: run by `test_candidates.py` in the laboratory.

    python -m tests.lab.candidates NUMBER '["peer:port", ...]' '["named:port", ...]' SECONDS

It prints its addresses, dials the peer where one is given and else waits for it, and stays connected for SECONDS.
Then it prints how many bytes it sent.
"""

import asyncio
import json
import sys

from coterie.net.quic.transport import QuicTransport
from tests.lab.remote import key_of


async def main(number: int, dial: list[str], named: list[str], seconds: float) -> None:
    """Be numbers 1 and 2 to each other."""
    transport = await QuicTransport.bind(key_of(number))
    for address in named:
        await transport.add_external_address(address)
    print(json.dumps([a for a in transport.addresses if not a.startswith(("127.", "["))]), flush=True)
    peer = key_of(3 - number).peer_id
    connection = await transport.connect(peer, dial) if dial else await transport.accept()
    await asyncio.sleep(seconds)
    print(transport.stats().sent_bytes, flush=True)
    connection.close(0, "")
    await transport.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]), float(sys.argv[4])))
