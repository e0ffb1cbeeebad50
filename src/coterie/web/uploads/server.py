"""Uploads over HTTP: tus 1.0.0 as routes of an ASGI application. Who may come here was asked before.

A line that breaks is often noticed by the client first: whoever asks about an upload, or goes on with it, ends the run
that still waits for bytes of the old line, which keeps what it got.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from coterie.errors import CoterieError, DiskFull, LimitExceeded, NotFound, UsageError
from coterie.moments import iso
from coterie.plain_text import one_line
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.web.uploads.folder import Upload, UploadFolder, Writing, failed
from coterie.web.uploads.rules import (
    ALGORITHMS,
    EXTENSIONS,
    MEDIA,
    UPLOAD_BYTES_MAX,
    VERSION,
    Checksum,
    Refused,
    check_part,
    check_version,
    length,
    named,
    read_checksum,
    read_metadata,
)

PREFIX = "/up/files"  # under the path whose bodies the gate leaves to who serves them
BUFFER_BYTES = 1 << 20  # collected before a thread writes them
IDLE_S = 60.0  # without a byte; then what came is kept and the client asks again
DRAIN_BYTES_MAX = 16 << 20  # read and dropped so that a client that only sends first hears why it was refused
DRAIN_S_MAX = 10.0
SWEEP_S = 3_600.0  # between two looks for what has expired
OVERRIDE = "x-http-method-override"
_READ = "coterie.read"  # in the scope of a request: its body has come to its end


class UploadLine(msgspec.Struct, frozen=True):
    """One unfinished upload: its path as its sender has it, sizes in bytes, `expires` as ISO 8601."""

    id: str
    batch: str
    path: str
    size: int
    offset: int
    expires: str


class _Run:
    """One request that writes into an upload, or is about to."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.done = asyncio.Event()


class Uploads:
    """The routes. `owner_of` says of a request who sends it, `is_few` whether that one has few rights, `may_still`
    whether it may go on: asked while bytes come, for a body can take hours.
    """

    def __init__(
        self,
        folder: UploadFolder,
        owner_of: Callable[[Request], str],
        prefix: str = PREFIX,
        *,
        is_few: Callable[[Request], bool] = lambda request: False,
        may_still: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        self.folder = folder
        self._owner_of = owner_of
        self._is_few = is_few
        self._may_still = may_still
        self._prefix = prefix
        self._running: dict[str, _Run] = {}

    def routes(self) -> list[Route]:
        """For an application that has asked who comes."""
        every = ["OPTIONS", "GET", "HEAD", "POST", "PATCH", "DELETE"]
        return [
            Route(self._prefix, self._collection, methods=every),
            Route(self._prefix + "/{upload}", self._one, methods=every),
        ]

    def keep_swept(self, tasks: Tasks) -> None:
        """Remove what has expired, from time to time."""

        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP_S)
                self.folder.expire()

        tasks.keep(sweep, "old uploads")

    async def end(self, owner: str) -> None:
        """Nothing more comes of this owner: end what runs, forget what came."""
        mine = [one for one in self.folder.all() if one.owner == owner]
        for one in mine:
            async with self._alone(one):
                self.folder.remove(one)

    async def _collection(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_offered())
        if request.method == "GET":
            return self._list(request)
        return await self._answered(request, {"POST": self._create})

    async def _one(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_offered())
        return await self._answered(
            request, {"HEAD": self._ask, "PATCH": self._append, "DELETE": self._remove}
        )

    async def _answered(self, request: Request, known: Mapping[str, Callable[[Request], Any]]) -> Response:
        """What the method says; every refusal in the form that tus wants, with a sentence."""
        method = request.method
        if method == "POST":  # for those that can send nothing else (tus, X-HTTP-Method-Override)
            method = request.headers.get(OVERRIDE, method).upper()
        try:
            check_version(request.headers)
            if method not in known:
                raise Refused(405, tr("{method} is not for uploads", method=method))
            answer: Response = await known[method](request)
        except CoterieError as error:
            await _drain(request)
            answer = PlainTextResponse(one_line(str(error)) + "\n", _status(error))
            if isinstance(error, Refused) and error.status == 412:
                answer.headers["tus-version"] = VERSION
        answer.headers["tus-resumable"] = VERSION
        answer.headers["cache-control"] = "no-store"
        return answer

    def _list(self, request: Request) -> Response:
        owner = self._owner_of(request)
        lines = [
            UploadLine(
                one.id,
                one.batch,
                "/".join(one.path),
                one.size,
                self.folder.offset(one),
                iso(self.folder.expires(one)),
            )
            for one in self.folder.all()
            if one.owner == owner
        ]
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(lines), media_type="application/json", headers=headers)

    async def _create(self, request: Request) -> Response:
        size = length(request.headers)
        what = named(read_metadata(request.headers.get("upload-metadata", "")))
        checksum = _checksum(request.headers)
        upload = self.folder.create(self._owner_of(request), what, size, is_few=self._is_few(request))
        headers = {"location": f"{self._prefix}/{upload.id}"}
        if request.headers.get("content-type") == MEDIA:
            try:
                async with self._alone(upload) as run:
                    offset = await self._store(request, upload, run, checksum)
            except CoterieError:
                self.folder.remove(upload)  # the client does not hear where it would go on
                raise
            headers["upload-offset"] = str(offset)
        return Response(status_code=201, headers=headers | self._expiry(upload))

    async def _ask(self, request: Request) -> Response:
        upload = self._find(request)
        async with self._alone(upload):
            headers = {
                "upload-offset": str(self.folder.offset(upload)),
                "upload-length": str(upload.size),
            }
        return Response(headers=headers | self._expiry(upload))

    async def _append(self, request: Request) -> Response:
        upload = self._find(request)
        checksum = _checksum(request.headers)
        async with self._alone(upload) as run:
            check_part(request.headers, self.folder.offset(upload), upload.size)
            offset = await self._store(request, upload, run, checksum)
        return Response(status_code=204, headers={"upload-offset": str(offset)} | self._expiry(upload))

    async def _remove(self, request: Request) -> Response:
        upload = self._find(request)
        async with self._alone(upload):
            self.folder.remove(upload)
        return Response(status_code=204)

    async def _store(self, request: Request, upload: Upload, run: _Run, checksum: Checksum | None) -> int:
        """Append the body; the offset after it. What came of a body that ends early is kept."""
        writing = await asyncio.to_thread(self.folder.write, upload, checksum)
        is_whole = False
        try:
            async for data in _parts(request, run.stop):
                if not self._may_still(request):
                    raise Refused(
                        403, tr("whoever sends this was removed here meanwhile: nothing more is taken")
                    )
                if writing.offset + len(data) > upload.size:
                    raise Refused(
                        413, tr("the upload has {size} bytes, and this would be more", size=upload.size)
                    )
                await self._in_thread(writing.write, data)
            is_whole = True
        finally:
            right = await self._in_thread(_close, writing, is_whole)
        if not right:
            raise Refused(
                460, tr("the checksum does not fit to the bytes that came: they are to be sent again")
            )
        return writing.offset

    async def _in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        """Also to its end where the request is cancelled: two threads never write to one file."""
        doing = asyncio.ensure_future(asyncio.to_thread(work, *given))
        try:
            return await asyncio.shield(doing)
        except OSError as error:
            raise failed(error, self.folder.folder) from error
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await doing
            raise

    def _find(self, request: Request) -> Upload:
        return self.folder.find(self._owner_of(request), request.path_params["upload"])

    def _expiry(self, upload: Upload) -> dict[str, str]:
        return {"upload-expires": formatdate(self.folder.expires(upload), usegmt=True)}

    @contextlib.asynccontextmanager
    async def _alone(self, upload: Upload) -> AsyncIterator[_Run]:
        """Be the only one at this upload; who was there before keeps what it got and ends.

        Raises:
            NotFound: it was removed meanwhile.
        """
        while (earlier := self._running.get(upload.id)) is not None:
            earlier.stop.set()
            await earlier.done.wait()
        run = self._running[upload.id] = _Run()
        try:
            self.folder.find(upload.owner, upload.id)
            yield run
        finally:
            del self._running[upload.id]
            run.done.set()


