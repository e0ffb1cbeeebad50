"""The tree as wsgidav serves it. Everything here runs in threads of the server and asks the node's loop."""

import contextlib
import mimetypes
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import quote

from wsgidav import util
from wsgidav.dav_error import (
    HTTP_BAD_GATEWAY,
    HTTP_BAD_REQUEST,
    HTTP_CONFLICT,
    HTTP_FORBIDDEN,
    HTTP_INSUFFICIENT_STORAGE,
    HTTP_INTERNAL_ERROR,
    HTTP_NOT_FOUND,
    DAVError,
)
from wsgidav.dav_provider import DAVCollection, DAVNonCollection, DAVProvider

from coterie.apps.drive.headers import unmasked
from coterie.apps.drive.tree import Bridge, Incoming, Tree
from coterie.apps.files.api import OpenFile, Seen
from coterie.byte_range import parse_range
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
    TransportError,
    UsageError,
)
from coterie.texts import tr

HTTP_GATEWAY_TIMEOUT = 504
CHANGE_S = (
    3_600.0  # for a change, while its owner says that it works; the protocol has shorter times of its own
)
FIRST_BYTES = 64 << 10  # read first: a chunk or two
READ_BYTES = 1 << 20  # read and sent at once; wsgidav's own 8 KiB cost a turn of the loop each
_STATUS: tuple[tuple[type[CoterieError], int], ...] = (
    (NotFound, HTTP_NOT_FOUND),
    (AccessDenied, HTTP_FORBIDDEN),
    (LimitExceeded, HTTP_INSUFFICIENT_STORAGE),
    (TransportError, HTTP_GATEWAY_TIMEOUT),
    (PeerError, HTTP_BAD_GATEWAY),
    (StorageError, HTTP_INSUFFICIENT_STORAGE),
    (UsageError, HTTP_CONFLICT),
)


T = TypeVar("T")


def place_of(path: str) -> str:
    """The place of an address: wsgidav writes two slashes where it puts a folder and a path together."""
    return "/".join(part for part in unmasked(path).split("/") if part)


class Refusal(DAVError):  # type: ignore[misc]
    """A status with our words as text; the page of wsgidav names its version, and not always the cause."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.text = text

    def get_response_page(self) -> tuple[str, bytes]:
        return "text/plain; charset=utf-8", f"{self.text}\n".encode("utf-8", "replace")


def dav_error(error: CoterieError) -> DAVError:
    """What a program is told of an error: a status that it knows, with our words."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), HTTP_INTERNAL_ERROR)
    return Refusal(status, str(error))


@contextlib.contextmanager
def told() -> Any:
    """Errors of the node within the block become those of the protocol."""
    try:
        yield
    except CoterieError as error:
        raise dav_error(error) from None


class Provider(DAVProvider):  # type: ignore[misc]
    """See `wsgidav.dav_provider.DAVProvider`."""

    def __init__(self, tree: Tree, bridge: Bridge) -> None:
        super().__init__()
        self.tree = tree
        self.bridge = bridge

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> "Folder | File | None":
        place = place_of(path)
        try:
            seen = self.bridge.wait(self.tree.look(place))
        except NotFound:
            return None
        except CoterieError as error:
            raise dav_error(error) from None
        return self.made(unmasked(path), environ, seen)

    def made(self, path: str, environ: dict[str, Any], seen: Seen) -> "Folder | File":
        """The resource of what was seen."""
        kind = Folder if seen.kind == "folder" else File
        return kind(self, path, environ, seen)


