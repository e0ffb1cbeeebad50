"""The checks of `coterie doctor`: what this computer and its network let the node do."""

import asyncio
import functools
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coterie.control.doctor import Check, Probe, holds
from coterie.control.doctor_dates import dates
from coterie.errors import TransportError
from coterie.net.find.multicast_probe import Heard, probe_multicast
from coterie.net.find.resolver import Resolver
from coterie.net.home_networks import is_home
from coterie.net.relay.probe import clock_at_relay, probe_relay
from coterie.quantity import count, duration, say_bytes
from coterie.reach import ReachLevel
from coterie.texts import tr
from coterie.wire.record import CLOCK_SKEW_S, split_address

if TYPE_CHECKING:
    from coterie.node import Node

SETTLE_S = 6.0  # a node just opened needs this to reach contacts and find relays
ECHO_S = 1.0  # on this machine itself
FREE_BYTES_MIN = 100_000_000  # below this downloads and the index fail soon
FREE_BYTES_LOW = 2_000_000_000
CLOCK_GOOD_S = 30.0  # a difference that nobody minds
DATABASE_S = 4.0
_PAGES_PER_LOOK = 100_000  # SQLite's virtual machine steps between looks at the clock

Free = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Room that a user has on the disk of `folder`."""
    return shutil.disk_usage(folder).free


def node_checks(node: "Node", *, free: Free = free_bytes) -> list[tuple[str, Probe]]:
    """Every check of the node itself, in the order in which they are told."""
    bound: list[tuple[str, Callable[[Node], Awaitable[Check]]]] = [
        ("reach", reach),
        ("addresses", addresses),
        ("udp", udp),
        ("multicast", multicast),
        ("mapping", mapping),
        ("nat", nat),
        ("relays", relays),
        ("dht", dht),
        ("outside", outside),
        ("clock", clock),
        ("background", background),
        ("identity", identity),
        ("apps", apps),
    ]
    checks: list[tuple[str, Probe]] = [(name, functools.partial(probe, node)) for name, probe in bound]
    checks.append(("disk", functools.partial(disk, node, free)))
    checks.append(("database", functools.partial(database, node)))
    checks.append(("dates", functools.partial(dates, node)))
    return checks


async def background(node: "Node") -> Check:
    """Work of the node that failed, and whether it goes on."""
    troubles = node.tasks.troubles()
    if not troubles:
        return Check(name="background", ok=True, result=tr("all work goes on"))
    return Check(
        name="background",
        ok=all(trouble.again_in_s == 0 for trouble in troubles),
        result="; ".join(trouble.text() for trouble in troubles),
        advice=tr("this is a fault of coterie: what stands here and in the log helps to mend it"),
    )


async def apps(node: "Node") -> Check:
    """Apps that are troubled, failed or left out."""
    states = [state for state in node.host.states() if state.state != "running"]
    if not states:
        return Check(name="apps", ok=True, result=tr("all {number} run", number=len(node.host.states())))
    return Check(
        name="apps",
        ok=False,
        result="; ".join(state.text() for state in states),
        advice=tr("the rest runs; update or remove what fails, and see the log for more"),
    )


async def identity(node: "Node") -> Check:
    """Whether another computer runs with a copy of this home."""
    seen = node.reach.copy_seen if node.reach is not None else ""
    return Check(name="identity", ok=not seen, result=seen or tr("no other computer was seen with it"))


# ---- the network


async def reach(node: "Node") -> Check:
    """The level, and resolvers that cannot work."""
    if node.reach is None:
        return Check(
            name="reach", ok=False, result=tr("this node is offline"), advice=tr("start it: `coterie up`")
        )
    problems = [str(p) for r in node.reach.resolvers if (p := getattr(r, "problem", ""))]
    return Check(
        name="reach",
        ok=not problems,
        result=node.reach.describe(),
        advice=tr("other ways to find computers still work; the checks below say more") if problems else "",
    )


async def addresses(node: "Node") -> Check:
    """Where this node listens, and where others see it."""
    observed = node.reach.observed.believed if node.reach else {}
    own = _own(node)
    away = [a for a in own if not split_address(a)[0].is_loopback]
    if not away:
        return Check(
            name="addresses",
            ok=False,
            result=tr("only this computer itself ({own})", own=", ".join(own) or tr("none")),
            advice=tr("connect it to a network, or set `bind` to an address of one (`coterie config`)"),
        )
    private = [a for a in away if is_home(split_address(a)[0])]
    public = [a for a in away if a not in private]
    parts = [tr("private {private}", private=", ".join(private))] if private else []
    parts += [tr("public {public}", public=", ".join(public))] if public else []
    mapped = node.reach.mapped if node.reach else ()
    parts += [tr("let in by the router at {mapped}", mapped=", ".join(mapped))] if mapped else []
    parts += [
        tr("seen by others as {address}", address=a)
        if sure
        else tr("seen by others as {address} (unconfirmed)", address=a)
        for a, sure in observed.items()
    ]
    return Check(name="addresses", ok=True, result="; ".join(parts))


async def udp(node: "Node") -> Check:
    """Whether UDP leaves this machine and arrives here; then, whether it gets through the network."""
    own = [a for a in _own(node) if split_address(a)[0].version == 4]
    ips = dict.fromkeys(str(split_address(a)[0]) for a in own)
    failed = {ip: why for ip in ips if (why := await _echo(ip))}
    if failed:
        told = "; ".join(f"{ip}: {why}" for ip, why in failed.items())
        advice = tr("a firewall on this computer drops UDP; let coterie send and receive it")
        return Check(name="udp", ok=False, result=told, advice=advice)
    through = await _through_relays_only(node)
    if through:
        return Check(
            name="udp",
            ok=False,
            result=tr(
                "{through} answers over TCP and not over UDP: the network seems to block UDP", through=through
            ),
            advice=tr(
                "let UDP out in the router or firewall; until then everything goes through a relay, slower"
            ),
        )
    ports = ", ".join(dict.fromkeys(a.rpartition(":")[2] for a in own))
    return Check(name="udp", ok=True, result=tr("listening on port {ports}", ports=ports or tr("none")))


async def _through_relays_only(node: "Node") -> str:
    """The owner of a home relay with whom there is no direct path, though its relay answers; or nothing.

    Who runs a relay is reachable directly, unless UDP does not get through.
    """
    if node.relays is None or node.endpoint is None:
        return ""
    await _settled(node)
    owners = {r.url: node.relays.candidates.get(r.url) for r in node.relays.status().homes}
    suspects = {url: peer for url, peer in owners.items() if peer is not None and peer != node.peer_id}
    endpoint = node.endpoint

    def is_direct() -> bool:
        direct = {c.peer for c in endpoint.connections if c.path.kind == "direct"}
        return any(peer in direct for peer in suspects.values())

    return "" if not suspects or await holds(is_direct, SETTLE_S / 3) else next(iter(suspects))


async def _echo(ip: str) -> str:
    """Send a datagram to ourselves at `ip`; what went wrong, or nothing."""
    loop = asyncio.get_running_loop()
    said = os.urandom(16)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((ip, 0))
            await loop.sock_sendto(sock, said, sock.getsockname())
            async with asyncio.timeout(ECHO_S):
                while await loop.sock_recv(sock, 64) != said:
                    pass
    except TimeoutError:
        return tr("a datagram to ourselves did not arrive")
    except OSError as error:
        return tr("cannot send ({reason})", reason=error.strerror or error)
    return ""


async def multicast(node: "Node") -> Check:
    """Whether multicast DNS can be sent and heard on each IPv4 network."""
    if not node.config.discovery:
        return Check(name="multicast", ok=True, result=tr("not used: the setting `discovery` is off"))
    own = [split_address(a)[0] for a in _own(node)]
    ips = list(dict.fromkeys(str(ip) for ip in own if ip.version == 4 and not ip.is_loopback))
    if not ips:
        return Check(name="multicast", ok=True, result=tr("no IPv4 network to use it on"))
    results = await asyncio.gather(*(_multicast_on(ip, ips) for ip in ips))
    told = "; ".join(f"{ip}: {_heard_text(heard)}" for ip, heard in zip(ips, results, strict=True))
    resolvers = node.reach.resolvers if node.reach is not None else []
    seen = len({peer for resolver in resolvers for peer in getattr(resolver, "seen", ())})
    told += "; " + tr("{nodes} found", nodes=count(seen, "node")) if seen else ""
    if any(isinstance(heard, Heard) and (heard.own or heard.others) for heard in results):
        return Check(name="multicast", ok=True, result=told)
    advice = tr(
        "nodes of this network do not find each other by themselves: let UDP port 5353 and 224.0.0.251 "
        "through the firewall; or use `coterie join CODE --at IP:PORT` and tickets, which need no multicast"
    )
    return Check(name="multicast", ok=False, result=told, advice=advice)


async def _multicast_on(ip: str, own: list[str]) -> "Heard | str":
    try:
        return await probe_multicast(ip, own)
    except TransportError as error:
        return str(error)


def _heard_text(heard: "Heard | str") -> str:
    if isinstance(heard, str):
        return heard
    if heard.others:
        return tr("{others} heard", others=count(len(heard.others), "other computer"))
    return tr("works here, nobody else heard") if heard.own else tr("what is sent does not come back")


async def mapping(node: "Node") -> Check:
    """What the home router lets in, or why nothing."""
    await node.settled()
    said = node.describe_mapping()
    own = [a for a in _own(node) if is_home(split_address(a)[0]) and not split_address(a)[0].is_loopback]
    advice = ""
    if said.startswith("none") and own:
        advice = tr(
            "turn UPnP, NAT-PMP or PCP on in the router; or forward UDP to {address} there", address=own[0]
        )
    return Check(name="mapping", ok=True, result=said, advice=advice)


async def nat(node: "Node") -> Check:
    """The kind of NAT, from what peers see."""
    await _settled(node)
    own = set(_own(node))
    reports = node.reach.observed.reports() if node.reach else {}
    outside = {peer: address for peer, address in reports.items() if address not in own}
    public = [a for a in own if not is_home(split_address(a)[0])]
    seen = sorted({*outside.values()})
    if not outside and any(split_address(a)[0].version == 4 for a in public):
        return Check(name="nat", ok=True, result=tr("none: this computer has an address of the internet"))
    if not outside:
        told_by = count(len(reports), "computer")
        said = (
            tr("unknown: {computers} on the local network told, none elsewhere", computers=told_by)
            if reports
            else tr("unknown: no computer has told")
        )
        advice = tr("it takes a contact elsewhere: `coterie invite`")
        return Check(name="nat", ok=True, result=said, advice=advice, mend="invite")
    if len(outside) == 1:
        said = tr(
            "behind a router, seen as {address} by one computer; it takes two to know the kind",
            address=seen[0],
        )
        return Check(name="nat", ok=True, result=said)
    if len(seen) == 1:
        said = tr(
            "endpoint-independent: {number} computers see {address}; direct connections work with most",
            number=len(outside),
            address=seen[0],
        )
        return Check(name="nat", ok=True, result=said)
    told = tr(
        "symmetric: {number} computers see {seen} addresses ({addresses})",
        number=len(outside),
        seen=len(seen),
        addresses=", ".join(seen[:4]),
    )
    has_relay = node.relays is not None and bool(node.relays.status().homes)
    advice = (
        tr("computers behind such routers are reached through a relay")
        if has_relay
        else tr(
            "direct connections need a port that the router forwards: set `port` and forward it; or invite a "
            "contact with a public address, who will relay"
        )
    )
    return Check(name="nat", ok=has_relay, result=told, advice=advice)


async def relays(node: "Node") -> Check:
    """Round trips of the relays that may be used, and how our own does."""
    if node.relays is None or node.reach is None or node.reach.level is ReachLevel.LOCAL:
        return Check(name="relays", ok=True, result=tr("not used at this reach level"))
    await _settled(node)
    status = node.relays.status()
    # Our own is for those outside: few routers lead to it from inside.
    candidates = {url: peer for url, peer in node.relays.candidates.items() if peer != node.peer_id}
    rounds = await asyncio.gather(*(_round_trip(url) for url in candidates))
    homes = [home.url for home in status.homes]
    told = [
        tr("{url} of {owner} {said}", url=url, owner=_who(node, candidates[url]), said=said)
        + (" " + tr("(in use)") if homes[:1] == [url] else "")
        for url, said in zip(candidates, rounds, strict=True)
    ]
    if status.problem:
        return Check(name="relays", ok=False, result=status.problem, advice=tr("choose another `relay_port`"))
    told += [tr("ours serves {whom}", whom=status.serving_text())] if status.serves else []
    if homes:
        return Check(name="relays", ok=True, result="; ".join(told))
    if candidates:
        advice = tr("who runs them may be away; or a firewall blocks TCP to them from here")
        return Check(
            name="relays",
            ok=False,
            result=tr("none answers: {relays}", relays="; ".join(told)),
            advice=advice,
        )
    advice = tr("a contact with a public address would relay for you when there is no direct path")
    return Check(name="relays", ok=True, result=tr("none: no contact runs one"), advice=advice)


async def _round_trip(url: str) -> str:
    try:
        return f"{await probe_relay(url) * 1000:.1f} ms"
    except TransportError:
        return tr("does not answer")


async def dht(node: "Node") -> Check:
    """The public directory, at the level that uses it."""
    if node.reach is None or node.reach.level is not ReachLevel.INTERNET:
        return Check(name="dht", ok=True, result=tr('not used: the setting `reach` is not "internet"'))
    public = [r for r in node.reach.resolvers if r.is_public or hasattr(r, "is_ready")]
    if not public:
        return Check(
            name="dht",
            ok=False,
            result=tr("no public directory in this installation"),
            advice=tr('install coterie with it, or set `reach` to "circle"'),
            mend="config set reach circle",
        )
    said = [f"{r.name}: {_state(r)}" for r in public]
    said += [heard] if node.reach.knocker is not None and (heard := node.reach.knocker.describe()) else []
    is_well = not any(getattr(r, "problem", "") for r in public)
    advice = "" if is_well else tr("it needs UDP to the internet; computers you know are still found")
    return Check(name="dht", ok=is_well, result="; ".join(said), advice=advice)


def _state(resolver: Resolver) -> str:
    """What a resolver says of itself; those that say nothing work."""
    describe = getattr(resolver, "describe", None)
    return str(describe()) if describe is not None else getattr(resolver, "problem", "") or tr("works")


async def outside(node: "Node") -> Check:
    """Whether anybody elsewhere reaches this computer. It does not stand in the way at home, so it fails never."""
    await node.settled()
    await _settled(node)
    found = node.outside()
    result = msgspec.structs.replace(found, change="").text()
    advice = tr("what would change that: {change}", change=found.change) if found.change else ""
    return Check(name="outside", ok=True, result=result, advice=advice)


async def clock(node: "Node") -> Check:
    """Our clock beside those of peers: what they signed, and what their relays say."""
    await _settled(node)
    skews = {peer: s for peer, s in (node.reach.skews if node.reach else {}).items()}
    away = [
        url for url, peer in (node.relays.candidates if node.relays else {}).items() if peer != node.peer_id
    ]
    for url, theirs in zip(away, await asyncio.gather(*map(_clock_at, away)), strict=True):
        if theirs is not None and node.relays is not None:
            skews[node.relays.candidates.get(url, node.peer_id)] = theirs
    if not skews:
        said = tr("{now}; no computer to compare it with", now=time.strftime("%Y-%m-%d %H:%M:%S %Z"))
        return Check(name="clock", ok=True, result=said)
    ordered = sorted(skews.values())
    middle = ordered[len(ordered) // 2]
    if abs(middle) < CLOCK_GOOD_S:
        return Check(
            name="clock",
            ok=True,
            result=tr("agrees with {computers}", computers=count(len(skews), "computer")),
        )
    skew = {"skew": duration(abs(middle)), "computers": count(len(skews), "computer")}
    told = (
        tr("{skew} behind {computers}", **skew) if middle > 0 else tr("{skew} ahead of {computers}", **skew)
    )
    advice = tr("set this computer's clock (or theirs, if it is the one that is wrong)")
    return Check(name="clock", ok=abs(middle) < CLOCK_SKEW_S, result=told, advice=advice)


async def _clock_at(url: str) -> float | None:
    """Seconds that the clock of the relay at `url` is ahead of ours."""
    try:
        theirs = await clock_at_relay(url)
    except TransportError:
        return None
    return None if theirs is None else theirs - time.time()


# ---- this computer


async def disk(node: "Node", free: Free) -> Check:
    """Room for the index and for downloads."""
    unfinished = (await node.usage()).unfinished
    folders = dict.fromkeys([node.home, *(Path(path).parent for path in unfinished)])
    room = {folder: await asyncio.to_thread(free, folder) for folder in folders if folder.is_dir()}
    told = "; ".join(
        tr("{size} free for {folder}", size=say_bytes(size), folder=folder) for folder, size in room.items()
    )
    tightest = min(room.values())
    advice = tr("make room: `coterie usage`, `coterie gc`") if tightest < FREE_BYTES_LOW else ""
    return Check(
        name="disk",
        ok=tightest >= FREE_BYTES_MIN,
        result=told,
        advice=advice,
        mend="gc" if advice else "",
    )


async def database(node: "Node") -> Check:
    """Whether SQLite finds the content index sound."""
    path = node.home / "store.db"
    try:
        said = await asyncio.to_thread(_quick_check, path)
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Check(
            name="database", ok=True, result=tr("sound, {size}", size=say_bytes(path.stat().st_size))
        )
    if said == "interrupted":
        result = tr(
            "no fault found in the first {seconds:g} s; {size}",
            seconds=DATABASE_S,
            size=say_bytes(path.stat().st_size),
        )
        return Check(name="database", ok=True, result=result)
    advice = tr(
        "stop the node, move {path} away and share again; what was downloaded stays where it is", path=path
    )
    return Check(name="database", ok=False, result=tr("damaged: {fault}", fault=said), advice=advice)


def _quick_check(path: Path) -> str:
    until = time.monotonic() + DATABASE_S
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        db.set_progress_handler(lambda: int(time.monotonic() > until), _PAGES_PER_LOOK)
        return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            return "interrupted"
        raise
    finally:
        db.close()


# ---- shared


async def _settled(node: "Node") -> None:
    """A node that was just opened has not met its contacts yet: give it the time."""
    relays, endpoint = node.relays, node.endpoint
    if relays is None or endpoint is None or not (names := node.people.contacts()):
        return

    def has_met() -> bool:
        met = sum(c.peer in names for c in endpoint.connections)
        return met >= min(2, len(names)) and bool(relays.status().homes)

    await holds(has_met, SETTLE_S - min(SETTLE_S, node.status().uptime_s))


def _own(node: "Node") -> list[str]:
    return node.reach.own_addresses if node.reach else []


def _who(node: "Node", peer: object) -> str:
    if peer == node.peer_id:
        return tr("this node")
    return next((name for known, name in node.people.contacts().items() if known == peer), tr("a computer"))
