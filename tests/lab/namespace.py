"""A network namespace held by a file descriptor: no name on the machine, gone when this process is gone."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

COMMAND_S = 20.0  # guess: no set-up command takes a second; beyond this something hangs

_CLONE_NEWNET = 0x40000000  # Linux, include/uapi/linux/sched.h
_OWN = "/proc/thread-self/ns/net"


class LabError(Exception):
    """The laboratory cannot be built or used as wanted; the text says what to do."""


class Namespace:
    """One network stack. `name` is for messages only; the kernel knows it by our descriptor.

    Work is done inside by threads that enter it: the thread that calls stays where it is. What such a thread
    makes (a socket, a process) belongs to the namespace for good.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _in_thread(self._unshare)
        # duplicate address detection would keep every IPv6 address silent for its first second
        self.write("/proc/sys/net/ipv6/conf/default/accept_dad", "0", may_lack=True)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """Where `ip` finds this namespace while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, done inside."""
        return _in_thread(lambda: self._enter_and(work))

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """What `command` prints; LabError with its complaint when it fails."""
        done = self.call(
            lambda: subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        )
        if check and done.returncode:
            given = f"\n{stdin}" if stdin else ""
            raise LabError(f"in {self.name}: {' '.join(command)}: {done.stderr.strip()}{given}")
        return done.stdout

    def popen(self, *command: str, **settings: Any) -> "subprocess.Popen[Any]":
        """Start `command` inside; the arguments are those of `subprocess.Popen`."""
        return self.call(lambda: subprocess.Popen(command, **settings))

    def nft(self, rules: str) -> None:
        """Load nftables rules."""
        self.run("nft", "-f", "-", stdin=rules)

    def write(self, path: str, text: str, *, may_lack: bool = False) -> None:
        """Write a file under /proc/sys/net, which every namespace has for itself."""
        try:
            self.call(lambda: Path(path).write_text(text, encoding="ascii"))
        except FileNotFoundError:
            if not may_lack:
                raise

    def read(self, path: str) -> str:
        """The text of a file under /proc/thread-self/net."""
        return self.call(lambda: Path(path).read_text(encoding="ascii"))

    def close(self) -> None:
        """Let go of it; the kernel removes it with all its devices when its last process has ended."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _unshare(self) -> int:
        if self._libc.unshare(_CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise LabError(f"the kernel gives no network namespace ({reason}): run this as root")
        return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

    def _enter_and(self, work: Callable[[], T]) -> T:
        if self._libc.setns(self._fd, _CLONE_NEWNET) != 0:
            raise LabError(f"cannot enter {self.name}: {os.strerror(ctypes.get_errno())}")
        return work()


def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, which may leave our namespace because it ends afterwards."""
    with ThreadPoolExecutor(1, "in a namespace") as thread:
        return thread.submit(work).result()
