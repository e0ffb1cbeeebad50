"""Which traffic of this computer goes by the exit: rules of people, and the nftables table that obeys them. Pure.

Every packet gets one of four marks where it leaves a program, before anything else judges it:

    OWN     of the node itself: passes
    DIRECT  what a rule leaves out, local networks, and what keeps the network itself up (DHCP, neighbours): passes
    CAUGHT  TCP, and questions to the DNS: redirected to ports of the node, or refused
    TUNNEL  UDP and ICMP: routed into the TUN device

Connections of the node, also those that peers begin, carry OWN themselves, for answers that the kernel gives alone.

The last chain lets nothing out that has none of them, nor anything marked TUNNEL by another device: with the node
dead, and the device with it, every packet meets a closed door.
"""

import ipaddress
import re
from collections.abc import Sequence

import msgspec

from coterie.errors import UsageError
from coterie.texts import tr

TABLE = "coterie_exit"
DEVICE = "coterie0"
ROUTES = 0x636F  # number of the routing table, and preference of its rule: "co"
RULES_MAX = 256  # of one exit; guess: more than anybody writes
HOSTS_MAX = 65_535  # addresses of hosts that rules name, in the kernel
HOST_CHARS_MAX = 253  # RFC 1035, 2.3.4, as text
OWN, DIRECT, CAUGHT, TUNNEL = 0x636F01, 0x636F02, 0x636F03, 0x636F04
LOCAL_4 = (
    "10.0.0.0/8",  # RFC 1918
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # RFC 6598: behind one provider, and networks of other programs
    "169.254.0.0/16",  # RFC 3927
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
)
LOCAL_6 = ("fe80::/10", "fc00::/7", "ff00::/8")

_HOST = re.compile(r"(?:[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)(?:\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*\Z")
_USER = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}\$?\Z", re.IGNORECASE)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rule(msgspec.Struct, frozen=True):
    """What one rule means: one of the three is not empty.

    Fields:
        network: "192.0.2.0/24"; an address is a network of one.
        host: it and all names below it.
        user: whose programs.
    """

    network: str = ""
    host: str = ""
    user: str = ""


def read_rule(text: str) -> Rule:
    """`text`: a host, an address, a network or user:NAME. Raises `UsageError`."""
    kind, colon, name = text.partition(":")
    if colon and kind == "user" and _USER.match(name):
        return Rule(user=name)
    try:
        return Rule(network=str(ipaddress.ip_network(text)))
    except ValueError:
        pass
    host = text.removeprefix("*.").rstrip(".").lower()
    if len(host) <= HOST_CHARS_MAX and _HOST.match(host) and not host.replace(".", "").isdigit():
        return Rule(host=host)
    raise UsageError(
        tr(
            "'{text}' is no host, no network like 192.0.2.0/24, and no user like user:anna",
            text=text[:HOST_CHARS_MAX],
        )
    )


def read_rules(texts: Sequence[str]) -> list[Rule]:
    """Raises `UsageError`: one cannot be, or there are over RULES_MAX."""
    if len(texts) > RULES_MAX:
        raise UsageError(tr("an exit has {rules_max} rules at most; this is one more", rules_max=RULES_MAX))
    return [read_rule(text) for text in texts]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What goes by the exit.

    Fields:
        direct: does not, all else does.
        only: does, nothing else does; empty: everything.
        local: networks of private addresses do not.
    """

    direct: list[Rule] = []
    only: list[Rule] = []
    local: bool = True

    @property
    def has_hosts(self) -> bool:
        """Whether names decide anything."""
        return any(rule.host for rule in (*self.direct, *self.only))

    def is_by_exit(self, name: str) -> bool:
        """Whether the host of this name is reached by the exit, as far as its name alone decides."""
        if any(_is_below(name, rule.host) for rule in self.direct):
            return False
        return not self.only or any(_is_below(name, rule.host) for rule in self.only)

    def names(self, name: str) -> bool:
        """Whether a rule names this host: then its addresses are to be known to the kernel."""
        return any(_is_below(name, rule.host) for rule in (*self.only, *self.direct))


def _is_below(name: str, host: str) -> bool:
    return bool(host) and (name == host or name.endswith("." + host))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the table is made from.

    Fields:
        home: of the node, so that a second one does not take the table away.
        cgroup: path of the node's group below /sys/fs/cgroup, `level`: its depth in its hierarchy.
        udp, tcp: ports at which the node listened before it came into that group, as user `uid`.
        door: port here for TCP; `names`: for questions to the DNS.
        users: ids of the users that the split names.
    """

    home: str
    cgroup: str
    level: int
    uid: int
    udp: list[int]
    tcp: list[int]
    door: int
    names: int
    split: Split
    users: dict[str, int] = {}


def table(plan: Plan) -> str:
    """The table as `nft -f` reads it: in one transaction it takes the place of one that is there."""
    return "\n".join(
        (
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            f"comment {_quoted(plan.home)}",
            *_sets(plan.split),
            *_marks(plan),
            *_doors(plan),
            *_gates(plan.split),
            "}\n",
        )
    )