class _Resource:
    """What folders and files have in common; mixed into both."""

    provider: Any
    path: str
    name: str
    remove_all_properties: Any
    remove_all_locks: Any
    get_ref_url: Any

    def _begin(self, provider: Provider, seen: Seen) -> None:
        self.provider = provider
        self.seen = seen
        self.place = place_of(self.path)

    def get_display_name(self) -> str:
        return self.name

    def get_last_modified(self) -> float | None:
        return self.seen.mtime_ns / 1e9 if self.seen.mtime_ns else None

    def get_creation_date(self) -> None:
        return None

    def support_modified(self) -> bool:
        return bool(self.seen.mtime_ns)

    def support_ranges(self) -> bool:
        return True

    def get_used_bytes(self) -> int | None:
        return self.seen.size or None

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What the node's loop answers. Raises `DAVError`."""
        with told():
            found: T = self.provider.bridge.wait(work, CHANGE_S)
        return found

    def delete(self) -> None:
        """Whole, whatever is in it; its owner keeps it for a while."""
        self.wait(self.provider.tree.remove(self.place))
        self.remove_all_properties(recursive=True)
        self.remove_all_locks(recursive=True)

    def support_recursive_move(self, dest_path: str) -> bool:
        return _computer(self.path) == _computer(dest_path)

    def move_recursive(self, dest_path: str) -> list[Any]:
        """In one step."""
        self.wait(self.provider.tree.move(self.place, place_of(dest_path)))
        manager = self.provider.prop_manager
        manager.move_properties(self.get_ref_url(), self._ref_url_of(dest_path), with_children=True)
        return []

    def _ref_url_of(self, path: str) -> str:
        end = "/" if isinstance(self, Folder) else ""
        return quote(f"{self.provider.share_path}/{place_of(path)}{end}")


class Folder(_Resource, DAVCollection):  # type: ignore[misc]
    """See `wsgidav.dav_provider.DAVCollection`."""

    def __init__(self, provider: Provider, path: str, environ: dict[str, Any], seen: Seen) -> None:
        DAVCollection.__init__(self, path, environ)
        self._begin(provider, seen)
        self._listing: dict[str, Seen] | None = None

    def get_etag(self) -> None:
        return None

    def support_etag(self) -> bool:
        return False

    def get_available_bytes(self) -> int | None:
        with told():
            found: int | None = self.provider.bridge.wait(self.provider.tree.free_bytes(self.place))
        return found

    def support_recursive_delete(self) -> bool:
        return True

    def create_collection(self, name: str) -> None:
        self.wait(self.provider.tree.make_folder(f"{self.place}/{name}"))

    def create_empty_resource(self, name: str) -> "File":
        made = File(self.provider, util.join_uri(self.path, name), self.environ, Seen(name, "file"))
        if self.environ["REQUEST_METHOD"] == "LOCK":  # RFC 4918, 7.3: what is locked is there
            made.make_empty()
        return made

    def copy_move_single(self, dest_path: str, *, is_move: bool) -> None:
        """The folder itself."""
        if self.provider.get_resource_inst(dest_path, self.environ) is None:
            self.wait(self.provider.tree.make_folder(place_of(dest_path)))
        self.provider.prop_manager.copy_properties(
            self.get_ref_url(), self._ref_url_of(dest_path), self.environ
        )

    def listing(self) -> dict[str, Seen]:
        """What is in it, by name."""
        if self._listing is None:
            with told():
                found = self.provider.bridge.wait(self.provider.tree.listing(self.place))
            self._listing = {seen.name: seen for seen in found}
        return self._listing

    def get_member_names(self) -> list[str]:
        return list(self.listing())

    def get_member_list(self) -> "list[Folder | File]":
        return [self._made(seen) for seen in self.listing().values()]

    def get_member(self, name: str) -> "Folder | File | None":
        seen = self.listing().get(name)
        return self._made(seen) if seen is not None else None

    def _made(self, seen: Seen) -> "Folder | File":
        found: Folder | File = self.provider.made(util.join_uri(self.path, seen.name), self.environ, seen)
        return found


