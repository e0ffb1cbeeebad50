"""Runs one program and ends it, and all that it started, when the node ends however it dies, or a limit is passed.

A program of its own, of the standard library alone: `python -I -S keeper.py`. The node writes one line of JSON to its
standard input (see `main`) and holds that pipe: its end is the end of the node. The program's output goes to standard
error; on standard output comes one line of JSON, how it ended.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any

LOOK_S = 0.5  # between two looks at what the processes use
END_S = 2.0  # for the processes to end after SIGTERM; then they are killed
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def prctl(option: int, value: int) -> None:
    """Where there is one: on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def start(order: dict[str, Any]) -> int:
    """Begin the program in a session of its own; its process id."""
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)  # it was gone before the kernel was told
        limit(order)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(order["folder"])
        os.execvpe(order["words"][0], order["words"], order["environment"])  # noqa: S606  (that is what it is for)
    except OSError as error:
        os.write(2, f"{order['words'][0]} cannot be started: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def limit(order: dict[str, Any]) -> None:
    """What the kernel itself holds each process to."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if order["memory_bytes_max"]:
        bound = (order["memory_bytes_max"],) * 2
        resource.setrlimit(resource.RLIMIT_DATA, bound)  # what it only reserves (Go, Java) does not count
    if order["processor_s_max"]:
        whole = int(order["processor_s_max"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    os.nice(order["nice"])


def descendants(of: int) -> list[int]:
    """The processes that `of` and its children started and that still run; without /proc the first only."""
    found, asked = [], [of]
    while asked:
        process = asked.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{task}/children") as children:
                    asked += [int(child) for child in children.read().split()]
        if process != of:
            found.append(process)
    return found


def used(processes: list[int]) -> tuple[int, float]:
    """Bytes in memory now, and seconds of processor: of all of them, those that have ended and were waited for too."""
    memory, seconds = 0, 0.0
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{process}/statm") as statm:
                words = statm.read().split()
                memory += (int(words[1]) - int(words[2])) * PAGE  # without what is shared
            with open(f"/proc/{process}/stat") as stat:
                seconds += sum(int(word) for word in stat.read().rpartition(")")[2].split()[11:15]) / TICKS
    return memory, seconds


def passed(order: dict[str, Any], began: float) -> str:
    """The limit that is passed now, or ""."""
    if order["time_s_max"] and time.monotonic() - began > order["time_s_max"]:
        return "time"
    if not (order["memory_bytes_max"] or order["processor_s_max"]):
        return ""
    memory, seconds = used(descendants(os.getpid()))
    if order["memory_bytes_max"] and memory > order["memory_bytes_max"]:
        return "memory"
    if order["processor_s_max"] and seconds > order["processor_s_max"]:
        return "processor"
    return ""


def end_all(child: int, status: int | None) -> int | None:
    """End every process, gently at first; the wait status of the child where it was still to be had."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until, told = time.monotonic() + END_S, set[int]()
        if status is None and not os.path.isdir("/proc/self/task"):
            os.killpg(child, number)
        while True:
            for process in set(descendants(os.getpid())) - told:
                told.add(process)
                with contextlib.suppress(OSError):
                    os.kill(process, number)
            while True:
                try:
                    process, ended = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return status
                if not process:
                    break
                if process == child:
                    status = ended
            if time.monotonic() > until:
                break
            time.sleep(0.02)
    return status


def watch(order: dict[str, Any], child: int) -> tuple[str, int | None]:
    """Wait for the end of the child, of the node, or of a limit: which it was, and the child's wait status."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    has_limits = order["time_s_max"] or order["memory_bytes_max"] or order["processor_s_max"]
    began = time.monotonic()
    while True:
        ready, _, _ = select.select([0, read], [], [], LOOK_S if has_limits else None)
        if read in ready:
            came = os.read(read, 100)
            if signal.SIGTERM in came or signal.SIGINT in came:
                return "node", None
        if 0 in ready:
            return "node", None
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)  # grandchildren whose parents have ended, too
            if process == child:
                return "end", status
            if not process:
                break
        if reason := passed(order, began):
            return reason, None


def read_order() -> dict[str, Any]:
    """The first line of standard input. Not an argument: others may read those in the list of processes."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65_536)
        if not more:
            sys.exit(1)
        line += more
    return json.loads(line)  # type: ignore[no-any-return]


def main() -> None:
    """An order has: words, environment, folder, memory_bytes_max, processor_s_max, time_s_max (0: none), nice, node."""
    order = read_order()
    prctl(SET_CHILD_SUBREAPER, 1)
    prctl(SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != order["node"]:
        return
    child = start(order)
    reason, status = watch(order, child)
    status = end_all(child, status)
    code = os.waitstatus_to_exitcode(status) if status is not None else -signal.SIGKILL
    if reason == "end" and code == -signal.SIGXCPU:
        reason = "processor"
    with contextlib.suppress(OSError):  # the node has gone
        os.write(1, json.dumps({"reason": reason, "code": code}).encode() + b"\n")


if __name__ == "__main__":
    main()
