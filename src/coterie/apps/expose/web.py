"""http://NAME.COMPUTER.localhost:PORT: one port here for web services of all peers, and pages of their other places.

A connection carries requests one after another. Each is judged by its own `Host` and `Origin`; its body is counted, so
that the next head is found. Answers pass as they are. After "101 Switching Protocols" all bytes pass both ways.
"""

import asyncio
import socket
from collections.abc import Callable, Collection

from coterie.apps.expose.connecting import Connecting
from coterie.apps.expose.leads import FindPage
from coterie.apps.expose.messages import Use
from coterie.apps.expose.web_hosts import service_of, with_host
from coterie.errors import AccessDenied, CoterieError, NotFound
from coterie.identity import PeerId
from coterie.services.carry.http_head import Head
from coterie.services.carry.http_requests import HEAD_S, Requests
from coterie.services.carry.splice import break_off
from coterie.services.local.web_pages import is_own_page
from coterie.texts import tr

FindPeer = Callable[[str], PeerId]
"""The peer that a label of a host name means. Raises `NotFound`."""


class Web:
    """Answers the connections of the web port."""

    def __init__(
        self,
        connecting: Connecting,
        find: FindPeer,
        in_names: Callable[[str], str],
        page: FindPage,
        zones: Callable[[], Collection[str]],
    ) -> None:
        """`in_names`: text with the names of computers for their ids, for pages that say what went wrong.

        `page`: where a name without a service leads. `zones`: last labels of the hosts that are served.
        """
        self._connecting = connecting
        self._find = find
        self._in_names = in_names
        self._page = page
        self._zones = zones

    async def serve(self, program: socket.socket) -> None:
        """One connection of a browser or the like."""
        client = Requests(program)
        try:
            async with asyncio.timeout(HEAD_S):
                head = await client.head()
            while head is not None:
                head = await self._serve_host(client, head)
        except (CoterieError, TimeoutError) as error:
            if client.is_answered:
                break_off(program)
            else:
                await client.refuse(error, self._in_names(str(error)))

    async def _serve_host(self, client: Requests, head: Head) -> Head | None:
        """Requests to one service; the head of the first that is for another."""
        name, label = service_of(head.host, self._zones())
        _check(head)
        peer = self._find(label)
        try:
            return await self._serve_service(client, head, peer, name)
        except NotFound:
            page = await self._page(peer, name)
            if not page or client.is_answered or head.method not in ("GET", "HEAD"):
                raise
            await client.lead(page)
            return None

    async def _serve_service(self, client: Requests, head: Head, peer: PeerId, name: str) -> Head | None:
        async with self._connecting.open(peer, Use(name)) as call:

            def judged(following: Head) -> bytes | None:
                if following.host != head.host:
                    return None
                _check(following)
                return with_host(following, call.answer.host_header)

            return await client.pass_on(call.stream, head, judged, first=call.rest, heard=call.heard)


def _check(head: Head) -> None:
    if not is_own_page(head.method, head.host, head.headers):
        raise AccessDenied(tr("a page of another site may not use services here"))
