"""Whole nodes on computers of the laboratory, used as people use them: through the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.lab import Host
from tests.lab.namespace import LabError

COMMAND_S = 90.0  # guess: any command on a busy machine, a download by BitTorrent included


class LabNode:
    """The node in `folder` on `host`. `up` runs it; without that each command opens it for itself."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder / host.name
        self.process: subprocess.Popen[Any] | None = None
        self("config", "set", "name", host.name)

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """What `coterie` says, events and errors included, lines that were broken joined again.

        LabError when it fails and should not, or the reverse.
        """
        done = self.host.namespace.call(
            lambda: subprocess.run(
                self._command(*arguments), capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        )
        said = done.stderr + done.stdout
        if bool(done.returncode) is not fails:
            raise LabError(
                f"{self.host.name}: coterie {' '.join(arguments)} ended with {done.returncode}:\n{said}"
            )
        return re.sub(r"\n +(?=\S)", " ", said)

    def result(self, *arguments: str) -> Any:
        """The result of a command as plain values."""
        return json.loads(self("--json", *arguments).strip().splitlines()[-1])

    def up(self) -> None:
        """Run until `down`."""
        self.process = self.host.popen(*self._command("up"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise LabError(f"{self.host.name}: the node did not start")

    def down(self) -> None:
        """Stop it."""
        if self.process is not None:
            self("down")
            self.process.wait(10)
            self.process = None

    def meet(self, other: "LabNode") -> None:
        """Invite `other`, who joins: then they know each other."""
        inviting, invited = self.invite()
        other("join", invited["ticket"])
        inviting.wait(COMMAND_S)

    def invite(self) -> tuple["subprocess.Popen[Any]", dict[str, Any]]:
        """`coterie invite`, waiting; and what it printed: code, ticket, addresses to be named with --at."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        inviting = self.host.popen(*self._command("--json", "invite"), **pipes)
        assert inviting.stdout is not None
        return inviting, json.loads(inviting.stdout.readline())

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "coterie", "--home", str(self.folder), *arguments)
