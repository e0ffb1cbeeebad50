"""Requests to an HTTP proxy: where they lead, and what the server there is told (RFC 9112, 3.2; RFC 9110, 7.6). Pure.

A departure: no `Via` is added, for it tells every server of the proxy, and some answer differently then.
"""

import re

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.services.carry.http_head import Head
from coterie.texts import tr

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@/?#\[\]]+)(?::(\d{1,5}))?\Z")
_ABSOLUTE = re.compile(r"(?i:http)://([^/?#]*)([^#\s]*)\Z")
# What is between two neighbours, and does not go on. The length of the body is never among it, whoever says so.
_BETWEEN = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive", "te", "upgrade"})
_STAYS = frozenset({"host", "content-length", "transfer-encoding"})


@decoder(UsageError, "this request")
def target_of(head: Head) -> tuple[str, int]:
    """Host and port of a request to a proxy. Raises `UsageError`: it names none, or no HTTP."""
    if head.method == "CONNECT":
        return _split(head.target, 0)
    found = _ABSOLUTE.match(head.target)
    if found is None:
        raise UsageError(tr("this proxy carries http://HOST/..., and CONNECT for all else"))
    return _split(found[1], 80)


def _split(authority: str, port: int) -> tuple[str, int]:
    found = _AUTHORITY.match(authority)
    number = int(found[2]) if found is not None and found[2] else port
    if found is None or not 0 < number < 65_536:
        raise UsageError(tr("this request names no host, or no port"))
    return found[1].removeprefix("[").removesuffix("]"), number


@decoder(UsageError, "this request")
def to_origin(head: Head) -> bytes:
    """The head as the server gets it: its own path and host, nothing that is for the proxy. Raises `UsageError`."""
    found = _ABSOLUTE.match(head.target)
    if found is None:
        raise UsageError(tr("this proxy carries http://HOST/..., and CONNECT for all else"))
    path = found[2] or ("*" if head.method == "OPTIONS" else "/")
    path = "/" + path if path.startswith("?") else path
    first, *lines = head.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    version = first.rpartition(b" ")[2]
    said = f"{head.headers.get('connection', '')},{head.headers.get('proxy-connection', '')}".lower()
    options = {option.strip() for option in said.split(",")}
    dropped = (_BETWEEN | options) - _STAYS | {"host"}
    kept = [line for line in lines if line.partition(b":")[0].decode("ascii").lower() not in dropped]
    told = [
        f"{head.method} {path} ".encode("latin-1") + version,
        b"Host: " + found[1].encode("latin-1"),
        *kept,
    ]
    if head.is_upgrade:
        told += [b"Connection: Upgrade", b"Upgrade: " + head.headers["upgrade"].encode("latin-1")]
    elif "close" in options:
        told.append(b"Connection: close")
    elif "keep-alive" in options:
        told.append(b"Connection: keep-alive")
    return b"\r\n".join([*told, b"", b""])


def pac_file(proxy: str) -> str:
    """For browsers: everything goes through the proxy at "127.0.0.1:4000" but what is of this computer or network.

    It looks no name up, and has no way around the proxy where that does not answer.
    """
    return f"""function FindProxyForURL(url, host) {{
  if (isPlainHostName(host) || host === "localhost" || shExpMatch(host, "*.localhost") ||
      shExpMatch(host, "*.local") ||
      /^(127|10|169\\.254|192\\.168|172\\.(1[6-9]|2\\d|3[01]))\\.[\\d.]+$/.test(host) ||
      /^\\[?(::1|f[cd][0-9a-f]{{2}}:|fe[89ab][0-9a-f]:)/i.test(host)) {{
    return "DIRECT";
  }}
  return "PROXY {proxy}; SOCKS5 {proxy}";
}}
"""
