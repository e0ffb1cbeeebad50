"""What askers and owners write for hosts: a name or an address that can be read in one way only, and patterns. Pure."""

import ipaddress
import re

import msgspec

from coterie.apps.internet.addresses import IP, Network
from coterie.decoding import decoder
from coterie.errors import AccessDenied, UsageError
from coterie.texts import tr

NAME_CHARS_MAX = 253  # RFC 1035, 2.3.4, as text
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")  # URL Standard, 3.5: "ends in a number"
INNER_NAMES = ("localhost", "local", "internal", "home.arpa", "onion")  # RFC 6761, 6762, 8375, 7686


@decoder(AccessDenied, "the host")
def read_host(text: str) -> IP | str:
    """The address or the name, in small letters, that `text` means to every reader.

    Raises:
        AccessDenied: numbers that programs read in several ways (2130706433, 0x7f.1, 010.0.0.1), names that are none.
    """
    host = text.lower().removesuffix(".")
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        pass
    labels = host.split(".")
    if not host.isascii() or len(host) > NAME_CHARS_MAX or not all(map(_LABEL.match, labels)):
        raise AccessDenied(tr("this is no name of a host"))
    if _NUMBER.match(labels[-1]):
        raise AccessDenied(tr("this address can be read in several ways: write it as four numbers"))
    return host


def is_inner(name: str) -> bool:
    """Whether this name means something in the network of who looks it up, or on its own computer, alone."""
    return "." not in name or any(name == inner or name.endswith("." + inner) for inner in INNER_NAMES)


class Pattern(msgspec.Struct, frozen=True):
    """Hosts: one name, `is_below` also all names below it; or the `network`. `port` 0: every port."""

    name: str = ""
    network: str = ""
    is_below: bool = False
    port: int = 0

    def __str__(self) -> str:
        place = ("*." if self.is_below else "") + self.name or self.network
        if self.network:
            network = ipaddress.ip_network(self.network)
            place = str(network.network_address) if network.num_addresses == 1 else self.network
            place = f"[{place}]" if self.port and network.version == 6 else place
        return f"{place}:{self.port}" if self.port else place

    def matches(self, host: IP | str, port: int) -> bool:
        """Whether `host`, as it was asked for, is meant."""
        if self.port not in (0, port):
            return False
        if isinstance(host, str):
            return bool(self.name) and (
                host == self.name or (self.is_below and host.endswith("." + self.name))
            )
        return bool(self.network) and host in _network(self.network)


def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


@decoder(UsageError, "this host")
def read_pattern(text: str) -> Pattern:
    """ "nas.home.arpa", "*.example.org", "192.168.1.0/24", each with ":PORT" where only that is meant.

    Raises:
        UsageError: it is none.
    """
    rest, port = text.strip().lower(), 0
    found = re.fullmatch(r"(\[.*\]|[^:]*):(\d{1,5})", rest)
    if found is not None:
        rest, port = found[1], int(found[2])
        if not 0 < port < 65_536:
            raise UsageError(tr("'{text}' names no port: write 1 to 65535", text=text))
    rest = rest.removeprefix("[").removesuffix("]")
    try:
        return Pattern(network=str(ipaddress.ip_network(rest, strict=False)), port=port)
    except ValueError:
        pass
    is_below, name = rest.startswith("*."), rest.removeprefix("*.").removesuffix(".")
    labels = name.split(".")
    is_name = len(name) <= NAME_CHARS_MAX and all(map(_LABEL.match, labels))
    if not is_name or _NUMBER.match(labels[-1]):
        raise UsageError(
            tr(
                "'{text}' is no host: write a name, *.NAME, an address or a network, with :PORT if only one is "
                "meant",
                text=text,
            )
        )
    return Pattern(name=name, is_below=is_below, port=port)
