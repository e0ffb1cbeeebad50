"""UPnP, by the library `miniupnpc`: it blocks, so each call runs in a thread.

The router is found by our own question (`ssdp`), so that the library is sent to the default router only. Where there is
no wheel of the library (macOS, Python 3.14) UPnP is left out, and `status` says so.
"""

import asyncio
import contextlib
import socket
from typing import Any

from coterie.errors import PeerError, TransportError
from coterie.net.port_mapping import description, ssdp
from coterie.net.port_mapping.core import Ask, Link, Release
from coterie.texts import tr

SEARCH_S = 1.2  # the question lets routers wait for up to 1 s (MX)
CALL_S = 8.0  # guess: the library gives each of its requests 3 s to connect
RELEASE_S = 1.2  # guess: the user waits for this at Ctrl-C; what is not taken away by then ends by itself
ANSWERS_MAX = 32  # other devices of the home answer too
NAME = "coterie"
_LIBRARY = "not tried: the library miniupnpc is not installed (`pip install miniupnpc`)"
_ONLY_PERMANENT = "OnlyPermanentLeasesSupported"  # UPnP error 725
_IN_USE = "ConflictInMappingEntry"  # 718


class Upnp:
    """Remembers where the router describes itself, until that fails."""

    def __init__(self) -> None:
        self._at: tuple[Link, str] | None = None

    async def ask(self, ask: Ask) -> tuple[str, int, int]:
        """Outside address, port and lifetime (s) that the router granted.

        Raises:
            PeerError: the router refuses.
            TransportError: there is none that speaks UPnP, or no library.
        """
        url = await self._find(ask.link)
        try:
            granted: tuple[str, int, int] = await _in_thread(_map, url, ask)
        except TransportError:
            self._at = None
            raise
        return granted

    async def release(self, release: Release) -> bool:
        """Delete the mapping; whether it is gone. Quiet when that fails, for ours end by themselves."""
        with contextlib.suppress(TransportError, PeerError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await _in_thread(_unmap, await self._find(release.link), release)
                return True
        return False

    async def _find(self, link: Link) -> str:
        if self._at is None or self._at[0] != link:
            self._at = link, await find_description(link)
        return self._at[1]


async def find_description(link: Link) -> str:
    """Where the default router describes itself.

    Raises:
        TransportError: it does not answer as one that speaks UPnP.
    """
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(link.local))
            sock.bind((link.local, 0))
            for target in (ssdp.GROUP, link.router):
                await loop.sock_sendto(sock, ssdp.search_request(), (target, ssdp.PORT))
            async with asyncio.timeout(SEARCH_S):
                for _ in range(ANSWERS_MAX):
                    answer, sender = await loop.sock_recvfrom(sock, ssdp.ANSWER_BYTES_MAX + 1)
                    if url := ssdp.description_url(answer, str(sender[0]), link.router):
                        return url
    except TimeoutError:
        pass
    except OSError as error:
        raise TransportError(tr("cannot be asked ({strerror})", strerror=error.strerror or error)) from None
    raise TransportError(tr("no answer"))


async def _in_thread(work: Any, *arguments: Any) -> Any:
    try:
        import miniupnpc  # noqa: F401
    except ImportError:
        raise TransportError(_LIBRARY) from None
    try:
        async with asyncio.timeout(CALL_S):
            return await asyncio.to_thread(work, *arguments)
    except TimeoutError:
        raise TransportError(tr("no answer")) from None


def _router(url: str) -> Any:
    import miniupnpc

    found = miniupnpc.UPnP()
    safe = description.checked(description.fetch(url), url)
    try:
        with description.served(safe) as here:
            found.selectigd(here)
    except Exception as error:  # noqa: BLE001  (the library raises plain Exception)
        raise TransportError(tr("its description cannot be used ({error})", error=error)) from None
    return found


def _map(url: str, ask: Ask) -> tuple[str, int, int]:
    router, port = _router(url), ask.port
    outside = ask.outside_port
    told = (port.protocol.upper(), ask.link.local, port.number, NAME, "")
    try:
        try:
            router.addportmapping(outside, *told, ask.lifetime_s)
        except Exception as error:
            if _ONLY_PERMANENT in str(error):
                router.addportmapping(outside, *told, 0)
            elif _IN_USE in str(error):
                outside = int(router.addanyportmapping(0, *told, ask.lifetime_s))
            else:
                raise
        return str(router.externalipaddress()), outside, ask.lifetime_s
    except Exception as error:  # noqa: BLE001
        raise PeerError(f"the router says: {str(error)[:100]}") from None


def _unmap(url: str, release: Release) -> None:
    """Only what leads to this computer: a library or another program may have taken the port meanwhile."""
    router, port = _router(url), release.port
    outside, protocol = release.outside_port, port.protocol.upper()
    try:
        there = router.getspecificportmapping(outside, protocol)
        if there is not None and str(there[0]) == release.link.local and int(there[1]) == port.number:
            router.deleteportmapping(outside, protocol)
    except Exception as error:  # noqa: BLE001
        raise PeerError(f"the router says: {str(error)[:100]}") from None
