"""Hosts of the web port: whose service they name, and what a program is told of them. Pure."""

from collections.abc import Collection

from coterie.errors import UsageError
from coterie.services.carry.http_head import Head
from coterie.texts import tr

LOCALHOST = "localhost"


def service_of(host: str, zones: Collection[str] = (LOCALHOST,)) -> tuple[str, str]:
    """Name and label of the peer in "wiki.anna.localhost:8080", under one of `zones`.

    Raises `UsageError`: it is another host's page.
    """
    parts = host.partition(":")[0].split(".")
    if len(parts) != 3 or not all(parts) or parts[2] not in zones:
        raise UsageError(
            tr("only http://NAME.COMPUTER.localhost is served here, like http://wiki.anna.localhost")
        )
    return parts[0], parts[1]


def with_host(head: Head, host: str) -> bytes:
    """The head as the program gets it: with that `Host` and an `Origin` that fits, or as it came where `host` is ""."""
    if not host:
        return head.raw
    told = {b"host": b"Host: " + host.encode("ascii"), b"origin": b"Origin: http://" + host.encode("ascii")}
    lines = head.raw.split(b"\r\n")
    return b"\r\n".join(told.get(line.partition(b":")[0].lower(), line) for line in lines)
