"""The fake node and app, in this process and in processes of their own."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SITE = Path(__file__).parent / "site"
WAIT_S = 15.0


def fake_node() -> Any:
    """The module that stands in for `coterie.node`.

    It is loaded by its place and not through sys.path, or real nodes of other tests would find the fake app.
    """
    if "coterie_fake" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "coterie_fake",
            SITE / "coterie_fake" / "__init__.py",
            submodule_search_locations=[str(SITE / "coterie_fake")],
        )
        assert spec is not None
        sys.modules["coterie_fake"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("coterie_fake.node")


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a process that finds the fake node and the fake app."""
    path = os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "COTERIE_HOME": str(home), "COLUMNS": "100", **more}


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-m", "coterie", *words]


def coterie(home: Path, *words: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Run one command line to its end; no traceback is ever right."""
    done = subprocess.run(
        command_line(*words),
        env=environment(home, **settings.pop("env", {})),
        capture_output=True,
        text=True,
        timeout=WAIT_S * 2,
        check=False,
        **settings,
    )
    assert "Traceback" not in done.stderr
    return done


def start(home: Path, *words: str, **settings: Any) -> "subprocess.Popen[str]":
    """Start one command line."""
    return subprocess.Popen(
        command_line(*words),
        env=environment(home, **settings.pop("env", {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Other processes have no event to wait for: look again and again, for a bounded time."""
    end = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < end, f"waited {WAIT_S} s for {what}"
        time.sleep(0.01)


def api_note(home: Path) -> Mapping[str, Any]:
    note: Mapping[str, Any] = json.loads((home / "run" / "api.json").read_bytes())
    return note


def ask(
    url: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, Mapping[str, str]]:
    """One plain HTTP request: status, decoded body, headers."""
    connection = HTTPConnection(urlsplit(url).hostname or "", urlsplit(url).port, timeout=WAIT_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.status, json.loads(content) if is_json else content, dict(response.headers)
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
