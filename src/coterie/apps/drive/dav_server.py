"""wsgidav over cheroot, made for one tree. Imported when the drive is switched on."""

from collections.abc import Mapping
from typing import Any

from wsgidav.error_printer import ErrorPrinter
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from coterie.apps.drive.dav import READ_BYTES, Provider, place_of, told
from coterie.apps.drive.folder_page import page_of
from coterie.apps.drive.headers import masked_destination, read_destination
from coterie.apps.drive.login import CONFIG, LoginDoor
from coterie.apps.drive.properties import KeptProperties, NoProperties
from coterie.apps.drive.propfind import propfind
from coterie.apps.drive.tree import Bridge, Tree, refused
from coterie.services.data.database import Database

READS = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND"})


class Asking(Provider):
    """Asks first whether a place may be changed; lists folders by itself; the rest is wsgidav's."""

    def custom_request_handler(
        self, environ: dict[str, Any], start_response: Any, default_handler: Any
    ) -> Any:
        """One request."""
        method = environ["REQUEST_METHOD"]
        if method == "PROPFIND":
            return propfind(self, environ, start_response)
        if method not in READS:
            self._require(environ, method)
        if "HTTP_DESTINATION" in environ:
            with told():
                environ["HTTP_DESTINATION"] = masked_destination(environ["HTTP_DESTINATION"])
        if method == "GET" and (page := page_of(self, environ, start_response)) is not None:
            return page
        return default_handler(environ, start_response)

    def _require(self, environ: dict[str, Any], method: str) -> None:
        """Raise `DAVError` where this request would change what is only to be read."""
        with told():
            places = [] if method == "COPY" else [environ["PATH_INFO"]]
            if method in ("COPY", "MOVE"):
                places.append(read_destination(environ.get("HTTP_DESTINATION", "")))
            for place in places:
                if not self.bridge.wait(self.tree.may_write(place_of(place))):
                    raise refused(place_of(place))


def application(tree: Tree, bridge: Bridge, database: Database) -> Any:
    """The WSGI application for the owner. `database`: for what programs note of files."""
    return _made(
        {"/": Asking(tree, bridge)},
        {
            "middleware_stack": [ErrorPrinter, RequestResolver],
            "property_manager": KeptProperties(database),
        },
    )


def guarded(shares: Mapping[str, tuple[Tree, str]], user: str, bridge: Bridge) -> Any:
    """That for others: trees by their names, each with its password for `user`, which is never sent (RFC 7616)."""
    passwords = {name: password for name, (_, password) in shares.items()}
    return _made(
        {f"/{name}": Asking(tree, bridge) for name, (tree, _) in shares.items()},
        {"middleware_stack": [ErrorPrinter, LoginDoor, RequestResolver], CONFIG: (user, passwords)},
    )


def _made(providers: dict[str, Asking], more: dict[str, Any]) -> Any:
    return WsgiDAVApp(
        {
            "provider_mapping": providers,
            "property_manager": NoProperties(),
            "lock_storage": True,
            "logging": {"enable": False},
            "verbose": 0,
            "suppress_version_info": True,
            "honor_mtime_header": True,
            "block_size": READ_BYTES,
            **more,
        }
    )
