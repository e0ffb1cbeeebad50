"""wsgidav over cheroot, made for one tree. Imported when the drive is switched on."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from wsgidav.error_printer import ErrorPrinter
from wsgidav.mw.base_mw import BaseMiddleware
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from coterie.apps.drive.dav import READ_BYTES, Provider, place_of, told
from coterie.apps.drive.folder_page import page_of
from coterie.apps.drive.headers import masked_destination, read_destination
from coterie.apps.drive.login import USER, Logins
from coterie.apps.drive.properties import KeptProperties, NoProperties
from coterie.apps.drive.propfind import propfind
from coterie.apps.drive.tree import Bridge, Tree, refused
from coterie.services.data.database import Database
from coterie.texts import tr

PASSWORDS = "coterie_passwords"  # in wsgidav's settings: by the names of shares
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


class LoginDoor(BaseMiddleware):  # type: ignore[misc]
    """Stands behind wsgidav's choice of the share, so that nothing else decides which password counts."""

    def __init__(self, wsgidav_app: Any, next_app: Any, config: dict[str, Any]) -> None:
        super().__init__(wsgidav_app, next_app, config)
        self._passwords = config[PASSWORDS]
        self._logins = Logins()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        provider = environ["wsgidav.provider"]
        share = provider.share_path.strip("/") if provider is not None else ""
        realm = f"/{quote(share)}"
        is_known, is_stale = self._logins.judge(environ, realm, self._passwords.get(share))
        if is_known and not is_stale:
            environ["wsgidav.auth.user_name"] = USER
            answer: Iterable[bytes] = self.next_app(environ, start_response)
            return answer
        body = f"{tr('this needs the password of the share')}\n".encode()
        headers = [
            ("WWW-Authenticate", self._logins.challenge(realm, is_stale=is_stale)),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        start_response("401 Unauthorized", headers)
        return [body]


def application(tree: Tree, bridge: Bridge, database: Database) -> Any:
    """The WSGI application for the owner. `database`: for what programs note of files."""
    return _made(
        {"/": Asking(tree, bridge)},
        {
            "middleware_stack": [ErrorPrinter, RequestResolver],
            "property_manager": KeptProperties(database),
        },
    )


def guarded(shares: Mapping[str, tuple[Tree, str]], bridge: Bridge) -> Any:
    """That for others: trees by their names, each with its password, which is never sent (RFC 7616)."""
    passwords = {name: password for name, (_, password) in shares.items()}
    return _made(
        {f"/{name}": Asking(tree, bridge) for name, (tree, _) in shares.items()},
        {"middleware_stack": [ErrorPrinter, LoginDoor, RequestResolver], PASSWORDS: passwords},
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