class File(_Resource, DAVNonCollection):  # type: ignore[misc]
    """See `wsgidav.dav_provider.DAVNonCollection`."""

    def __init__(self, provider: Provider, path: str, environ: dict[str, Any], seen: Seen) -> None:
        DAVNonCollection.__init__(self, path, environ)
        self._begin(provider, seen)
        self._writing: Writing | None = None

    def get_content_length(self) -> int:
        return self.seen.size

    def get_content_type(self) -> str:
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"

    def get_etag(self) -> str:
        return self.seen.content_id.hex() or f"{self.seen.mtime_ns:x}-{self.seen.size:x}"

    def support_etag(self) -> bool:
        return True

    def get_content(self) -> "Content":
        with told():
            opened = self.provider.bridge.wait(self.provider.tree.open(self.place))
            if opened.size != self.seen.size:  # the head of the answer names the other size
                self.provider.bridge.wait(opened.close())
                raise Refusal(HTTP_BAD_REQUEST, tr("it has changed in this very moment; ask again"))
        return Content(opened, self.provider.bridge, self._end())

    def _end(self) -> int:
        """The first byte that this request does not ask for."""
        try:
            span = parse_range(self.environ.get("HTTP_RANGE", ""), self.seen.size)
        except ValueError:
            span = None
        return span.last + 1 if span is not None else self.seen.size

    def begin_write(self, *, content_type: str | None = None) -> "Writing":
        """For what a program writes: it is there when it is whole."""
        size = _said_size(self.environ)
        free = self.wait(self.provider.tree.free_bytes(self.place))
        if size is not None and free is not None and size > free:
            raise Refusal(HTTP_INSUFFICIENT_STORAGE, tr("there is no room for it"))
        self._writing = Writing(self.wait(self.provider.tree.incoming(self.place)))
        return self._writing

    def end_write(self, *, with_errors: bool) -> None:
        """It is whole; or it is not, and forgotten."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            if not with_errors:
                size = _said_size(self.environ)
                if size is not None and size != writing.size:  # the program went away
                    raise Refusal(HTTP_BAD_REQUEST, tr("it did not come whole"))
                given = self.environ.get("HTTP_X_OC_MTIME", "")
                mtime_ns = int(given) * 10**9 if given.isdigit() and len(given) < 11 else 0
                self.wait(writing.incoming.finish(mtime_ns))
                self.seen = self.wait(self.provider.tree.look(self.place))
        finally:
            self.wait(writing.incoming.drop())

    def make_empty(self) -> None:
        """An empty file."""
        incoming = self.wait(self.provider.tree.incoming(self.place))
        try:
            self.wait(incoming.finish(0))
        finally:
            self.wait(incoming.drop())

    def set_last_modified(self, dest_path: str, time_stamp: int, *, dry_run: bool) -> bool:
        return True  # `end_write` has read it

    def copy_move_single(self, dest_path: str, *, is_move: bool) -> None:
        self.wait(self.provider.tree.copy(self.place, place_of(dest_path)))
        manager, to = self.provider.prop_manager, self._ref_url_of(dest_path)
        if is_move:
            manager.move_properties(self.get_ref_url(), to, with_children=False)
        else:
            manager.copy_properties(self.get_ref_url(), to, self.environ)


class Writing:
    """What a program writes, as wsgidav gives it on."""

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.size = 0

    def write(self, data: bytes) -> None:
        """More of it."""
        with told():
            self.incoming.write(data)
        self.size += len(data)

    def close(self) -> None:
        """Nothing more comes; whether that was all says `File.end_write`."""


def _said_size(environ: dict[str, Any]) -> int | None:
    """How long what comes will be; Finder says it beside a body in pieces. None: nobody says."""
    said = environ.get("CONTENT_LENGTH") or environ.get("HTTP_X_EXPECTED_ENTITY_LENGTH") or ""
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None


def _computer(path: str) -> str:
    """The name that a path begins with."""
    return path.strip("/").partition("/")[0]


class Content:
    """A file that is open, as wsgidav reads it: first a little, so that it begins at once; then ahead of who reads."""

    def __init__(self, opened: OpenFile, bridge: Bridge, end: int) -> None:
        """Nothing is read from the byte `end` on."""
        self._opened = opened
        self._bridge = bridge
        self._at = 0
        self._end = end
        self._size = FIRST_BYTES
        self._coming: Future[bytes] | None = None

    def seek(self, offset: int) -> None:
        """Go on there. Before anything is read."""
        self._at = offset

    def read(self, size: int) -> bytes:
        """What follows, some of it. An error ends the connection, or is told where nothing was sent yet."""
        with told():
            coming = self._coming or self._begin(size)
            data = self._bridge.result(coming)[:size]
            self._at += len(data)
            self._size = READ_BYTES
            self._coming = self._begin(READ_BYTES) if data and self._at < self._end else None
        return data

    def _begin(self, size: int) -> "Future[bytes]":
        return self._bridge.begin(self._opened.read(self._at, min(size, self._size, self._end - self._at)))

    def close(self) -> None:
        """Nothing more is read."""
        if self._coming is not None:
            self._coming.cancel()
        with contextlib.suppress(CoterieError):
            self._bridge.wait(self._opened.close())
