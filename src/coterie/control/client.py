"""Talk to the running node of a home. Standard library only: the command line pays for every import."""

import hmac
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coterie.decoding import decoder
from coterie.errors import CoterieError, NotFound, TransportError
from coterie.texts import accept_language, tr

SILENCE_S = 30.0  # ten heartbeats missed: the node is stuck
API_FILE_BYTES_MAX = 4096
CHALLENGE_BYTES = 16
CHALLENGE_CHARS_MAX = 128
CHALLENGE_HEADER = "X-Coterie-Challenge"
PROOF_PATH = "/api/v1/proof"


class NoRunningNode(NotFound):
    """No node answers for this home."""

    code = "not_running"


class Client:
    """The local API of one running node."""

    def __init__(self, url: str, token: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._token = token
        self._address = _address_in(url)

    @classmethod
    def find(cls, api_file: Path) -> "Client":
        """The node that wrote `api_file`.

        Raises:
            NoRunningNode: there is no such file, or its process is gone or another user's.
        """
        absent = NoRunningNode(
            tr("no coterie runs in {parent}; start one with `coterie up`", parent=api_file.parent.parent)
        )
        try:
            with api_file.open("rb") as file:
                client = _noted(file.read(API_FILE_BYTES_MAX))
        except (OSError, TransportError):
            raise absent from None
        if not is_alive(client.pid) or client._address[0] != "127.0.0.1":
            raise absent
        return client

    def call(
        self, app: str, path: tuple[str, ...], parameters: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Call a command: `{"event": ...}` lines as they come, then one `{"result": ...}`.

        Closing the iterator cancels the command on the node.

        Raises:
            CoterieError: what the command failed with; its `code` is that of the node's error.
            NoRunningNode: nothing answers.
        """
        connection = self._connect(SILENCE_S)
        try:
            accept = {"Accept": "application/x-ndjson"}
            response = self._send(connection, "POST", f"/api/v1/{app}/{'-'.join(path)}", parameters, accept)
            yield from self._lines(response)
        finally:
            connection.close()

    def get(self, path: str, timeout_s: float = SILENCE_S) -> Any:
        """The answer to GET `path`, e.g. "/api/v1/status"."""
        return self._once("GET", path, timeout_s)

    def shutdown(self, timeout_s: float = 2.0) -> None:
        """Ask the node to stop; returns when it has heard."""
        self._once("POST", "/api/v1/shutdown", timeout_s)

    def open_page(self) -> Any:
        """An address that opens the page in a browser, once and soon: `url`, `page` and `lasts_s`."""
        return self._once("POST", "/api/v1/page", SILENCE_S)

    def _once(self, method: str, path: str, timeout_s: float) -> Any:
        connection = self._connect(timeout_s)
        try:
            response = self._send(connection, method, path, None, {})
            return _json(response.read())
        except OSError as error:
            raise TransportError(
                tr("the node (pid {pid}) does not answer: {error}", pid=self.pid, error=error)
            ) from error
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> HTTPConnection:
        connection = HTTPConnection(*self._address, timeout=timeout_s)
        try:
            connection.connect()
        except TimeoutError as error:
            raise TransportError(
                tr("the node (pid {pid}) does not answer: timed out", pid=self.pid)
            ) from error
        except OSError as error:
            raise NoRunningNode(
                tr("no coterie answers at {url}; start one with `coterie up`", url=self.url)
            ) from error
        connection.auto_open = 0  # what was proved holds for this connection only
        try:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: HTTPConnection) -> None:
        """Have what answers show that it knows the token before it gets it.

        The node that wrote the file may be gone, and its port and pid another user's by now.
        """
        challenge = secrets.token_hex(CHALLENGE_BYTES)
        try:
            connection.request("GET", PROOF_PATH, headers={CHALLENGE_HEADER: challenge})
            response = connection.getresponse()
            said = response.read(API_FILE_BYTES_MAX)
        except (OSError, HTTPException) as error:
            raise TransportError(
                tr("the node (pid {pid}) does not answer: {said}", pid=self.pid, said=_said(error))
            ) from error
        if response.status != 200 or not hmac.compare_digest(said, proof(self._token, challenge)):
            raise NoRunningNode(
                tr(
                    "what answers at {url} does not show that it is the node of this home: start that with "
                    "`coterie up`. If a coterie of an older version (pid {pid}) runs there, end that process "
                    "first",
                    url=self.url,
                    pid=self.pid,
                )
            )

    def _send(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> HTTPResponse:
        body = None if parameters is None else json.dumps(parameters).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(
                method,
                path,
                body,
                {
                    "Authorization": f"Bearer {self._token}",
                    "Accept-Language": accept_language(),
                    **kind,
                    **headers,
                },
            )
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            raise TransportError(
                tr("the node (pid {pid}) ended the call: {said}", pid=self.pid, said=_said(error))
            ) from error
        if response.status != 200:
            raise _error_in(response.read(), response.status)
        return response

    def _lines(self, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        try:
            for raw in response:
                if not raw.strip():
                    continue
                line = _json(raw)
                if "error" in line and "event" not in line:
                    raise error_from(line["error"])
                yield line
                if "result" in line and "event" not in line:
                    return
        except (OSError, HTTPException, ValueError) as error:
            raise TransportError(
                tr("the node (pid {pid}) ended the call: {said}", pid=self.pid, said=_said(error))
            ) from error
        raise TransportError(
            tr(
                "the node (pid {pid}) stopped before the command was done: `coterie up` starts it, then repeat "
                "the command",
                pid=self.pid,
            )
        )


def proof(token: str, challenge: str) -> bytes:
    """What only who knows `token` can answer to `challenge`."""
    return hmac.new(token.encode(), b"coterie local API" + challenge.encode(), "sha256").hexdigest().encode()


@decoder(TransportError, "the note of a running node")
def _noted(raw: bytes) -> Client:
    note = json.loads(raw)
    return Client(str(note["url"]), str(note["token"]), int(note["pid"]))


@decoder(TransportError, "the URL of a running node")
def _address_in(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


@decoder(TransportError, "the node ended the call: its answer")
def _json(raw: bytes) -> Any:
    return json.loads(raw)


def is_alive(pid: int) -> bool:
    """Whether a process `pid` of this user exists; where that cannot be asked, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (
        PermissionError,
        OverflowError,
    ):  # another user's: the node is gone, and its number was given anew
        return False
    return True


def error_from(said: Mapping[str, str]) -> CoterieError:
    """The node's error as an exception of the class that has its code."""
    code, message = said.get("code", "error"), said.get("message", "")
    kind = next(
        (known for known in _descendants(CoterieError) if known.__dict__.get("code") == code), CoterieError
    )
    error = CoterieError.__new__(kind)
    CoterieError.__init__(error, message)
    error.code = code
    return error


def _descendants(kind: type[CoterieError]) -> Iterator[type[CoterieError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def _error_in(body: bytes, status: int) -> CoterieError:
    try:
        return error_from(_json(body)["error"])
    except (TransportError, LookupError, TypeError, AttributeError):
        return TransportError(tr("the node answered with HTTP status {status}", status=status))


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
