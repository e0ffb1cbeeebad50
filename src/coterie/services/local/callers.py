"""Whose program is at the other end of a connection on this machine: its user id.

Programs like psql, ssh or a browser cannot send a secret of ours. So a server for them asks the kernel whose socket the
other end is. Linux tells: for Unix sockets by SO_PEERCRED, for TCP by the socket diagnosis of netlink (one
question for one connection) or else by /proc/net/tcp (a list of all), for UDP by /proc/net/udp (several users may have
one port), and whether the socket is still the same by netlink.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = 0  # its programs can read our memory anyway: refusing them protects nothing, and daemons like CUPS are of use
_SOCK_DIAG = 4  # linux/netlink.h: NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # linux/sock_diag.h: SOCK_DIAG_BY_FAMILY
_REQUEST = 1  # linux/netlink.h: NLM_F_REQUEST
_ANSWER_S = 1.0  # the kernel answers before `send` returns
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ASKED = struct.Struct("=BBBxI")  # the beginning of inet_diag_req_v2; then the id of the socket
_ID_AT = _HEADER.size + 4  # in inet_diag_msg: ports (2 + 2), addresses (16 + 16), interface (4), cookie (8)
_COOKIE_AT = _ID_AT + 40
_USER_AT = _ID_AT + 48 + 12  # uid, and the inode behind it
_NO_COOKIE = b"\xff" * 8


def can_ask() -> bool:
    """Whether this system tells who is at the other end."""
    return sys.platform == "linux"


def is_trusted(user: int | None) -> bool:
    """Whether a program of this user may use what is ours alone. None: nobody knows whose it is."""
    return user is not None and user in (os.getuid(), ROOT)


def caller_of(accepted: socket.socket) -> int | None:
    """The user id of the program that connected to us; None when the kernel does not say, or it has closed already.

    `accepted` is a connection of a Unix socket, or a TCP connection between addresses of this machine.
    """
    if accepted.family == socket.AF_UNIX:
        credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[4:8], sys.byteorder)
    try:
        theirs, ours = accepted.getpeername()[:2], accepted.getsockname()[:2]
    except OSError:
        return None
    try:
        user, inode, _ = _ask_netlink(accepted.family, socket.IPPROTO_TCP, theirs, ours)
        return user if inode else None
    except OSError:
        return owner_in_table(_read_table("tcp", accepted.family), _hex(theirs), _hex(ours))


def sender_of(theirs: tuple[str, int]) -> int | None:
    """The user id of who sends datagrams from this IPv4 address of this machine; None when several users do."""
    table = _read_table("udp", socket.AF_INET)
    own, anywhere = _hex(theirs), _hex(("0.0.0.0", theirs[1]))  # noqa: S104  (compared, not bound)
    users = {user for local, _, user, inode in _rows(table) if local in (own, anywhere) and inode}
    return users.pop() if len(users) == 1 else None


def socket_of(theirs: tuple[str, int], ours: tuple[str, int]) -> bytes | None:
    """Which UDP socket has the IPv4 address `theirs` now: another one has other bytes. None: nobody knows."""
    try:
        _, inode, cookie = _ask_netlink(socket.AF_INET, socket.IPPROTO_UDP, theirs, ours)
    except OSError:
        return None
    return cookie if inode else None


def owner_in_table(table: str, theirs: str, ours: str) -> int | None:
    """The user id in the text of /proc/net/tcp for the socket from `theirs` to `ours`, both as they stand there.

    A socket whose program closed it has no inode any more, and then the user id says 0 whoever it was: that is None.
    """
    for local, remote, user, inode in _rows(table):
        if (local, remote) == (theirs, ours):
            return user if inode else None
    return None


def _rows(table: str) -> Iterator[tuple[str, str, int, int]]:
    """Local address, remote address, user id, inode."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 9:
            yield words[1], words[2], int(words[7]), int(words[9])


def _read_table(kind: str, family: int) -> str:
    try:
        return Path(f"/proc/net/{kind}{'6' if family == socket.AF_INET6 else ''}").read_text("ascii")
    except OSError:
        return ""


def _hex(address: tuple[str, int]) -> str:
    """An address as /proc/net/tcp writes it: words of the machine's own byte order."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address[0])
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"


def _ask_netlink(
    family: int, protocol: int, theirs: tuple[str, int], ours: tuple[str, int]
) -> tuple[int, int, bytes]:
    """User id, inode and cookie of their socket. Raises `OSError` where the kernel does not answer such questions."""
    ends = [(socket.inet_pton(family, address[0]).ljust(16, b"\0"), address[1]) for address in (theirs, ours)]
    if protocol == socket.IPPROTO_UDP:
        ends.reverse()  # the kernel looks for who would receive it (net/ipv4/udp_diag.c: "swapped")
    question = _ASKED.pack(family, protocol, 0, 0xFFFFFFFF) + struct.pack("!HH", ends[0][1], ends[1][1])
    question += ends[0][0] + ends[1][0] + bytes(4) + _NO_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_S)
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 1, 0) + question)
        answer = kernel.recv(65_536)
    if len(answer) < _USER_AT + 8 or answer[_ID_AT : _ID_AT + 2] != struct.pack("!H", theirs[1]):
        raise OSError("no such socket, or no such question")
    user, inode = (int.from_bytes(answer[at : at + 4], sys.byteorder) for at in (_USER_AT, _USER_AT + 4))
    return user, inode, answer[_COOKIE_AT : _COOKIE_AT + 8]
