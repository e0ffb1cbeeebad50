"""Port mapping: a home router is asked to let others in at one UDP and one TCP port, by PCP, NAT-PMP or UPnP.

`core` decides, `pcp`, `nat_pmp` and `ssdp` are the codecs, `routes` reads the system's table of routes; `router`,
`upnp` and `mapper` touch the network.
"""

from coterie.net.port_mapping.core import Mapped, Port
from coterie.net.port_mapping.mapper import PortMapper

__all__ = ["Mapped", "Port", "PortMapper"]
