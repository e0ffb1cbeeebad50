"""What people write: what is exposed (PORT, HOST:PORT, udp:PORT, unix:PATH), its name, and which service is meant."""

import ipaddress
import re

import msgspec

from coterie.apps.expose.messages import NAME_CHARS_MAX
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.net.quic.addresses import is_own_ip
from coterie.texts import tr

_NAME = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{NAME_CHARS_MAX - 2}}}[a-z0-9])?\Z")
_UNIX, _UDP = "unix:", "udp:"
UNIX_PATH_BYTES_MAX = 107  # sun_path of Linux, with its end


class Target(msgspec.Struct, frozen=True):
    """Where a service is: `host` and `port`, or the `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return _UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@decoder(UsageError, "this target")
def read_target(text: str) -> Target:
    """Raises `UsageError`."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or len(path.encode()) > UNIX_PATH_BYTES_MAX or "\0" in path:
            raise UsageError(tr("'{text}' is no Unix socket: write unix:/the/whole/path", text=text))
        return Target(path=path)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or any(c.isspace() for c in host):
        raise UsageError(
            tr("'{text}' names no service: write a port, HOST:PORT, udp:PORT or unix:/PATH", text=text)
        )
    return Target(host, int(port))


def is_this_machine(host: str) -> bool:
    """Whether `host` is an address of this machine, or the usual name of it. No name is looked up."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_unspecified or is_own_ip(ip)


def read_kind(text: str) -> tuple[str, str]:
    """Kind and target in "udp:53" or "53"; a Unix socket is one of streams. The target may still be none."""
    return ("udp", text.removeprefix(_UDP)) if text.startswith(_UDP) else ("tcp", text)


def checked_name(text: str) -> str:
    """`text` if it can be the name of a service. Raises `UsageError`."""
    if not _NAME.match(text):
        raise UsageError(
            tr(
                "'{text}' cannot be the name of a service: it stands in web addresses, so write small "
                "letters, digits and hyphens, {name_chars_max} at most",
                text=text,
                name_chars_max=NAME_CHARS_MAX,
            )
        )
    return text


def read_service(text: str) -> tuple[str, str]:
    """Peer and name in "COMPUTER/NAME". Raises `UsageError`."""
    peer, slash, name = text.rpartition("/")
    if not (slash and peer):
        raise UsageError(
            tr("'{text}' names no service of anybody: write COMPUTER/NAME, like anna/wiki", text=text)
        )
    return peer, checked_name(name)


def as_label(name: str) -> str:
    """How the name of a peer stands in a web address: "Anna's PC" is anna-s-pc."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:NAME_CHARS_MAX].strip("-")