def _close(writing: Writing, is_whole: bool) -> bool:
    return writing.close(is_whole=is_whole)


def _checksum(headers: Mapping[str, str]) -> Checksum | None:
    return read_checksum(headers["upload-checksum"]) if "upload-checksum" in headers else None


def _offered() -> dict[str, str]:
    return {
        "tus-resumable": VERSION,
        "tus-version": VERSION,
        "tus-extension": EXTENSIONS,
        "tus-max-size": str(UPLOAD_BYTES_MAX),
        "tus-checksum-algorithm": ",".join(ALGORITHMS),
    }


def _status(error: CoterieError) -> int:
    match error:
        case Refused():
            return error.status
        case UsageError():
            return 400
        case NotFound():
            return 404
        case LimitExceeded():
            return 429
        case DiskFull():
            return 507
    return 500


async def _parts(request: Request, stop: asyncio.Event) -> AsyncIterator[bytes]:
    """The body in pieces of about BUFFER_BYTES.

    Raises:
        Refused: 400 where it ends early, another request took over, or nothing comes for IDLE_S. What came before is
            given out first.
    """
    kept = bytearray()
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while True:
            coming = asyncio.ensure_future(request.receive())
            try:
                await asyncio.wait({coming, stopped}, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
            message = coming.result() if coming.done() and not coming.cancelled() else {}
            kept += message.get("body", b"")
            is_last = message.get("type") != "http.request" or not message.get("more_body", False)
            request.scope[_READ] = is_last and bool(message)
            if kept and (is_last or len(kept) >= BUFFER_BYTES):
                yield bytes(kept)
                kept.clear()
            if message.get("type") != "http.request":
                raise Refused(400, tr("the line broke: what came is kept, the upload goes on from there"))
            if is_last:
                return
    finally:
        stopped.cancel()


async def _drain(request: Request) -> None:
    """Read on for a while, and drop it."""
    size = 0
    if request.scope.get(_READ):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S_MAX):
            while size < DRAIN_BYTES_MAX:
                message = await request.receive()
                if message["type"] != "http.request":
                    return
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
