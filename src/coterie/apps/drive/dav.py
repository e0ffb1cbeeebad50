"""The tree as wsgidav serves it. Everything here runs in threads of the server and asks the node's loop."""

import contextlib
import mimetypes
from typing import Any

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

from coterie.apps.drive.tree import Bridge, Tree
from coterie.apps.files.api import OpenFile, Seen
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

HTTP_GATEWAY_TIMEOUT = 504
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


def dav_error(error: CoterieError) -> DAVError:
    """What a program is told of an error: a status that it knows, with our words."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), HTTP_INTERNAL_ERROR)
    return DAVError(status, str(error))


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
        place = path.strip("/")
        try:
            seen = self.bridge.wait(self.tree.look(place))
        except NotFound:
            return None
        except CoterieError as error:
            raise dav_error(error) from None
        return self.made(path, environ, seen)

    def made(self, path: str, environ: dict[str, Any], seen: Seen) -> "Folder | File":
        """The resource of what was seen."""
        kind = Folder if seen.kind == "folder" else File
        return kind(self, path, environ, seen)


class _Resource:
    """What folders and files have in common; mixed into both."""

    provider: Any
    path: str
    name: str

    def _begin(self, provider: Provider, seen: Seen) -> None:
        self.provider = provider
        self.seen = seen
        self.place = self.path.strip("/")

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
                raise DAVError(HTTP_BAD_REQUEST, "it has changed in this very moment; ask again")
        return Content(opened, self.provider.bridge)


class Content:
    """A file that is open, as wsgidav reads it."""

    def __init__(self, opened: OpenFile, bridge: Bridge) -> None:
        self._opened = opened
        self._bridge = bridge
        self._at = 0

    def seek(self, offset: int) -> None:
        """Go on there."""
        self._at = offset

    def read(self, size: int) -> bytes:
        """What follows. An error ends the connection, or is told where nothing was sent yet."""
        with told():
            data = self._bridge.wait(self._opened.read(self._at, size))
        self._at += len(data)
        return data

    def close(self) -> None:
        """Nothing more is read."""
        with contextlib.suppress(CoterieError):
            self._bridge.wait(self._opened.close())
