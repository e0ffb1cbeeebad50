"""The door of the port for the local network: each share has a password, never sent, and no login counts twice."""

import hmac
import secrets
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from wsgidav.mw.base_mw import BaseMiddleware

from coterie.apps.drive.digest import Nonces, expected, read_login
from coterie.apps.drive.headers import read_target
from coterie.errors import UsageError
from coterie.texts import tr

CONFIG = "coterie_login"  # in wsgidav's settings: the user, and the passwords by the names of shares


class LoginDoor(BaseMiddleware):  # type: ignore[misc]
    """Stands behind wsgidav's choice of the share, so that nothing else decides which password counts."""

    def __init__(self, wsgidav_app: Any, next_app: Any, config: dict[str, Any]) -> None:
        super().__init__(wsgidav_app, next_app, config)
        self._user, self._passwords = config[CONFIG]
        self._nonces = Nonces(secrets.token_bytes(32))
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        provider = environ["wsgidav.provider"]
        share = provider.share_path.strip("/") if provider is not None else ""
        realm = f"/{quote(share)}"
        is_known, is_stale = self._is_let_in(environ, share, realm)
        if is_known and not is_stale:
            environ["wsgidav.auth.user_name"] = self._user
            answer: Iterable[bytes] = self.next_app(environ, start_response)
            return answer
        with self._lock:
            nonce = self._nonces.make(time.monotonic())
        asked = f'Digest realm="{realm}", nonce="{nonce}", algorithm=MD5, qop="auth"'
        body = f"{tr('this needs the password of the share')}\n".encode()
        headers = [
            ("WWW-Authenticate", asked + (", stale=true" if is_stale else "")),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        start_response("401 Unauthorized", headers)
        return [body]

    def _is_let_in(self, environ: dict[str, Any], share: str, realm: str) -> tuple[bool, bool]:
        """Whether the password is right; and whether that was said too long ago, or once before."""
        password = self._passwords.get(share)
        try:
            login = read_login(environ.get("HTTP_AUTHORIZATION", ""))
            said, target = read_target(login.uri), read_target(environ.get("REQUEST_URI", ""))
        except UsageError:
            return False, False
        if said != target or login.realm != realm:
            return False, False
        if password is None or login.username != self._user:
            return False, False
        right = expected(login, password, environ["REQUEST_METHOD"])
        if not hmac.compare_digest(right.encode(), login.response.lower().encode("utf-8", "replace")):
            return False, False
        with self._lock:
            return True, not self._nonces.use(login.nonce, login.count, time.monotonic())