def remove_table() -> str:
    """For `nft -f`: no table, whether there was one or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def add_hosts(addresses: Sequence[tuple[str, int]]) -> str:
    """For `nft -f`: these addresses are of hosts that rules name, for so many seconds each."""
    lines = []
    for address, seconds in addresses:
        which = "hosts6" if ":" in address else "hosts4"
        lines.append(f"add element inet {TABLE} {which} {{ {address} timeout {seconds}s }}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    """As nft reads a text: it knows no escapes."""
    return '"' + re.sub(r'["\\\x00-\x1f\x7f]', "?", text)[:120] + '"'


def _sets(split: Split) -> list[str]:
    lines = []
    for name, rules in (("direct", split.direct), ("only", split.only)):
        networks = [ipaddress.ip_network(rule.network) for rule in rules if rule.network]
        lines += _set(name, networks)
    if split.local:
        lines += _set("local", [ipaddress.ip_network(text) for text in (*LOCAL_4, *LOCAL_6)])
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        lines.append(f"set hosts{version} {{\ntype {kind}\nflags timeout\nsize {HOSTS_MAX}\n}}")
    return lines


def _set(name: str, networks: Sequence[Network]) -> list[str]:
    lines = []
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        members = ", ".join(str(network) for network in networks if network.version == version)
        filled = f"elements = {{ {members} }}\n" if members else ""
        lines.append(f"set {name}{version} {{\ntype {kind}\nflags interval\nauto-merge\n{filled}}}")
    return lines


def _marks(plan: Plan) -> list[str]:
    own, direct = f"meta mark set {OWN:#x} accept", f"meta mark set {DIRECT:#x} accept"
    lines = [
        "chain marks {",
        "type route hook output priority mangle; policy accept;",
        f"meta mark {{ {OWN:#x}, {DIRECT:#x}, {CAUGHT:#x}, {TUNNEL:#x} }} meta mark set 0",
        f"ct mark {OWN:#x} {own}",
        f"socket cgroupv2 level {plan.level} {_quoted(plan.cgroup)} ct mark set {OWN:#x} {own}",
    ]
    for kind, ports in (("udp", plan.udp), ("tcp", plan.tcp)):
        if ports:
            numbers = ", ".join(map(str, sorted(set(ports))))
            lines.append(f"meta skuid {plan.uid} {kind} sport {{ {numbers} }} {own}")
    lines += [
        "fib daddr type local accept",
        f"udp sport 68 udp dport 67 {direct}",  # DHCP: without it the network itself ends
        f"udp sport 546 udp dport 547 {direct}",
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, "
        f"mld-listener-done, mld2-listener-report }} {direct}",
    ]
    split = plan.split
    for rules, name, verdict in ((split.direct, "direct", direct), (split.only, "only", "goto exit")):
        users = sorted({plan.users[rule.user] for rule in rules if rule.user})
        if users:
            lines.append(f"meta skuid {{ {', '.join(map(str, users))} }} {verdict}")
        if any(rule.network for rule in rules):
            lines += [f"ip daddr @{name}4 {verdict}", f"ip6 daddr @{name}6 {verdict}"]
    hosts = "goto exit" if split.only else direct
    if split.has_hosts:
        lines += [f"ip daddr @hosts4 {hosts}", f"ip6 daddr @hosts6 {hosts}"]
    if not split.only or split.has_hosts:
        lines.append(f"meta l4proto {{ tcp, udp }} th dport 53 meta mark set {CAUGHT:#x} accept")
    if split.only:
        lines.append(direct)
    if split.local and not split.only:
        lines += [f"ip daddr @local4 {direct}", f"ip6 daddr @local6 {direct}"]
    lines += [] if split.only else ["goto exit"]
    return [
        "chain incoming {",  # what the kernel answers to a peer that dials has no socket with a group yet
        "type filter hook input priority 0; policy accept;",
        f"ct state new socket cgroupv2 level {plan.level} {_quoted(plan.cgroup)} ct mark set {OWN:#x}",
        "}",
        "chain exit {",
        f"meta l4proto {{ tcp, udp }} th dport 53 meta mark set {CAUGHT:#x} accept",
        f"meta l4proto tcp meta mark set {CAUGHT:#x} accept",
        f"meta l4proto {{ udp, icmp, icmpv6 }} meta mark set {TUNNEL:#x} accept",
        "}",
        *lines,
        "}",
    ]


def _doors(plan: Plan) -> list[str]:
    return [
        "chain doors {",
        "type nat hook output priority -100; policy accept;",
        f"meta mark != {CAUGHT:#x} accept",
        f"udp dport 53 redirect to :{plan.names}",
        f"tcp dport 53 redirect to :{plan.names}",
        f"meta l4proto tcp redirect to :{plan.door}",
        "}",
    ]


def _gates(split: Split) -> list[str]:
    passes = f"meta mark {{ {OWN:#x}, {DIRECT:#x} }}"
    forwarded = [
        f"meta mark {{ {CAUGHT:#x}, {TUNNEL:#x} }} drop"
    ]  # what is left has no mark: no program here sent it
    if split.only:
        forwarded.append("accept")
    elif split.local:
        forwarded += ["ip daddr @local4 accept", "ip6 daddr @local6 accept"]
    return [
        "chain refuse {",  # to programs here, with a word; the device is not yet known for sure
        "type filter hook output priority 10; policy accept;",
        f"{passes} accept",
        f"meta mark {TUNNEL:#x} accept",
        "ct status dnat accept",
        "fib daddr type local accept",
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
        "}",
        "chain gate {",  # what leaves, and what is forwarded for containers and guests
        "type filter hook postrouting priority 10; policy drop;",
        'oifname "lo" accept',
        f'oifname "{DEVICE}" meta mark {TUNNEL:#x} accept',
        f'oifname "{DEVICE}" drop',
        f"{passes} accept",
        *forwarded,
        "}",
    ]
