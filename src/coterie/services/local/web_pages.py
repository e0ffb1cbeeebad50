"""What tells a request of our own page, or of no page, from one that another web page has made. Pure."""

import ipaddress
from collections.abc import Mapping

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_own_page(method: str, host: str, headers: Mapping[str, str]) -> bool:
    """Whether the request comes from a page of the service itself, from no page, or by following a link.

    Pages of others may neither read what is here nor have anything done (`Origin`, and `Sec-Fetch-Site`, which browsers
    send to localhost without encryption as well). `host` and the names of `headers` are in small letters.
    """
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host}":
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return follows and method == "GET"


def is_own_host(host: str, number: int, *, is_lan: bool) -> bool:
    """Whether `Host` is an address of this port, and no name that a web page chose for it (DNS rebinding).

    On the local network every IP address is: names are what a page can choose.
    """
    name, _, port = host.rpartition(":")
    if port != str(number):
        return False
    if name in LOOPBACK_NAMES:
        return True
    if not is_lan:
        return False
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
