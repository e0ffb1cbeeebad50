"""SSDP, the part of UPnP that finds devices: one question by UDP, and where the description of a router is.

Anybody on the local network may answer the question. So an answer counts only when the default router itself sent it,
and names a description on itself: nothing else is ever requested.
"""

import ipaddress
import re

from coterie.decoding import decoder
from coterie.errors import PeerError

GROUP = "239.255.255.250"  # UPnP Device Architecture 1.1, section 1.3
PORT = 1900
ANSWER_BYTES_MAX = 2_048  # guess: real ones have 300 to 500
URL_CHARS_MAX = 256
_ROUTER = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
_LOCATION = re.compile(rb"^location:[ \t]*(\S+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_URL = re.compile(r"http://([0-9.]{7,15}):([0-9]{1,5})/[!-~]*\Z")


def search_request() -> bytes:
    """The question for routers; MX is the seconds within which they answer."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {_ROUTER}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


@decoder(PeerError, "the router's answer")
def description_url(answer: bytes, sender_ip: str, router_ip: str) -> str:
    """Where the router at `router_ip` describes itself; empty when `answer` is not its own, or names another place."""
    if sender_ip != router_ip or len(answer) > ANSWER_BYTES_MAX or not answer.startswith(b"HTTP/1.1 200"):
        return ""
    found = _LOCATION.search(answer)
    url = found[1].decode("ascii", "replace") if found is not None else ""
    parts = _URL.match(url) if len(url) <= URL_CHARS_MAX else None
    if parts is None or not 0 < int(parts[2]) < 65536:
        return ""
    try:
        is_router = ipaddress.ip_address(parts[1]) == ipaddress.ip_address(router_ip)
    except ValueError:
        return ""
    return url if is_router else ""
