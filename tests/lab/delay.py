"""Holds every packet that reaches the end of a chain for a fixed time: run it inside the namespace.

python -m tests.lab.delay SECONDS TABLE CHAIN

For kernels without `sch_netem`, and without the nftables statement `queue`: the rule is the NFQUEUE target of
iptables. Packets stay in the kernel: the number of the newest is read once a millisecond from /proc, and one batch
verdict lets all pass that have waited. A socket filter throws away the kernel's word about each packet, so the work
here does not grow with the traffic. Measured: a tenth of a core, forwarding at 40 Mbit/s included.
"""

import ctypes
import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

TICK_S = 0.001
WAITING_MAX = 100_000  # packets; 1 Gbit/s for a second
QUEUE = 0

# Linux, include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_queue.h
_NETLINK_NETFILTER = 12
_REQUEST = 1
_CONFIG, _VERDICT_BATCH = 3 << 8 | 2, 3 << 8 | 3
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN = 1, 2, 3
_VERDICT_HDR = 2
_BIND, _COPY_META, _ACCEPT = 1, 1, 1
# nfnetlink.h, nf_tables.h and nf_tables_compat.h
_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END, _NEW_RULE = 0x10, 0x11, _NFTABLES << 8 | 6
_ACK, _CREATE, _APPEND = 0x4, 0x400, 0x800
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _LIST_ELEMENT = 1, 2, 4, 1
_EXPR_NAME, _EXPR_DATA, _TARGET_NAME, _TARGET_REVISION, _TARGET_INFO = 1, 2, 1, 2, 3
_ERROR = 2
_SO_ATTACH_FILTER = 26


class _Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Held:
    """The packets of a queue, by number: `passing` says up to which one they have waited long enough."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._seen: deque[tuple[float, int]] = deque()
        self._last = 0

    def passing(self, last: int, now: float) -> int | None:
        """The last number that may pass now, None when there is none; `last` is the newest that came."""
        if last != self._last:
            self._seen.append((now + self._delay_s, last))
            self._last = last
        found = None
        while self._seen and self._seen[0][0] <= now:
            found = self._seen.popleft()[1]
        return found


def _attribute(kind: int, body: bytes) -> bytes:
    size = 4 + len(body)
    return struct.pack("=HH", size, kind) + body + bytes(-size % 4)


def _message(kind: int, body: bytes, *, flags: int = 0, family: int = 0, resource: int = 0) -> bytes:
    header = struct.pack("=IHHII", 20 + len(body), kind, _REQUEST | flags, 0, 0)
    return header + struct.pack("!BBH", family, 0, resource) + body


def _queue_rest_of(table: str, chain: str) -> None:
    """Append the rule "-j NFQUEUE --queue-num 0"."""
    target = (
        _attribute(_TARGET_NAME, b"NFQUEUE\0")
        + _attribute(_TARGET_REVISION, struct.pack("!I", 0))
        + _attribute(_TARGET_INFO, struct.pack("=H6x", QUEUE))
    )
    expression = _attribute(_EXPR_NAME, b"target\0") + _attribute(_EXPR_DATA, target)
    rule = (
        _attribute(_RULE_TABLE, table.encode() + b"\0")
        + _attribute(_RULE_CHAIN, chain.encode() + b"\0")
        + _attribute(_RULE_EXPRESSIONS, _attribute(_LIST_ELEMENT, expression))
    )
    flags = _CREATE | _APPEND | _ACK
    batch = (
        _message(_BATCH_BEGIN, b"", resource=_NFTABLES)
        + _message(_NEW_RULE, rule, flags=flags, family=socket.AF_INET)
        + _message(_BATCH_END, b"", resource=_NFTABLES)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.send(batch)
        answer = netlink.recv(8192)
    kind, code = struct.unpack_from("=4xH10xi", answer)
    if kind != _ERROR or code != 0:
        raise OSError(-code, f"this kernel makes no NFQUEUE rule: {os.strerror(-code)}")


def _deaf(netlink: socket.socket) -> None:
    """Let the kernel say nothing to it: a filter of one instruction, "keep 0 bytes" (linux/filter.h: ret #0)."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    filters = _Filter(1, ctypes.cast(program, ctypes.c_void_p))
    netlink.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(filters))


def _last_number() -> Callable[[], int]:
    """What reads the number of the newest packet (nfqnl_seq_show: the eighth column)."""
    file = os.open("/proc/thread-self/net/netfilter/nfnetlink_queue", os.O_RDONLY)

    def read() -> int:
        line = os.pread(file, 4096, 0).split()
        return int(line[7]) if line else 0

    return read


def hold(delay_s: float, table: str, chain: str) -> None:
    """Until it is killed."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        _deaf(netlink)
        for attribute, body in (
            (_CFG_CMD, struct.pack("!BBH", _BIND, 0, socket.AF_INET)),
            (_CFG_PARAMS, struct.pack("!IB", 0, _COPY_META)),
            (_CFG_QUEUE_MAXLEN, struct.pack("!I", WAITING_MAX)),
        ):
            netlink.send(_message(_CONFIG, _attribute(attribute, body), resource=QUEUE))
        _queue_rest_of(table, chain)
        read, held = _last_number(), Held(delay_s)
        print("ready", flush=True)
        while True:
            last = held.passing(read(), time.monotonic())
            if last is not None:
                verdict = struct.pack("!II", _ACCEPT, last)
                netlink.send(_message(_VERDICT_BATCH, _attribute(_VERDICT_HDR, verdict), resource=QUEUE))
            time.sleep(TICK_S)


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # a busy machine must not add to the delay
    Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
    hold(float(sys.argv[1]), sys.argv[2], sys.argv[3])
