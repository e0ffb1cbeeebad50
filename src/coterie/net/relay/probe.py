"""Ask a relay whether it is there, and how far away: one small HTTP request to its `/ping`."""

import asyncio
import ssl
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from coterie.decoding import decoder
from coterie.errors import TransportError
from coterie.texts import tr

PROBE_S = 2.0  # guess: connect and answer; a relay slower than this is no use as one
ANSWER_BYTES_MAX = 4096
HEADERS_MAX = 32


async def clock_at_relay(url: str, timeout_s: float = PROBE_S) -> float | None:
    """What the clock of the relay at `url` shows (unix seconds, to one second); None when it does not say.

    Raises:
        TransportError: as `probe_relay`.
    """
    _, headers = await _ask(url, timeout_s)
    date = headers.get("date")
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() if date else None
    except ValueError:
        return None


async def probe_relay(url: str, timeout_s: float = PROBE_S) -> float:
    """Seconds that the relay at `url` takes to answer a request on an open connection: about one round trip.

    Raises:
        TransportError: it does not answer in time, or is not a relay.
    """
    rtt_s, _ = await _ask(url, timeout_s)
    return rtt_s


@decoder(TransportError, "the address of a relay")
def _place(url: str) -> tuple[str, int | None, str, bool]:
    """Host, port, "host:port" and whether it is reached by TLS."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port, parts.netloc, parts.scheme == "https"


async def _ask(url: str, timeout_s: float) -> tuple[float, dict[str, str]]:
    """Round trip and the headers of the answer, names in lower case."""
    host, port, place, is_secure = _place(url)
    context = ssl.create_default_context() if is_secure else None
    loop = asyncio.get_running_loop()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=ANSWER_BYTES_MAX)
            began = loop.time()
            writer.write(f"GET /ping HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
            status = await reader.readline()
            rtt_s = loop.time() - began
            headers = await _headers(reader)
    except TimeoutError:
        raise TransportError(
            tr("the relay {url} does not answer within {timeout_s:g} s", url=url, timeout_s=timeout_s)
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TransportError(
            tr("the relay {url} cannot be reached: {reason}", url=url, reason=reason)
        ) from None
    finally:
        if writer is not None:
            writer.transport.abort()
    if not status.startswith(b"HTTP/1.1 200"):
        raise TransportError(tr("what answers at {url} is not a relay", url=url))
    return rtt_s, headers


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while len(headers) < HEADERS_MAX and (line := (await reader.readline()).strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers
