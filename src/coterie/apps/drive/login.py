"""Logins by HTTP Digest at a port of the drive: the password is not sent, no login counts twice. For any thread."""

import hmac
import secrets
import threading
import time
from typing import Any

from coterie.apps.drive.digest import Nonces, expected, read_login
from coterie.apps.drive.headers import read_target
from coterie.errors import UsageError

USER = "coterie"


class Logins:
    """Those of one port, while it is open."""

    def __init__(self) -> None:
        self._nonces = Nonces(secrets.token_bytes(32))
        self._lock = threading.Lock()

    def judge(self, environ: dict[str, Any], realm: str, password: str | None) -> tuple[bool, bool]:
        """Whether the password is right, None never; and whether that was said too long ago, or once before."""
        try:
            login = read_login(environ.get("HTTP_AUTHORIZATION", ""))
            said, target = read_target(login.uri), read_target(environ.get("REQUEST_URI", ""))
        except UsageError:
            return False, False
        if said != target or login.realm != realm or password is None or login.username != USER:
            return False, False
        right = expected(login, password, environ["REQUEST_METHOD"])
        if not hmac.compare_digest(right.encode(), login.response.lower().encode("utf-8", "replace")):
            return False, False
        with self._lock:
            return True, not self._nonces.use(login.nonce, login.count, time.monotonic())

    def challenge(self, realm: str, *, is_stale: bool = False) -> str:
        """What `WWW-Authenticate` asks for."""
        with self._lock:
            nonce = self._nonces.make(time.monotonic())
        asked = f'Digest realm="{realm}", nonce="{nonce}", algorithm=MD5, qop="auth"'
        return asked + (", stale=true" if is_stale else "")
