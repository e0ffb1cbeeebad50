"""Debian's Firefox, driven by its own remote protocol (Marionette): JSON with its length before it, over TCP."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

FIREFOX = "/usr/bin/firefox-esr"
START_S = 40.0
FIND_S = 20.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element (WebDriver, W3C)


class Firefox:
    """A headless browser with a profile of its own; use as a context manager."""

    def __init__(self, profile: Path, port: int) -> None:
        profile.mkdir(parents=True, exist_ok=True)
        (profile / "user.js").write_text(
            f'user_pref("marionette.port", {port});\n'
            'user_pref("network.captive-portal-service.enabled", false);\n'
            'user_pref("network.connectivity-service.enabled", false);\n'
            'user_pref("app.update.disabledForTesting", true);\n'
            'user_pref("datareporting.policy.dataSubmissionEnabled", false);\n'
            'user_pref("browser.shell.checkDefaultBrowser", false);\n'
            'user_pref("intl.accept_languages", "en-GB");\n'
        )
        self._process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile), "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
        )
        self._number = 0
        self._socket = self._connected(port)
        self._rest = b""
        self._read()  # it says first what it is
        self.ask("WebDriver:NewSession", strictFileInteractability=False)

    def __enter__(self) -> "Firefox":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(10)

    def ask(self, command: str, **parameters: Any) -> Any:
        """The answer to a command of WebDriver. Raises `RuntimeError` with what went wrong."""
        self._number += 1
        said = json.dumps([0, self._number, command, parameters])
        self._socket.sendall(f"{len(said.encode())}:{said}".encode())
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result

    def goto(self, url: str) -> None:
        """Open an address."""
        self.ask("WebDriver:Navigate", url=url)

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=[])["value"]

    def click(self, css: str) -> None:
        """Click the element, as soon as it is there."""
        self.ask("WebDriver:ElementClick", id=self._find(css))

    def type(self, css: str, text: str) -> None:
        """Type into the element."""
        self.ask("WebDriver:ElementSendKeys", id=self._find(css), text=text)

    def text(self, css: str) -> str:
        """What stands in the element."""
        return str(self.ask("WebDriver:GetElementText", id=self._find(css))["value"])

    def await_text(self, css: str, wanted: str) -> str:
        """The element's text, as soon as `wanted` is in it."""
        until = time.monotonic() + FIND_S
        while wanted not in (text := self.text(css)):
            assert time.monotonic() < until, f"{css}: {text!r}, not {wanted!r}"
            time.sleep(0.1)
        return text

    def _find(self, css: str) -> str:
        until = time.monotonic() + FIND_S
        while True:
            try:
                found = self.ask("WebDriver:FindElement", using="css selector", value=css)["value"]
            except RuntimeError:
                assert time.monotonic() < until, f"{css} is not there"
                time.sleep(0.1)
            else:
                return str(found[ELEMENT])

    def _read(self) -> Any:
        while b":" not in self._rest:
            self._rest += self._receive()
        digits, _, self._rest = self._rest.partition(b":")
        while len(self._rest) < int(digits):
            self._rest += self._receive()
        message, self._rest = self._rest[: int(digits)], self._rest[int(digits) :]
        return json.loads(message)

    def _receive(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise RuntimeError("Firefox ended")
        return received

    def _connected(self, port: int) -> socket.socket:
        until = time.monotonic() + START_S
        while True:
            try:
                connected = socket.create_connection(("127.0.0.1", port), timeout=START_S)
            except OSError:
                assert self._process.poll() is None, "Firefox did not start"
                assert time.monotonic() < until, "Firefox does not answer"
                time.sleep(0.1)
            else:
                return connected
