"""What jobs may depend on, where the system says so: power, the price of the network, whether anything is going on."""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from coterie.services.jobs.core import Surroundings

POWER = Path("/sys/class/power_supply")
ASK_S = 2.0  # guess: the system's own message bus answers within milliseconds
IDLE_LOAD = 0.25  # of each processor, over the last minute; guess
_METERED = ("1", "3")  # NMMetered of NetworkManager: yes, and "guess yes"
_QUESTION = [
    "busctl",
    "--system",
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
]


class Lookout:
    """Looks when it is asked to. Nothing that it looks at is guaranteed to be there."""

    def __init__(
        self,
        power: Path = POWER,
        question: list[str] = _QUESTION,
        load: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`power`: of Linux. `question`: the command that asks NetworkManager. `load`: of each processor."""
        self._power = power
        self._question = question
        self._load = load or _load
        self._clock = clock
        self._quiet_since: float | None = None

    async def look(self) -> Surroundings:
        """What is now."""
        return Surroundings(
            idle_s=self._idle_s(), on_mains=is_on_mains(self._power), is_metered=await self._is_metered()
        )

    def _idle_s(self) -> float:
        if self._load() >= IDLE_LOAD:
            self._quiet_since = None
            return 0.0
        if self._quiet_since is None:
            self._quiet_since = self._clock()
        return self._clock() - self._quiet_since

    async def _is_metered(self) -> bool:
        """Through `busctl`, which is where NetworkManager is: no library for one question."""
        if not sys.platform.startswith("linux") or shutil.which(self._question[0]) is None:
            return False
        with contextlib.suppress(OSError, TimeoutError):
            asked = await asyncio.create_subprocess_exec(
                *self._question, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(ASK_S):
                    answer, _ = await asked.communicate()
                return answer.decode("ascii", "replace").split()[1:2] in ([code] for code in _METERED)
            finally:
                if asked.returncode is None:
                    asked.kill()
                    await asked.wait()
        return False


def is_on_mains(power: Path = POWER) -> bool:
    """False when the system names a battery that is being used up, or mains that are away and none that is there."""
    mains: list[bool] = []
    is_draining = False
    for supply in sorted(power.glob("*")):
        kind = _text(supply / "type")
        if kind in ("Mains", "USB") and (online := _text(supply / "online")):
            mains.append(online != "0")
        if kind == "Battery" and _text(supply / "scope") != "Device":  # of a mouse
            is_draining = is_draining or _text(supply / "status") == "Discharging"
    return any(mains) or not (is_draining or mains)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _load() -> float:
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):  # Windows says none
        return 0.0
