"""Where a batch of uploads goes once all of it is here: kept, into a shared folder, or to a person."""

import asyncio
import logging
import os.path
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coterie.apps.command import Command
from coterie.apps.invoke import Result, invoke
from coterie.control.answers import error_response
from coterie.control.browsers import Browser
from coterie.control.page_gate import BROWSER
from coterie.decoding import decoder
from coterie.errors import AccessDenied, CoterieError, LimitExceeded, NotFound, UsageError
from coterie.texts import tr, tr_count
from coterie.web.camera import landing_place, put_away
from coterie.web.phones import camera_folder
from coterie.web.uploads.landing import Landings, Order
from coterie.web.uploads.rules import Refused
from coterie.web.uploads.server import Uploads

PATH = "/up/finish"
BODY_BYTES_MAX = 16 * 1024
KEEP, SHARE, SEND, CAMERA = "keep", "share", "send", "camera"
RIGHTS = {KEEP: "upload", SHARE: "upload", SEND: "send", CAMERA: "upload"}

log = logging.getLogger(__name__)


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page asks when all files of a batch are here. `to`: "keep", "camera", "share:ID" or "send:NAME"."""

    batch: str
    to: str


class Arrivals:
    """Carries out what is asked of batches, and what an earlier run of the node began."""

    def __init__(
        self,
        node: Any,
        uploads: Uploads,
        called: Callable[[str], Command],
        kept_folder: Callable[[Browser], Path],
        with_id: Callable[[str], Browser | None],
    ) -> None:
        """`called`: the command with these words. `kept_folder`: where what a browser keeps here goes.

        `with_id`: the browser with this id, as it is now; None: it was removed.
        """
        self._node = node
        self._uploads = uploads
        self._called = called
        self._kept_folder = kept_folder
        self._with_id = with_id
        self._landings = Landings(uploads.folder)
        self._one = asyncio.Lock()

    def routes(self) -> list[Route]:
        """For the page."""
        return [Route(PATH, self._finish, methods=["POST"])]

    def start(self) -> None:
        """Go on with what an earlier run began."""
        self._node.tasks.start(self._resume(), "uploads of earlier")

    async def _resume(self) -> None:
        async with self._one:
            for order in await asyncio.to_thread(self._landings.resume):
                try:
                    _check(order, self._with_id(order.owner))
                    said = await self._then(order)
                except CoterieError as error:
                    said = tr("{paths} is here, but: {error}", paths=_names(order.landed), error=error)
                self._node.notices.tell("page", said, f"upload {order.batch}")
                await asyncio.to_thread(self._landings.done, order)

    async def _finish(self, request: Request) -> Response:
        try:
            wanted = read_finish(await _body(request))
            said = await self.finish(request.scope[BROWSER], wanted)
        except Refused as error:
            return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status)
        except CoterieError as error:
            return error_response(error)
        return JSONResponse({"said": said})

    async def finish(self, browser: Browser, wanted: Finish) -> str:
        """Bring a batch to where it belongs; what was done, for people.

        Raises:
            AccessDenied: this browser may not.
            NotFound: there is no such batch, share or person.
            Refused: something of the batch is still to come.
            StorageError: the disk refuses; the batch stays.
        """
        kind, _, whom = wanted.to.partition(":")
        right = RIGHTS.get(kind)
        if right is None:
            raise UsageError(tr("say where it goes: keep, share:ID or send:NAME"))
        if not browser.may(right):
            raise AccessDenied(tr("this browser may not do this: {right}", right=right))
        target = self._target(kind, whom, browser)
        async with self._one:
            order = await asyncio.to_thread(self._landings.land, browser.id, wanted.batch, target, wanted.to)
            _check(order, browser)  # which may be that of an earlier asking, where it came no further
            said = await self._then(order)
            await asyncio.to_thread(self._landings.done, order)
        return said

    def _target(self, kind: str, whom: str, browser: Browser) -> Path:
        if kind == SEND and not self._node.people.is_called(whom):
            raise NotFound(tr("nobody is called '{whom}' here", whom=whom))
        if kind == SHARE:
            share = next((one for one in self._node.service("files").shared() if one.id == whom), None)
            if share is None or not Path(share.path).is_dir():
                raise NotFound(tr("there is no shared folder '{whom}' here", whom=whom))
            return Path(share.path)
        if kind == CAMERA:
            place = landing_place(camera_folder(self._node, browser).path)
            if place.is_symlink():  # put there by somebody else who may write in the folder
                place.unlink()
            return place
        return self._kept_folder(browser)

    async def _then(self, order: Order) -> str:
        """What is to be done with what has landed."""
        kind, _, whom = order.then.partition(":")
        names, files = _names(order.landed), len(order.uploads)
        if kind == SEND and order.landed:
            await self._run("send", paths=[*map(_unmistakable, order.landed), whom])
            return tr_count(
                "{number} file was offered to {whom}",
                "{number} files were offered to {whom}",
                files,
                whom=whom,
            )
        if kind == SHARE:
            share = next((one for one in self._node.service("files").shared() if one.id == whom), None)
            if share is not None:
                await self._run("share", path=share.path, update=True)
                return tr("{names} is in the shared folder {name}", names=names, name=share.name)
        if kind == CAMERA and order.landed:
            folder = Path(order.target).parent
            new, known = await asyncio.to_thread(put_away, order.landed, folder, date.today())
            return _pictures(new, known, folder.name)
        return tr("{names} is in {folder}", names=names, folder=order.target)

    async def _run(self, words: str, **parameters: Any) -> None:
        command = self._called(words)
        items = invoke(
            command, self._node.service(command.app), parameters, in_names=self._node.people.in_names
        )
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Result):
                    return


def _check(order: Order, browser: Browser | None) -> None:
    """Raises `AccessDenied` where whoever ordered it may not have it done now."""
    right = RIGHTS.get(order.then.partition(":")[0], "")
    if right and (browser is None or not browser.may(right)):
        raise AccessDenied(tr("this browser may not do this: {right}", right=right))


def _pictures(new: int, known: int, folder: str) -> str:
    said = tr_count(
        "{number} picture is in {folder}", "{number} pictures are in {folder}", new, folder=folder
    )
    was = tr_count("{number} was there already", "{number} were there already", known) if known else ""
    return f"{said}; {was}" if was else said


def _unmistakable(path: str) -> str:
    """No name of a person looks so."""
    return os.path.abspath(path)


def _names(paths: Sequence[str]) -> str:
    """ "a.jpg", "a.jpg and 2 more"."""
    names = [os.path.basename(path) for path in paths]
    if len(names) < 2:
        return "".join(names) or tr("what was uploaded")
    return tr("{first} and {more} more", first=names[0], more=len(names) - 1)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise LimitExceeded(tr("a request has at most {most} bytes", most=BODY_BYTES_MAX))
    return body


@decoder(UsageError, "what is to be done with uploads")
def read_finish(raw: bytes) -> Finish:
    """Raises `UsageError`."""
    return msgspec.json.decode(raw, type=Finish)
