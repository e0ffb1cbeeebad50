"""The ports at which the node itself listens, of whatever part of it: no app hands them to others by mistake. Pure."""

from collections.abc import Iterable, Mapping

from coterie.net.find.multicast_probe import PORT as MDNS_PORT
from coterie.texts import tr
from coterie.wire.record import is_address, is_relay, split_address


def ports_of(
    *, finds_neighbours: bool, directory: Iterable[str], own: Iterable[str], relay: int
) -> Mapping[tuple[str, int], str]:
    """What listens at each port ("tcp" or "udp", number), in words; those of apps stand in the table of ports.

    `finds_neighbours`: by multicast DNS. `directory`: where the public one listens, `own`: this node, "ip:port" each;
    `relay`: its TCP port, 0: none.
    """
    found: dict[tuple[str, int], str] = {}
    if finds_neighbours:
        found["udp", MDNS_PORT] = tr("the search for computers on the local network (mDNS)")
    for address in directory:
        found["udp", split_address(address)[1]] = tr("the public directory")
    for address in own:
        if is_address(address) and not is_relay(address):
            found["udp", split_address(address)[1]] = tr("the connections to other computers")
    if relay:
        found["tcp", relay] = tr("the relay for contacts")
    return found
