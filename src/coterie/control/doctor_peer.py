"""The checks of `coterie doctor PEER`: every step of connecting to one peer, with its result and what to do."""

import asyncio
import functools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coterie.control.doctor import Check, Probe, holds
from coterie.errors import CoterieError, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.find.reaching import places
from coterie.net.find.resolver import Resolver
from coterie.net.relay.probe import probe_relay
from coterie.quantity import count, duration
from coterie.texts import tr, tr_count
from coterie.which_one import the_one
from coterie.wire.record import is_relay

if TYPE_CHECKING:
    from coterie.net import Connection
    from coterie.node import Node

ADDRESSES_MAX = 8  # tried one by one, all at the same time
ADDRESS_S = 3.0  # a QUIC handshake takes two round trips
RESOLVER_S = 3.0
DIRECT_S = 2.0  # measured: hole punching takes below a second where it can work


@dataclass(slots=True)
class Peer:
    """Who is asked about, and what the steps found: later ones use it."""

    peer: PeerId
    name: str
    is_contact: bool
    outcome: "asyncio.Future[Connection | CoterieError]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    answered: dict[str, float] = field(default_factory=dict)


def find_peer(node: "Node", text: str) -> Peer:
    """The peer whose name here, or whose id (a beginning will do), is `text`.

    Raises:
        NotFound: nobody known has it.
        UsageError: several have.
    """
    try:
        peer = node.people.find(text)
    except NotFound:
        pass
    else:
        return Peer(peer, node.people.name_of(peer), node.people.standing(peer).contact)
    lines = [p for p in node.peers() if p.name == text or PeerId.parse(p.peer).matches(text)]
    nothing = tr(
        "'{text}' is nobody known here: `coterie peers` lists who is; `coterie invite` makes two "
        "computers know each other; an unknown computer needs its whole id",
        text=text,
    )
    line = the_one(text, [(line.peer, line) for line in lines], nothing)
    return Peer(PeerId.parse(line.peer), line.name or line.short, False)


def peer_checks(node: "Node", who: Peer) -> list[tuple[str, Probe]]:
    """Every step, in the order in which they are told. They run at the same time."""
    reach = node.reach
    if reach is None:
        return [("network", _offline)]
    if node.people.standing(who.peer).blocked:
        return [("blocked", functools.partial(blocked, node, who))]
    checks: list[tuple[str, Probe]] = [
        ("known", functools.partial(known, node, who)),
        ("record", functools.partial(record, node, who)),
    ]
    checks += [("resolver", functools.partial(resolver, node, who, r)) for r in reach.resolvers]
    places = _places(node, who)
    direct = [a for a in places if not is_relay(a)][:ADDRESSES_MAX]
    checks += [("address", functools.partial(address, node, who, a)) for a in direct]
    checks += [("relay", functools.partial(relay, node, who, a)) for a in places if is_relay(a)]
    checks.append(("connection", functools.partial(connection, node, who)))
    checks.append(("path", functools.partial(path, node, who)))
    return checks


async def _offline() -> Check:
    return Check(
        name="network", ok=False, result=tr("this node is offline"), advice=tr("start it: `coterie up`")
    )


async def blocked(node: "Node", who: Peer) -> Check:
    """Why nothing here speaks with it, nor looks where it is."""
    advice = tr("if that is wrong: `coterie unblock {short}`", short=who.peer.short)
    return Check(
        name="blocked",
        ok=False,
        result=node.people.standing(who.peer).blocked,
        advice=advice,
        mend=f"unblock {who.peer.short}",
    )


async def known(node: "Node", who: Peer) -> Check:
    """Contact, seen before, or nobody."""
    said = f"{who.name} ({who.peer.short})"
    if who.peer == node.peer_id:
        return Check(
            name="known",
            ok=False,
            result=tr("{said} is this node itself", said=said),
            advice=tr("name another computer"),
        )
    if who.is_contact:
        return Check(name="known", ok=True, result=tr("{said} is a contact", said=said))
    entry = node.reach.book.entry(who.peer) if node.reach else None
    if entry is not None and node.reach is not None:
        ago = duration(max(0.0, node.reach.now - entry.heard_at))
        advice = tr(
            "no contact: relays do not serve you both, and its contacts are not asked; `coterie invite`"
        )
        return Check(
            name="known",
            ok=True,
            result=tr("{said}, heard of {ago} ago ({source})", said=said, ago=ago, source=entry.source),
            advice=advice,
        )
    advice = tr("get a ticket from it, or let it join: `coterie invite`")
    return Check(name="known", ok=True, result=tr("{said} was never heard of", said=said), advice=advice)


async def record(node: "Node", who: Peer) -> Check:
    """Its newest signed record, and how old that is."""
    if node.reach is None:
        return await _offline()
    entry, now = node.reach.book.entry(who.peer), node.reach.now
    if entry is None or not entry.sequence:
        advice = (
            ""
            if _places(node, who)
            else tr("nothing says where it is: get a ticket from it, or `coterie join` it")
        )
        return Check(name="record", ok=bool(_places(node, who)), result=tr("none"), advice=advice)
    current = node.reach.book.record(who.peer, now)
    if current is None:
        advice = tr(
            "it was off, or on another network, for a day or longer; it tells a new one when it is back"
        )
        return Check(name="record", ok=False, result=tr("expired"), advice=advice)
    age = duration(max(0.0, now - current.issued))
    direct = tr_count("{number} address", "{number} addresses", len(current.direct))
    places = f"{direct}, {count(len(current.relays), 'relay')}"
    return Check(name="record", ok=True, result=tr("signed {age} ago: {places}", age=age, places=places))


