"""Kinds of home routers as nftables rules. Terms of RFC 4787: how a NAT *maps* and what it *filters*.

| kind              | mapping                                | filtering                  |
|-------------------|----------------------------------------|----------------------------|
| `open`            | none                                   | none                       |
| `easy`            | endpoint-independent, keeps the port   | endpoint-independent       |
| `port-restricted` | endpoint-independent, changes the port | address and port-dependent |
| `symmetric`       | address and port-dependent, random     | address and port-dependent |
| `double`          | two `easy` in a row                    | endpoint-independent       |
| `udp-blocked`     | TCP only                               | drops UDP both ways        |

The kernel's own NAT filters by address and port. So `easy` remembers which inside address owns a port and
sends there whatever arrives for it. With its own filtering instead, `easy` could not meet `symmetric`.
"""

EASY = "easy"
PORT_RESTRICTED = "port-restricted"
SYMMETRIC = "symmetric"
OPEN = "open"
DOUBLE = "double"
UDP_BLOCKED = "udp-blocked"
KINDS = (OPEN, EASY, PORT_RESTRICTED, SYMMETRIC, DOUBLE, UDP_BLOCKED)

MAPPING_S = 120  # RFC 4787, REQ-5: a mapping lives two minutes at least
PORTS_FROM, PORTS = 20_000, 40_000  # where port-restricted puts the ports it changes

# Unsolicited packets are dropped on input as well as on forward. Without the first the kernel tracks the
# other side's first packet, the mapping for our answer collides with it and gets another port.
# The same rules are the firewall of IPv6, which nothing translates: what a router at home does. `pinholes` and the
# table `upnp` are empty until somebody asks the router's miniupnpd (`port_mapping.py`).
_FILTER = """
table inet guard {{
  chain pinholes {{
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" meta l4proto ipv6-icmp accept
    iifname "wan" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {forward}
    jump pinholes
    iifname "wan" ct state established,related accept
    iifname "wan" ct status dnat accept
    iifname "wan" drop
  }}
}}
"""

_SOURCE = """
table ip nat {{
  chain source {{
    type nat hook postrouting priority srcnat;
    {source}
  }}
}}
"""

_OWNERS = f"""
table ip owners {{
  map of_port {{
    typeof udp dport : ip daddr . udp dport
    size 65535
    flags dynamic,timeout
    timeout {MAPPING_S}s
  }}
  chain remember {{
    type filter hook postrouting priority srcnat + 1;
    oifname "wan" ct direction original update @of_port {{ udp sport : ct original ip saddr . ct original proto-src }}
  }}
  chain deliver {{
    type nat hook prerouting priority dstnat;
    iifname "wan" dnat ip to udp dport map @of_port
  }}
}}
"""

_SOURCES = {
    EASY: 'oifname "wan" masquerade',
    PORT_RESTRICTED: (
        f'oifname "wan" meta l4proto udp masquerade to :jhash ip saddr . udp sport mod {PORTS} offset {PORTS_FROM}\n'
        '    oifname "wan" masquerade'
    ),
    SYMMETRIC: 'oifname "wan" masquerade fully-random',
    UDP_BLOCKED: 'oifname "wan" masquerade',
}


def rules(kind: str) -> str:
    """What a router of `kind`, with its outside on the device "wan", tells nftables. Not for open and double."""
    text = _FILTER.format(forward="meta l4proto udp drop" if kind == UDP_BLOCKED else "")
    text += _SOURCE.format(source=_SOURCES[kind])
    return text + (_OWNERS if kind == EASY else "")
