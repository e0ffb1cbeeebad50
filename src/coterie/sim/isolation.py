"""A network namespace of one's own on Linux: loopback up and nothing else, with no tool but this process.

Tests, benchmarks and the demo enter one, so that nothing they do reaches another machine.
`tools/isolate.py` imports this before anything is installed: standard library only.
"""

import ctypes
import os
import socket
import struct
import sys

from coterie.errors import UsageError

MARK = "COTERIE_ISOLATED"  # set inside, so that what we start does not enter another one
OPT_OUT = "COTERIE_NO_ISOLATION"

# Linux, include/uapi/linux/sched.h, sockios.h and if.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ_FLAGS = struct.Struct("16sh22x")  # struct ifreq: name, flags, the rest of the union

_ADVICE = (
    "Run as root, or allow unprivileged user namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), "
    f"or set {OPT_OUT}=1 to run on the machine's own network"
)


def enter_namespace() -> bool:
    """Move this process, and all it starts, into a namespace with only loopback.

    Call it before starting threads. Returns True when isolated; False when it goes on without: on systems
    other than Linux, or when COTERIE_NO_ISOLATION=1 is set. Raises UsageError when the kernel refuses.
    """
    if os.environ.get(OPT_OUT) == "1" or sys.platform != "linux":
        return False
    if os.environ.get(MARK) == "1" and is_isolated():
        return True
    _unshare()
    _bring_up_loopback()
    os.environ[MARK] = "1"
    return True


def is_isolated() -> bool:
    """Whether no network interface but loopback is up here (Linux)."""
    if sys.platform != "linux":
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        up = [name for _, name in socket.if_nameindex() if _flags(probe, name) & _IFF_UP]
    return up == ["lo"]


def _unshare() -> None:
    """A namespace directly where we may (root), else inside a user namespace that keeps our own ids."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise UsageError(f"this kernel gives no network namespace ({reason}). {_ADVICE}")
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    except OSError as error:
        raise UsageError(
            f"this kernel refuses to map our user into a namespace ({error.strerror}). {_ADVICE}"
        ) from None


def _bring_up_loopback() -> None:
    from fcntl import ioctl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = _IFREQ_FLAGS.pack(b"lo", _flags(probe, "lo") | _IFF_UP)
        try:
            ioctl(probe, _SIOCSIFFLAGS, request)
        except OSError as error:
            raise UsageError(
                f"loopback cannot be brought up in the namespace ({error.strerror}). {_ADVICE}"
            ) from None


def _flags(probe: socket.socket, interface: str) -> int:
    from fcntl import ioctl

    answer = ioctl(probe, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(interface.encode(), 0))
    return int(_IFREQ_FLAGS.unpack(answer)[1])


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