async def resolver(node: "Node", who: Peer, asked: Resolver) -> Check:
    """What one resolver says. Not to find a peer is no fault: one way is enough."""
    found = 0
    try:
        async with asyncio.timeout(RESOLVER_S):
            async for raw in asked.resolve(who.peer):
                if node.reach is not None and node.reach.learn(raw, asked.name) == who.peer:
                    found += 1
                    break
    except TimeoutError:
        pass
    except (TransportError, PeerError, OSError) as error:
        return Check(name="resolver", ok=True, result=f"{asked.name}: {error}")
    problem = getattr(asked, "problem", "")
    said = tr("has its record") if found else problem or tr("does not know it")
    return Check(name="resolver", ok=True, result=f"{asked.name}: {said}")


async def address(node: "Node", who: Peer, at: str) -> Check:
    """Whether the peer itself answers at one address: a handshake from a port and a key of its own.

    Not to answer is no fault as long as the peer is reached otherwise.
    """
    from coterie.net.quic.transport import QuicTransport

    loop = asyncio.get_running_loop()
    transport = await QuicTransport.bind(SecretKey(os.urandom(32)), bind_ip=node.config.bind)
    begun = loop.time()
    try:
        async with asyncio.timeout(ADDRESS_S):
            raw = await transport.connect(who.peer, [at])
        took_s = loop.time() - begun
        raw.close(0, "")
    except (TimeoutError, TransportError, PeerError) as error:
        is_silent = isinstance(error, TimeoutError) or "did not answer" in str(error)
        said = tr("no answer within {seconds:g} s", seconds=ADDRESS_S) if is_silent else str(error)
        return await _silent_address(node, who, at, said)
    finally:
        await transport.close()
    who.answered[at] = took_s
    return Check(name="address", ok=True, result=tr("{at} answers in {ms:.0f} ms", at=at, ms=took_s * 1000))


async def _silent_address(node: "Node", who: Peer, at: str, said: str) -> Check:
    """It stands in the way only if nothing else leads there."""
    outcome = await asyncio.shield(who.outcome)
    reached = not isinstance(outcome, CoterieError)
    if "somebody else" in said:
        advice = "" if reached else tr("another computer has this address now: the one asked for moved")
    else:
        advice = "" if reached else tr("it is off, moved, or behind a firewall that lets nobody in")
    return Check(name="address", ok=reached, result=f"{at}: {said}", advice=advice)


async def relay(node: "Node", who: Peer, url: str) -> Check:
    """Whether a relay where the peer says it listens is there."""
    try:
        rtt_s = await probe_relay(url)
    except TransportError as error:
        outcome = await asyncio.shield(who.outcome)
        advice = tr("who runs it may be away; that computer chooses another one when it notices")
        return Check(name="relay", ok=not isinstance(outcome, CoterieError), result=str(error), advice=advice)
    return Check(name="relay", ok=True, result=tr("{url} answers in {ms:.1f} ms", url=url, ms=rtt_s * 1000))


async def connection(node: "Node", who: Peer) -> Check:
    """The connection itself, with the handshake of our protocol."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    before = node.endpoint.connections if node.endpoint is not None else []
    was_there = any(c.peer == who.peer for c in before)
    try:
        live = await node.connect(who.peer)
    except CoterieError as error:
        who.outcome.set_result(error)
        said = node.people.in_names(str(error))
        return Check(name="connection", ok=False, result=said, advice=_advice(error, who))
    except asyncio.CancelledError:
        who.outcome.set_result(TransportError(tr("not tried to the end")))
        raise
    who.outcome.set_result(live)
    said = (
        tr("was there already") if was_there else tr("made in {ms:.0f} ms", ms=(loop.time() - begun) * 1000)
    )
    return Check(name="connection", ok=True, result=tr("{said}; the handshake is right", said=said))


def _advice(error: CoterieError, who: Peer) -> str:
    if isinstance(error, PeerError):
        return tr("it is there and refuses: compare the versions of coterie, and whether it knows you")
    if isinstance(error, UsageError):
        return ""
    if who.answered:
        return tr("an address answers and the node does not: is another program of that key running there?")
    return tr(
        "is {name} on and in the network? `coterie doctor` there says more; here it may be `udp` above",
        name=who.name,
    )


async def path(node: "Node", who: Peer) -> Check:
    """Direct, or through a relay and why."""
    live = await asyncio.shield(who.outcome)
    if isinstance(live, CoterieError):
        return Check(name="path", ok=False, result=tr("none"))
    was_relayed = live.path.kind == "relay"
    await holds(lambda: live.path.kind != "relay", DIRECT_S)
    now = live.path
    rtt = f", {now.rtt_s * 1000:.1f} ms" if now.rtt_s is not None else ""
    if now.kind != "relay":
        told = tr("{kind} to {remote}{rtt}", kind=now.kind, remote=now.remote, rtt=rtt)
        punched = "; " + tr("hole punching worked") if was_relayed else ""
        return Check(name="path", ok=True, result=f"{told}{punched}")
    advice = tr(
        "slower than direct; hole punching has not worked: `coterie doctor` on both sides names the kind of NAT; "
        "forwarding a UDP port in one router is enough"
    )
    return Check(
        name="path",
        ok=True,
        result=tr("through the relay {remote}{rtt}", remote=now.remote, rtt=rtt),
        advice=advice,
    )


def _places(node: "Node", who: Peer) -> list[str]:
    """Addresses and relays to try, best first."""
    if node.reach is None or node.endpoint is None:
        return []
    hints = node.people.addresses(who.peer)
    return places(node.endpoint, node.reach.book, who.peer, now=node.reach.now, hints=hints)[0]
