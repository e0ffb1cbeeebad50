"""The one port of a BitTorrent session: where each address got one of its own, links would name the loopback's."""

import errno
import ipaddress
import os
import socket
from contextlib import ExitStack

TRIES_MAX = 20  # guess: of ports that the system gives for TCP, few are taken for UDP or the other family


def port_for(bind_ip: str, wanted: int) -> int:
    """A port that is free for TCP and UDP wherever `bind_ip` listens: `wanted` if it can be; 0 if there is none."""
    ip = ipaddress.ip_address(bind_ip)
    hosts = ["0.0.0.0", "::"] if ip.is_unspecified else [str(ip)]  # noqa: S104 - to see what is free
    for asked in (*([wanted] if wanted else []), *[0] * TRIES_MAX):
        if port := _free(hosts, asked):
            return port
    return 0


def _free(hosts: list[str], port: int) -> int:
    """`port`, or where that is 0 one that the system chooses, if all of it is free; else 0."""
    with ExitStack() as opened:
        for host, kind in (
            (host, kind) for host in hosts for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                one = opened.enter_context(socket.socket(family, kind))
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM and os.name != "nt":
                    one.setsockopt(
                        socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
                    )  # as one that was closed just now
                one.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and port:
                    continue  # a system without IPv6
                return 0
            port = one.getsockname()[1]
    return port
