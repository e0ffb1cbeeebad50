"""Names in the DNS for computers and services: COMPUTER.coterie and NAME.COMPUTER.coterie are this computer. Pure.

They lead to the port for web pages here (`web.py`), as names in .localhost do. What is not under .coterie is refused,
so that a resolver asks elsewhere; what nobody is called does not exist.
"""

import ipaddress
from collections.abc import Callable

from coterie.texts import tr
from coterie.wire.dns import ANY, NAME_ERROR, REFUSED, A, Record, answer, read_question

ZONE = "coterie"
LASTS_S = 5  # that a name may be kept: people come and go
_HERE = ipaddress.ip_address("127.0.0.1").packed


def answer_names(message: bytes, is_known: Callable[[str], bool]) -> bytes:
    """The answer to a question. `is_known`: whether a computer has this label. Raises `PeerError`: it is none."""
    asked = read_question(message)
    labels = asked.name.split(".")
    if labels[-1] != ZONE:
        return answer(asked, [], REFUSED)
    if len(labels) > 3 or (len(labels) > 1 and not is_known(labels[-2])):
        return answer(asked, [], NAME_ERROR)
    if len(labels) == 1 or asked.kind not in (A, ANY):  # no IPv6: the port for web pages has none
        return answer(asked, [])
    return answer(asked, [Record(A, _HERE, LASTS_S)])


def how_to_set_up(port: int) -> list[str]:
    """Lines for people: how this system's resolver is told to ask at that port."""
    return [
        tr(
            "systemd-resolved, in /etc/systemd/resolved.conf.d/coterie.conf (then: systemctl restart systemd-resolved):"
        ),
        "  [Resolve]",
        f"  DNS=127.0.0.1:{port}",
        f"  Domains=~{ZONE}",
        tr(
            "systemd 258 and newer, in /etc/systemd/dns-delegate.d/coterie.dns-delegate instead, asks for nothing else:"
        ),
        "  [Delegate]",
        f"  DNS=127.0.0.1:{port}",
        f"  Domains={ZONE}",
        tr("dnsmasq, also that of NetworkManager: server=/{zone}/127.0.0.1#{port}", zone=ZONE, port=port),
        tr(
            "macOS, in /etc/resolver/{zone}: nameserver 127.0.0.1, and below it: port {port}",
            zone=ZONE,
            port=port,
        ),
    ]
