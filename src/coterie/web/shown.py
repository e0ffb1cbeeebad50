"""Files that the page shows: where a browser loads one (/shown), and small pictures of them (/thumbs)."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from coterie.control.browsers import Browser
from coterie.control.page_gate import BROWSER, ORIGIN
from coterie.errors import AccessDenied, CoterieError, UsageError
from coterie.home import Home
from coterie.texts import tr
from coterie.web import rights
from coterie.web.panels import Panels
from coterie.web.phones import PREFIX, Everybody, service_in
from coterie.web.previews.decoding import Decoder
from coterie.web.previews.kinds import Kind
from coterie.web.previews.server import Previews
from coterie.web.previews.sources import Opener, file_here
from coterie.web.previews.thumbs import EDGES, Kept, Thumbnails

if TYPE_CHECKING:
    from coterie.node import Node

PLAYED = ("audio", "film")  # what the right to play opens
DRAWN: dict[str, str] = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class FilesShown:
    """Belongs to the page. `previews` answers at the origin of files of others."""

    def __init__(self, node: "Node", panels: Panels, everybody: Everybody) -> None:
        self._node = node
        self._panels = panels
        self._everybody = everybody
        self._owners: dict[str, Browser] = {}
        self.previews = Previews(self._seen, still_may=self._still_may)
        kept = Kept(Home.locate(node.home).thumbnails)
        self._thumbnails = Thumbnails(Decoder(node.tasks), kept, self._bytes_max)

    def routes(self) -> list[Route]:
        """Those of the page."""
        return [Route("/shown", self._shown), Route("/thumbs", self._thumb)]

    async def _shown(self, request: Request) -> Response:
        """The way to where a file is shown; with `what`, as JSON: that and what it is, or why not (`problem`)."""
        browser, origin = request.scope[BROWSER], request.scope.get(ORIGIN, "")
        try:
            name, source = self._named(request, browser)
            if not origin:
                raise UsageError(tr("over plain HTTP files of others are not shown here"))
            address, kind, size = await self.previews.show(browser.id, request.client, name, source)
            _check_kind(browser, kind)
        except AccessDenied:
            raise
        except CoterieError as error:
            if "what" not in request.query_params:
                raise
            return JSONResponse({"problem": str(error)})
        self._owners[browser.id] = browser
        if "what" not in request.query_params:
            return RedirectResponse(origin + address, 303)
        return JSONResponse({"url": origin + address, "sort": kind.sort, "media": kind.media, "size": size})

    async def _thumb(self, request: Request) -> Response:
        """A small picture as JPEG; 204: there is none."""
        _, source = self._named(request, request.scope[BROWSER])
        edge = EDGES.get(request.query_params.get("edge", ""), EDGES["small"])
        made = await self._thumbnails.draw(source, edge)
        if made is None:
            return Response(status_code=204, headers=DRAWN)
        return Response(made, media_type="image/jpeg", headers=DRAWN)

    def _named(self, request: Request, browser: Browser) -> tuple[str, Opener]:
        """What is asked for: a `place`, or for who may see it the `path` of a file of this computer."""
        if place := request.query_params.get("place", ""):
            reading = self._node.service("files").reading
            return place.rstrip("/").rpartition("/")[2], partial(reading.open, place)
        path = Path(request.query_params.get("path", ""))
        self._panels.check_file(browser, path)
        return path.name, file_here(path)

    def _bytes_max(self) -> int:
        return int(self._node.service("files").thumbnail_bytes_max)

    def _still_may(self, owner: str) -> bool:
        """Whether a browser that was shown something may see files now."""
        known = self._owners.get(owner)
        now = self._everybody.still(known) if known is not None else None
        return now is not None and any(now.may(right) for right in rights.SHOWN_AT_PLACES)

    def _seen(self, owner: str, client: Any) -> None:
        """A file was shown to this browser over this connection."""
        phones = service_in(self._node)
        if phones is not None and owner.startswith(PREFIX):
            phones.seen(owner.removeprefix(PREFIX), client)


def _check_kind(browser: Browser, kind: Kind) -> None:
    """Raises `AccessDenied` where it may only play, and this is nothing to be played."""
    if not browser.may(rights.SHOWN) and kind.sort not in PLAYED:
        raise AccessDenied(tr("this browser may only play films and music"))
