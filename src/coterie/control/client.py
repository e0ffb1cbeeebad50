"""Talk to the running node of a home. Standard library only: the command line pays for every import."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coterie.errors import CoterieError, NotFound, TransportError

SILENCE_S = 30.0  # ten heartbeats missed: the node is stuck
API_FILE_BYTES_MAX = 4096


class NoRunningNode(NotFound):
    """No node answers for this home."""

    code = "not_running"


class Client:
    """The local API of one running node."""

    def __init__(self, url: str, token: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._token = token
        self._address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)

    @classmethod
    def find(cls, api_file: Path) -> "Client":
        """The node that wrote `api_file`.

        Raises:
            NoRunningNode: there is no such file, or its process is gone.
        """
        absent = NoRunningNode(f"no coterie runs in {api_file.parent.parent}; start one with `coterie up`")
        try:
            with api_file.open("rb") as file:
                note = json.loads(file.read(API_FILE_BYTES_MAX))
            client = cls(str(note["url"]), str(note["token"]), int(note["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
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

    def _once(self, method: str, path: str, timeout_s: float) -> Any:
        connection = self._connect(timeout_s)
        try:
            response = self._send(connection, method, path, None, {})
            return json.loads(response.read())
        except OSError as error:
            raise TransportError(f"the node (pid {self.pid}) does not answer: {error}") from error
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> HTTPConnection:
        connection = HTTPConnection(*self._address, timeout=timeout_s)
        try:
            connection.connect()
        except TimeoutError as error:
            raise TransportError(f"the node (pid {self.pid}) does not answer: timed out") from error
        except OSError as error:
            raise NoRunningNode(f"no coterie answers at {self.url}; start one with `coterie up`") from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

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
                method, path, body, {"Authorization": f"Bearer {self._token}", **kind, **headers}
            )
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            raise TransportError(f"the node (pid {self.pid}) ended the call: {_said(error)}") from error
        if response.status != 200:
            raise _error_in(response.read(), response.status)
        return response

    def _lines(self, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        try:
            for raw in response:
                if not raw.strip():
                    continue
                line = json.loads(raw)
                if "error" in line and "event" not in line:
                    raise error_from(line["error"])
                yield line
                if "result" in line and "event" not in line:
                    return
        except (OSError, HTTPException, ValueError) as error:
            raise TransportError(f"the node (pid {self.pid}) ended the call: {_said(error)}") from error
        raise TransportError(f"the node (pid {self.pid}) stopped before the command was done")


def is_alive(pid: int) -> bool:
    """Whether a process `pid` exists; where that cannot be asked, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
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
        return error_from(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return TransportError(f"the node answered with HTTP status {status}")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
