"""Ask a relay whether it is there, and how far away: one small HTTP request to its `/ping`."""

import asyncio
import ssl
from urllib.parse import urlsplit

from coterie.errors import TransportError

PROBE_S = 2.0  # guess: connect and answer; a relay slower than this is no use as one
ANSWER_BYTES_MAX = 4096


async def probe_relay(url: str, timeout_s: float = PROBE_S) -> float:
    """Seconds that the relay at `url` takes to answer a request on an open connection: about one round trip.

    Raises:
        TransportError: it does not answer in time, or is not a relay.
    """
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    loop = asyncio.get_running_loop()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=context, limit=ANSWER_BYTES_MAX
            )
            began = loop.time()
            writer.write(f"GET /ping HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            status = await reader.readline()
            rtt_s = loop.time() - began
    except TimeoutError:
        raise TransportError(f"the relay {url} does not answer within {timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TransportError(f"the relay {url} cannot be reached: {reason}") from None
    finally:
        if writer is not None:
            writer.transport.abort()
    if not status.startswith(b"HTTP/1.1 200"):
        raise TransportError(f"what answers at {url} is not a relay")
    return rtt_s
