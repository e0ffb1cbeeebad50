"""The overlay service of a node: a distributed table, topics and searches, over the connections that it has anyway.

At the level `internet` all of it is open to everybody. At the smaller levels it is formed by people who know each
other, nobody is introduced to anybody by the table, and it sleeps until an app wants something of it.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from coterie.apps.context import Context, PeerNetwork
from coterie.apps.overlay.core import Discreet
from coterie.apps.overlay.lookups import Lookups
from coterie.apps.overlay.results import OverlayStatus, Provider, Stored, Value
from coterie.apps.overlay.searches import Searches, SearchHit
from coterie.apps.overlay.state import TableFile
from coterie.apps.overlay.status import describe
from coterie.apps.overlay.topic import Topic, TopicCalls, topic_id
from coterie.apps.overlay.traffic import Counting
from coterie.driver import NetDriver
from coterie.errors import LimitExceeded, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit
from coterie.overlay.broadcast import (
    Broadcast,
    CloseTopic,
    Delivered,
    NeighbourDown,
    NeighbourUp,
    OpenTopic,
    Publish,
)
from coterie.overlay.hyparview import HyParViewLimits
from coterie.overlay.kademlia.events import Bootstrap, Learned, SetServing, Withdraw
from coterie.overlay.kademlia.keys import content_key, plain_item, publisher_key, signed_item
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.machine import Kademlia
from coterie.overlay.kademlia.messages import KADEMLIA
from coterie.overlay.search.messages import SEARCH
from coterie.texts import tr
from coterie.wire.broadcast import PROTOCOL as BROADCAST
from coterie.wire.broadcast import Entry
from coterie.wire.record import PeerRecord, RecordRefused, is_address, is_relay, split_address

STREAM_IDLE_S = 30.0  # guess: a lookup asks a peer several times within seconds, and then not for long
TEND_EVERY_S = 30.0  # guess: how soon a new address or new contacts count
REJOIN_S = (
    3.0,
    10.0,
    30.0,
    60.0,
    120.0,
)  # measured: nodes that start together find empty tables at first, and a refresh takes 1 h
LONELY_EVERY_S = 300.0  # guess: with fewer than k contacts, so soon one more attempt
LONELY_MAX_S = 3600.0  # the refresh interval: twice as long after each attempt that found nobody new
SAVE_EVERY_S = 600.0  # guess: what a crash forgets of the table
PUBLIC_MAX = 1_024  # records of which it is remembered whether they are public: 2 MB; each answer names 20
NEIGHBOURS_MAX = HyParViewLimits().active_max
CONTACTS_MAX = 16  # peers through which a topic is joined at once; guess
LIFETIME_S = 48 * 3600  # of a signed record, renewed by its publisher every 24 h: `KademliaLimits.own_item_s`

log = logging.getLogger(__name__)

MayJoin = Callable[[PeerId], bool]


class OverlayService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(
        self,
        context: Context,
        *,
        limits: KademliaLimits | None = None,
        clock: Callable[[], float] = time.time,
        seed: bytes = b"",
    ) -> None:
        """`clock` gives unix seconds; a simulation passes its own, and a `seed` of what is random."""
        self._context = context
        self._limits = limits or KademliaLimits()
        self._clock = clock
        self._random = Random(seed or os.urandom(16))  # noqa: S311 - chooses peers and numbers of requests, makes no secret
        self._network: PeerNetwork | None = None
        self._table_file = TableFile(context.data.folder / "table")
        self._topics: dict[bytes, Topic] = {}
        self._may_join: dict[bytes, MayJoin] = {}
        self._drivers: list[NetDriver] = []
        self._dht: NetDriver | None = None
        self._gossip: NetDriver | None = None
        self._kademlia: Kademlia | None = None
        self._broadcast: Broadcast | None = None
        self._searches: Searches | None = None
        self._lookups = Lookups(self._feed_table)
        self._cores: dict[str, Counting] = {}
        self._serves = False
        self._known: tuple[PeerId, ...] = ()
        self._is_awake = False
        self._contacts_before = 0  # in the table when we last thought of joining again

    @property
    def is_public(self) -> bool:
        """Whether strangers take part."""
        return self._network is not None and self._network.level == "internet"

    # ---- life

    async def start(self) -> None:
        """Take part, when the node is on a network."""
        self._network = network = self._context.net.overlay
        if network is None:
            return
        self._start_table(network)
        self._start_topics(network)
        self._searches = Searches(self._context.me.peer_id, network, self._random)
        search = Counting(self._searches.core)
        self._cores["search"] = search
        driver = self._drive(search, SEARCH, self._searches.handlers)
        self._searches.start(driver)
        if self.is_public:
            self._wake()
        self._context.jobs.keep(self._tend, "tending the overlays")

    async def close(self) -> None:
        """Leave the topics and keep the table."""
        for topic in list(self._topics.values()):
            topic.close()
        if self._searches is not None:
            self._searches.close()
        if self._gossip is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gossip.flush(), 1.0)
        self._save()
        for driver in self._drivers:
            await driver.close()

    def _start_table(self, network: PeerNetwork) -> None:
        self._serves = network.is_reachable()
        self._kademlia = table = Kademlia(
            self._context.me.peer_id,
            self._random,
            limits=self._limits,
            serves=self._serves,
            state=self._table_file.load(),
            record_of=self._record_to_pass_on,
            network_of=self._network_of,
        )
        core = table if self.is_public else Discreet(table, lambda asker, about: asker == about)
        self._cores["kademlia"] = counting = Counting(core)
        handlers: dict[type, Callable[[Any], None]] = {
            Emit: lambda output: self._lookups.told(output.event),
            Learned: self._learned,
        }
        self._dht = self._drive(counting, KADEMLIA, handlers)

    def _start_topics(self, network: PeerNetwork) -> None:
        self._broadcast = core = Broadcast(
            self._context.me.peer_id,
            rng=self._random,
            sign=network.sign,
            is_record=self._is_record,
        )
        handlers: dict[type, Callable[[Any], None]] = {
            Delivered: self._delivered,
            NeighbourUp: self._neighbours_changed,
            NeighbourDown: self._neighbours_changed,
        }
        self._cores["broadcast"] = counting = Counting(core)
        self._gossip = self._drive(counting, BROADCAST, handlers, keeps=core.is_neighbour)

    def _drive(self, core: Any, protocol: Any, handlers: Any, **options: Any) -> NetDriver:
        assert self._network is not None  # noqa: S101  (called while starting)
        driver = NetDriver(
            core,
            self._network,
            protocol,
            on_output=handlers,
            addresses=self._addresses,
            strangers=self.is_public,
            stream_idle_s=STREAM_IDLE_S,
            clock=self._clock,
            **options,
        )
        self._drivers.append(driver)
        self._context.jobs.start(driver.wait_closed(), f"overlay {protocol.name}")
        return driver

    def _wake(self) -> None:
        """Begin, the first time that anything is wanted: until then a node among acquaintances talks to nobody."""
        if not self._is_awake and self._network is not None:
            self._is_awake = True
            self._begin()
            self._context.jobs.start(self._settle(), "joining the table")

    async def _settle(self) -> None:
        """Join again some times: those who were asked first may have known nobody yet."""
        for wait_s in REJOIN_S:
            await asyncio.sleep(wait_s)
            if self._has_grown():
                self._rejoin()
        wait_s = LONELY_EVERY_S
        while True:
            self._has_grown()
            self._rejoin()
            await asyncio.sleep(wait_s)
            wait_s = LONELY_EVERY_S if self._has_grown() else min(2 * wait_s, LONELY_MAX_S)

    def _has_grown(self) -> bool:
        """Whether the table has more contacts than when this was last asked, or none: it may yet grow."""
        contacts = len(self._kademlia.table) if self._kademlia is not None else 0
        before, self._contacts_before = self._contacts_before, contacts
        return contacts > before or not contacts

    def _rejoin(self) -> None:
        """Join the table again while it has few contacts: each of these lookups dials those whom it asks."""
        if self._kademlia is not None and len(self._kademlia.table) < self._limits.k:
            self._join_table()

    def _join_table(self) -> None:
        if self._network is not None:
            self._feed_table(Bootstrap(tuple(self._network.known())[: self._limits.bootstrap_max]))

    def _begin(self) -> None:
        """Join through whomever the node knows."""
        self._join_table()
        self._join_searches()

    def _begin_again(self) -> None:
        """Somebody is known who was not. Where there are enough others nothing is gained: a newcomer's question
        costs somebody a neighbour."""
        self._rejoin()
        assert self._searches is not None  # noqa: S101  (called when started)
        if len(self._neighbours_in(self._searches.topic)) < NEIGHBOURS_MAX:
            self._join_searches()

    def _join_searches(self) -> None:
        assert self._network is not None  # noqa: S101  (called when started)
        assert self._searches is not None  # noqa: S101
        self._known = tuple(self._network.known())
        self._feed_topics(
            OpenTopic(
                self._searches.topic, self._entries(self._known), self._network.record(), self._who_may(None)
            )
        )

    async def _tend(self) -> None:
        """Follow what changes: addresses, contacts, whether we can be reached; keep the table."""
        loop = asyncio.get_running_loop()
        saved_at = loop.time()
        while self._network is not None:
            await asyncio.sleep(TEND_EVERY_S)
            if (serves := self._network.is_reachable()) != self._serves:
                self._serves = serves
                self._feed_table(SetServing(serves))
            if self._is_awake and any(peer not in self._known for peer in self._network.known()):
                self._begin_again()
            for id_, may_join in self._may_join.items():
                self._feed_topics(OpenTopic(id_, (), self._network.record(), may_join))
            if loop.time() - saved_at >= SAVE_EVERY_S:
                saved_at = loop.time()
                await asyncio.to_thread(self._table_file.save, self._state())

    def _save(self) -> None:
        if self._kademlia is not None:
            self._table_file.save(self._state())

    def _state(self) -> bytes:
        return self._kademlia.export_state() if self._kademlia is not None else b""

    # ---- the table

    async def provide(self, key: bytes) -> Stored:
        """Let others find this node under `key` (any bytes; those who keep it learn only a hash), until `withdraw`.

        Raises:
            TransportError: offline, or there is nobody to tell.
        """
        finished = await self._table.provide(content_key(key))
        return Stored(finished.key.hex(), finished.stored)

    def withdraw(self, key: bytes) -> None:
        """Announce `key` no longer; what others keep of it expires within three hours."""
        self._feed_table(Withdraw(content_key(key)))

    async def find_providers(self, key: bytes) -> AsyncGenerator[Provider, None]:
        """Who provides `key`, each once, with addresses, as they are found. Anybody can say that they do.

        Raises:
            TransportError: offline, or there is nobody to ask.
        """
        async for peer in self._table.providers(content_key(key)):
            if peer != self._context.me.peer_id:
                yield Provider(str(peer), list(self._addresses(peer)))

    async def put(self, value: bytes, *, salt: bytes | None = None) -> Stored:
        """Store up to 1,000 bytes for everybody who asks for their key; it is stored again while this node runs.

        Args:
            value: the bytes.
            salt: None for an immutable value, found by its own hash. Else a record of ours under that name, which
                replaces the one before.

        Raises:
            UsageError: too long.
            TransportError: offline, or nobody took it.
        """
        table = self._table
        if salt is None:
            item = plain_item(value)
        else:
            now = self._clock()
            item = signed_item(
                _Signer(self._context.me.peer_id, self._network),
                value,
                sequence=int(1000 * now),
                expires=int(now + LIFETIME_S),
                salt=salt,
            )
        finished = await table.put(item)
        if not finished.stored:
            raise TransportError(tr("nobody took it: connect to other nodes first"))
        return Stored(item.key.hex(), finished.stored)

    async def get(self, key: bytes) -> Value:
        """What stands under the 32 bytes that `put` gave as `key`; of signed records the newest.

        Raises:
            NotFound: nobody who was asked has it.
            TransportError: offline, or there is nobody to ask.
        """
        item = await self._table.get(key)
        return Value(item.value, str(item.publisher or ""), item.sequence)

    async def get_of(self, publisher: PeerId, salt: bytes) -> Value:
        """The newest record that `publisher` put under `salt`. Raises as `get`."""
        return await self.get(publisher_key(publisher, salt))

    # ---- topics

    def topic(self, name: str, *, peers: Sequence[PeerId] = (), may_join: MayJoin | None = None) -> Topic:
        """Take part in a topic, through `peers`, or those that this node knows.

        Args:
            name: who has the same one is in the same topic.
            peers: members to begin with.
            may_join: who may be a member or say anything here. None: everybody at the level `internet`, else who is
                known to this node. Who is not known has no way in below the level `internet`, whatever this says.

        Raises:
            UsageError: no such name, or the topic is open here already.
            TransportError: offline.
            LimitExceeded: too many topics.
        """
        if self._network is None or self._broadcast is None:
            raise TransportError(tr("this node is offline"))
        id_ = topic_id(name)
        if id_ in self._topics:
            raise UsageError(tr("this node takes part in the topic {name} already", name=name))
        if len(self._broadcast.topics) >= self._broadcast.topics_max:
            raise LimitExceeded(
                tr("{topics_max} topics are open (topics_max)", topics_max=self._broadcast.topics_max)
            )
        calls = TopicCalls(self._publish, self._join, self._leave, self._neighbours_in)
        self._topics[id_] = topic = Topic(name, id_, calls)
        self._may_join[id_] = self._who_may(may_join)
        self._join(id_, peers or self._network.known())
        return topic

    def _who_may(self, may_join: MayJoin | None) -> MayJoin:
        assert self._network is not None  # noqa: S101  (only topics of a node on a network ask)
        is_known = self._network.is_known
        if self.is_public:
            return may_join or (lambda peer: True)
        return is_known if may_join is None else (lambda peer: is_known(peer) and may_join(peer))

    def _publish(self, id_: bytes, payload: bytes) -> None:
        self._feed_topics(Publish(id_, payload))

    def _join(self, id_: bytes, peers: Sequence[PeerId]) -> None:
        if self._network is not None:
            record = self._network.record()
            self._feed_topics(OpenTopic(id_, self._entries(peers), record, self._may_join[id_]))

    def _leave(self, id_: bytes) -> None:
        del self._topics[id_], self._may_join[id_]
        self._feed_topics(CloseTopic(id_))

    def _neighbours_in(self, id_: bytes) -> list[PeerId]:
        if self._broadcast is None or id_ not in self._broadcast.topics:
            return []
        return self._broadcast.membership(id_).active

    def _delivered(self, output: Delivered) -> None:
        if (topic := self._topics.get(output.topic)) is not None:
            topic.deliver(output.author, output.payload)

    def _neighbours_changed(self, output: NeighbourUp | NeighbourDown) -> None:
        if self._searches is not None and output.topic == self._searches.topic:
            self._searches.set_neighbours(self._neighbours_in(output.topic))

    # ---- searches

    def search(
        self, kind: str, query: bytes, *, wanted: int = 1, deadline_s: float = 30.0
    ) -> AsyncIterator[SearchHit]:
        """Ask nodes here and there; yields the answers as they come, up to `wanted`. Closing it cancels the search.

        Args:
            kind: which app is to answer, as it said in `answer`.
            query: up to 512 bytes, for that app.
            wanted: how many answering nodes are enough.
            deadline_s: when to give up.

        Raises:
            TransportError: offline, or there are no neighbours to ask.
            LimitExceeded: too many searches at once.
        """
        if self._searches is None:
            raise TransportError(tr("this node is offline"))
        self._wake()
        return self._searches.search(kind, query, wanted=wanted, deadline_s=deadline_s)

    def answer(self, kind: str, function: Callable[[bytes], Sequence[bytes]] | None) -> None:
        """Answer searches of that kind by `function(query) -> items`; it must be quick. None: no longer.

        What it returns is told to whoever asks: at the level `internet` to strangers.
        """
        if self._searches is not None:
            self._wake()
            self._searches.answer(kind, function)

    # ---- looking

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        if self._kademlia is None or self._broadcast is None:
            return {}
        return {"computers in the table": self._kademlia.snapshot().contacts, "topics": len(self._topics)}

    def describe(self) -> OverlayStatus:
        """Everything, for `coterie overlay`. Raises TransportError while offline."""
        if self._kademlia is None or self._broadcast is None or self._network is None:
            raise TransportError(tr("this node is offline: it has no overlays"))
        names = {id_: topic.name for id_, topic in self._topics.items()}
        if self._searches is not None:
            names[self._searches.topic] = "(search)"
        traffic = {name: (core.sent, core.received) for name, core in self._cores.items()}
        return describe(
            self._kademlia.snapshot(),
            self._broadcast,
            names,
            traffic=traffic,
            level=self._network.level,
            is_public=self.is_public,
            now=self._clock(),
        )

    # ---- for the drivers

    @property
    def _table(self) -> Lookups:
        if self._dht is None:
            raise TransportError(tr("this node is offline"))
        self._wake()
        return self._lookups

    def _feed_table(self, event: Any) -> None:
        if self._dht is not None:
            self._dht.feed(event)

    def _feed_topics(self, event: Any) -> None:
        if self._gossip is not None:
            self._gossip.feed(event)

    def _learned(self, output: Learned) -> None:
        if self._network is not None:
            self._network.learn(output.record)

    def _addresses(self, peer: PeerId) -> Sequence[str]:
        """What the address book says, and what came with the peer in a topic."""
        if self._network is None:
            return ()
        if self._broadcast is not None and (record := self._broadcast.record_of(peer)):
            self._network.learn(record)
        return self._network.addresses_of(peer)

    def _entries(self, peers: Sequence[PeerId]) -> tuple[Entry, ...]:
        network = self._network
        chosen = [p for p in peers if p != self._context.me.peer_id][:CONTACTS_MAX]
        return tuple(Entry(peer, network.record_of(peer) if network else b"") for peer in chosen)

    def _record_to_pass_on(self, peer: PeerId) -> bytes:
        """Ours as others may have it; of others what they gave, which at the level `internet` has no private parts."""
        if self._network is None:
            return b""
        if peer == self._context.me.peer_id:
            return self._network.record()
        record = self._network.record_of(peer)
        return record if not self.is_public or _is_public(record) else b""

    def _is_record(self, peer: PeerId, raw: bytes) -> bool:
        try:
            return PeerRecord.open(raw, self._clock()).peer == peer
        except RecordRefused:
            return False

    def _network_of(self, peer: PeerId) -> str | None:
        for address in self._addresses(peer):
            if is_address(address) and not is_relay(address):
                ip = split_address(address)[0]
                if ip.is_global:
                    return str(ip).rpartition(".")[0] if ip.version == 4 else ip.exploded[:14]
        return None


class _Signer:
    """Signs for the table through the network of the node."""

    def __init__(self, peer_id: PeerId, network: PeerNetwork | None) -> None:
        self.peer_id = peer_id
        self._network = network

    def sign(self, message: bytes) -> bytes:
        assert self._network is not None  # noqa: S101  (only a running table signs)
        return self._network.sign(message)


@lru_cache(maxsize=PUBLIC_MAX)
def _is_public(raw: bytes) -> bool:
    """Whether a record names nobody and no private network; on this machine's loopback there is nothing to hide."""
    if not raw:
        return False
    record = PeerRecord.read(raw)
    direct = [split_address(a)[0] for a in record.addresses if is_address(a) and not is_relay(a)]
    if all(ip.is_loopback for ip in direct):
        return True
    return not record.name and all(ip.is_global for ip in direct)
