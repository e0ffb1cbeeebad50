"""Shows the page to phones: what the app `phone` knows of them, as the page's gate asks it.

The app is asked by its name and described here, so that the page goes on where it is not installed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from coterie.control.browsers import Browser, Browsers
from coterie.control.page_gate import BROWSER, FILES, PageGate
from coterie.control.request_body import Asgi, Receive, Send
from coterie.errors import NotFound, StorageError
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node

APP = "phone"
PREFIX = "phone-"  # of the ids that phones have among browsers
SCHEMES = ("https", "http")
COOKIE = "coterie-phone"


class Phone(Protocol):
    """What the app keeps of one phone."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def may(self) -> tuple[str, ...]: ...
    @property
    def created(self) -> float: ...
    @property
    def seen(self) -> float: ...
    @property
    def digest(self) -> str: ...


class LiveFolder(Protocol):
    """What the app `folders` says of a live folder, as far as it is used here."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def can_write(self) -> bool: ...
    @property
    def gone(self) -> str: ...


class PhoneBrowsers:
    """The phones of one way ("https", "http") as browsers."""

    def __init__(self, service: Any, scheme: str) -> None:
        self._service = service
        self._scheme = scheme

    def find(self, secret: str) -> Browser | None:
        """The phone whose cookie this is."""
        record = self._service.find(secret, self._scheme) if secret else None
        return None if record is None else as_browser(record)

    def redeem(self, key: str, agent: str, known: Browser | None = None) -> tuple[Browser, str] | None:
        """The phone that shows this key. Errors as those of `Browsers.redeem`."""
        found = self._service.redeem(key, agent, self._scheme)
        return None if found is None else (as_browser(found[0]), found[1])


class Everybody:
    """Browsers and phones: whether one may still look, and which one it was."""

    def __init__(self, browsers: Browsers, node: "Node") -> None:
        self._browsers = browsers
        self._node = node

    def still(self, browser: Browser) -> Browser | None:
        """The same one as it is now; None: it was removed."""
        return self._phone(browser.id) if browser.id.startswith(PREFIX) else self._browsers.still(browser)

    def with_id(self, id_: str) -> Browser | None:
        """The one with this id, if it may still use the page."""
        if id_.startswith(PREFIX):
            return self._phone(id_)
        return next((browser for browser in self._browsers.all() if browser.id == id_), None)

    def _phone(self, id_: str) -> Browser | None:
        service = service_in(self._node)
        record = service.still(id_.removeprefix(PREFIX)) if service is not None else None
        return None if record is None else as_browser(record)


def as_browser(record: Phone) -> Browser:
    """A phone as the page knows who asks. It never has the right to everything."""
    return Browser(
        id=f"{PREFIX}{record.id}",
        name=record.name,
        rights=record.may,
        created=record.created,
        seen=record.seen,
        digest=record.digest,
    )


def service_in(node: "Node") -> Any:
    """The service of the app; None where it does not run."""
    try:
        return node.service(APP)
    except NotFound:
        return None


def camera_folder(node: "Node", browser: Browser) -> LiveFolder:
    """The live folder for the pictures of a phone. Raises NotFound: it has none, or none that can be written now.

    StorageError: its disk is away.
    """
    service = service_in(node) if browser.id.startswith(PREFIX) else None
    name = service.camera_of(browser.id.removeprefix(PREFIX)) if service is not None else ""
    if not name:
        raise NotFound(
            tr("no live folder is set for the pictures of this phone; on the computer: coterie phone camera")
        )
    folders: tuple[LiveFolder, ...] = node.service("folders").live()
    found = next((one for one in folders if one.name.casefold() == name.casefold()), None)
    if found is not None and found.gone:
        raise StorageError(found.gone)
    if found is None or not found.can_write:
        raise NotFound(tr("the live folder {name} is not here, or may only be read", name=name))
    return found


def show_phones(node: "Node", page: Asgi) -> None:
    """Show `page` at the ports for phones: each phone may do what its owner chose."""
    service = service_in(node)
    if service is None:
        return
    for scheme in SCHEMES:
        seen = _Seen(page, service)
        gate = PageGate(
            seen,
            PhoneBrowsers(service, scheme),
            service.is_host(scheme),
            cookie=COOKIE if scheme == "https" else f"{COOKIE}-plain",
            scheme=scheme,
            files=_files_of(service, scheme),
        )
        service.attach(scheme, gate, gate.may_upgrade)


def _files_of(service: Any, scheme: str) -> Callable[[str], str]:
    """Files of others have a port of their own, and so an origin; over plain HTTP there is none."""

    def origin(host: str) -> str:
        name, number = host.rpartition(":")[0], service.number("files")
        return f"https://{name}:{number}" if number and name and scheme == "https" else ""

    return origin


class _Seen:
    """Tells the app which connection is whose, so that it ends what a removed phone has open."""

    def __init__(self, page: Asgi, service: Any) -> None:
        self._page = page
        self._service = service

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        browser = scope.get(BROWSER)
        if browser is not None:
            self._service.seen(browser.id.removeprefix(PREFIX), scope.get("client"))
        elif FILES not in scope and not scope["path"].startswith("/static/"):
            return
        await self._page(scope, receive, send)
