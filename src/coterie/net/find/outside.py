"""Whether somebody elsewhere reaches this computer, why not, and what would change that. Pure.

One place decides; `status`, `doctor`, `share` and `invite` say what it found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from coterie.net.home_networks import Zone, is_home, zone_of
from coterie.texts import tr
from coterie.wire.record import is_address, is_relay, split_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a node now.

    Fields:
        level: "local", "circle" or "internet".
        own: "ip:port" of this machine itself.
        mapped: outside addresses ("ip:port") at which a router lets others in.
        mapping: what the router said, in words.
        nat: how peers elsewhere see us: "unknown", "none", "same" or "varies" (`net.find.observed`).
        relays: URLs of relays where this node listens.
        directory: what stands in the way of the public directory; empty when it works, or is not used.
        listens: whether it hears who asks it, by the public directory, to dial back.
    """

    level: str
    own: Sequence[str] = ()
    mapped: Sequence[str] = ()
    mapping: str = ""
    nat: str = "unknown"
    relays: Sequence[str] = ()
    directory: str = ""
    listens: bool = False


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """Whether who holds a ticket gets in from elsewhere.

    Fields:
        reached: "yes", "perhaps" (it depends on the other side, or both have to call at once) or "no".
        because: why, in words.
        change: what would make it a yes, in words; empty when it is one.
        offers: whether the level `internet` would add a way.
    """

    reached: str
    because: str
    change: str = ""
    offers: bool = False

    def text(self) -> str:
        """For people: one sentence, or two."""
        begins = {
            "yes": tr("others reach this computer from outside"),
            "perhaps": tr("from outside not everybody reaches this computer"),
            "no": tr("from outside nobody reaches this computer"),
        }[self.reached]
        return tr("{begins}, because {because}", begins=begins, because=self.because) + (
            tr("; what would change that: {change}", change=self.change) if self.change else ""
        )

    def note(self) -> str:
        """For people: one line, where not everybody gets in; empty where everybody does."""
        if self.reached == "yes":
            return ""
        if self.reached == "perhaps":
            return tr(
                "from outside not everybody reaches this computer: `coterie doctor` says why, and what helps"
            )
        return tr("from outside nobody reaches this computer: `coterie doctor` says why, and what helps")


def judge(facts: Facts) -> Outside:
    """Who reaches the node of `facts` from elsewhere."""
    own = [split_address(a)[0] for a in facts.own if is_address(a) and not is_relay(a)]
    if not own or all(ip.is_loopback for ip in own):
        change = tr("connect it to a network, or set `bind` to an address of one")
        return Outside(reached="no", because=tr("it is on no network"), change=change)
    if all(zone_of(ip) <= Zone.LINK for ip in own):
        change = tr("connect it to a network whose router gives it an address")
        because = tr("it has addresses only that its neighbours on the same cable or radio reach")
        return Outside(reached="no", because=because, change=change)
    if facts.level == "local":
        change = tr("`coterie config set reach circle`")
        return Outside(reached="no", because=tr("the setting `reach` is local"), change=change)
    if why := _open_door(facts, any(ip.version == 4 and not is_home(ip) for ip in own)):
        return Outside(reached="yes", because=why)
    has_ipv6 = any(ip.version == 6 and not is_home(ip) for ip in own)
    ways = []
    if has_ipv6:
        ways.append(
            tr("its firewall for IPv6 lets in who it calls at the same time, so contacts with IPv6 get in")
        )
    if facts.listens:
        ways.append(
            tr(
                "it dials back who knocks by the public directory: contacts, and who holds a ticket, get in "
                "within two minutes if they use the directory too and the router on one side keeps ports"
            )
        )
    if facts.nat == "same":
        ways.append(
            tr("its router shows everybody the same address: contacts that it calls at the same time get in")
        )
    if ways:
        because = "; ".join(ways)
    elif facts.directory:
        because = tr(
            "its router lets nobody in, and the public directory cannot be used: {directory}",
            directory=facts.directory,
        )
    else:
        because = tr("its router lets nobody in that it did not call first")
    return Outside(
        reached="perhaps" if ways else "no",
        because=because,
        change=_change(facts, has_ipv6=has_ipv6),
        offers=facts.level == "circle",
    )


def _open_door(facts: Facts, has_ipv4: bool) -> str:
    """Why everybody gets in; empty when not everybody does."""
    if has_ipv4:
        return tr("it has an address of the internet")
    if facts.mapped:
        return tr("its router lets others in at {addresses}", addresses=", ".join(facts.mapped))
    return tr("it listens at a contact's relay, {relay}", relay=facts.relays[0]) if facts.relays else ""


def _change(facts: Facts, *, has_ipv6: bool) -> str:
    own = [a for a in facts.own if is_address(a) and zone_of(split_address(a)[0]) is Zone.HOME]
    said = f" ({facts.mapping})" if facts.mapping else ""
    ways = [
        tr(
            "UPnP, NAT-PMP or PCP in the router{said}, or UDP forwarded there to {address}",
            said=said,
            address=own[0],
        )
        if own
        else ""
    ]
    ways.append(tr("a contact with an address of the internet, who then relays (`coterie invite`)"))
    ways.append("" if has_ipv6 else tr("IPv6 on both sides"))
    ways.append("`coterie config set reach internet`" if facts.level == "circle" else "")
    return tr("; or ").join(filter(None, ways))


def unreached(tried: Sequence[str]) -> str:
    """What would help to reach a peer that answered at none of the addresses `tried`; a sentence or two."""
    relays = [a for a in tried if is_relay(a)]
    ips = [split_address(a)[0] for a in tried if not is_relay(a) and is_address(a)]
    if relays:
        return tr("It was not at its relay either: most likely it is off, or not connected.")
    help_there = tr(
        "`coterie doctor` on that computer says what keeps others out and what would let them in; a "
        "ticket or an invitation made after that names the way"
    )
    if not tried:
        return tr("No address of it is known: {help_there}.", help_there=help_there)
    if not ips:  # of a transport without IP
        return ""
    if all(is_home(ip) for ip in ips):
        return tr(
            "These are addresses inside a home, which lead nowhere from another network. {help_there}. On "
            "this side a contact whom both know and who has an address of the internet would help.",
            help_there=help_there,
        )
    return tr(
        "If it is on, a router in between lets nobody in: {help_there}. On this side a router that maps "
        "ports, IPv6, or a contact whom both know and who has an address of the internet would help "
        "(`coterie doctor` here).",
        help_there=help_there,
    )
