"""Random histories of mail in the simulator: the real cores and the real store (in memory), a faulty network, liars.

anna writes to ben, to the first of ben's two computers, and ben writes back; they meet for seconds at a time. Each may
die before or after each commit. Mallory sees everything, brings it again when it likes, and forges receipts; ben signs
receipts for letters that it has not opened.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec
from blake3 import blake3

from coterie.errors import PeerError, StorageError
from coterie.identity import PeerId, SecretKey
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.services.mail.core import MailCore
from coterie.services.mail.events import Answer, Answered, Arrived, Dial, Ended, Post, Transmit
from coterie.services.mail.messages import Envelope, Letter, Outcome, Receipt
from coterie.services.mail.sealing import Opened, Seals, digest
from coterie.services.mail.store import MailStore
from coterie.sim.links import Link
from coterie.sim.world import World

KEYS = {name: SecretKey(name.encode().ljust(32, b".")) for name in ("anna", "ben", "ben2", "mallory")}
ANNA, BEN, BEN2, MALLORY = (key.peer_id for key in KEYS.values())
SECRETS = {key.peer_id: key.seed for key in KEYS.values()}
LASTS_S = 100_000
SPOKEN = (Answer, CancelTimer, Dial, Emit, SetTimer, Transmit)


class QuickSeals:
    """As `Seals`, by keyed hashes in the place of signatures, which takes a twentieth of the time."""

    def __init__(self, key: SecretKey) -> None:
        self.peer_id = key.peer_id

    def seal(self, letter: Letter, addressee: PeerId, id_: bytes, expires: int) -> Envelope:
        packed = msgspec.msgpack.encode(letter)
        mark = _mark(self.peer_id, bytes(addressee), id_, str(expires).encode(), packed)
        return Envelope(bytes(addressee), id_, expires, bytes(self.peer_id) + mark + packed)

    def open(self, envelope: Envelope) -> Opened:
        if envelope.addressee != self.peer_id:
            raise PeerError("a letter for another computer")
        sender, mark, packed = PeerId(envelope.sealed[:32]), envelope.sealed[32:64], envelope.sealed[64:]
        if mark != _mark(sender, envelope.addressee, envelope.id, str(envelope.expires).encode(), packed):
            raise PeerError("a forged letter")
        letter = msgspec.msgpack.decode(packed, type=Letter)
        return Opened(sender=sender, id=envelope.id, expires=envelope.expires, letter=letter)

    def receipt(self, opened: Opened, outcome: Outcome) -> Receipt:
        unsigned = Receipt(
            bytes(self.peer_id),
            bytes(opened.sender),
            opened.id,
            outcome,
            opened.letter.attempt,
            digest(opened.letter.body),
            bytes(64),
        )
        return msgspec.structs.replace(unsigned, signature=_receipt_mark(unsigned))

    def is_sound(self, receipt: Receipt) -> bool:
        return receipt.sender == self.peer_id and receipt.signature == _receipt_mark(receipt)


def _mark(peer: bytes, *parts: bytes) -> bytes:
    return blake3(b"|".join(parts), key=SECRETS[PeerId(peer)]).digest()


def _receipt_mark(receipt: Receipt) -> bytes:
    unsigned = msgspec.structs.replace(receipt, signature=bytes(64))
    return _mark(receipt.addressee, msgspec.msgpack.encode(unsigned)) + bytes(32)


@dataclass
class Disk:
    """What outlives a crash, and how likely one is."""

    name: PeerId
    seals: Any
    store: MailStore
    random: Random
    dies: float
    fails: float
    lies: float
    die: Callable[[PeerId], None]


class Station:
    """What `box.py` and `room.py` do, in virtual time: a core, its disk, its seals."""

    def __init__(self, random: Random, disk: Disk, world: World) -> None:
        self.disk = disk
        self.is_dead = False
        self.core = MailCore(random)
        self._first = self.core.load(*disk.store.load(), world.now)

    def handle(self, event: Any, now: float) -> list[Any]:
        outputs, self._first = self._first, []
        for given in self._given(event):
            outputs += self.core.handle(given, now)
        said: list[Any] = []
        while outputs and not self.is_dead:
            spoken, handled = self._commit(outputs, now)
            said += [one for output in spoken for one in self._speak(output)]
            outputs = [o for given in handled for o in self.core.handle(given, now)]
        return said

    def _given(self, event: Any) -> list[Any]:
        if self.is_dead:
            return []
        match event:
            case Received(peer, Envelope() as envelope):
                try:
                    return [Arrived(PeerId(peer), self.disk.seals.open(envelope))]
                except PeerError:
                    return []
            case Received(peer, Receipt() as receipt):
                return [Answered(PeerId(peer), receipt)] if self.disk.seals.is_sound(receipt) else []
            case Post() | PeerUp() | PeerDown() | TimerFired():
                return [event]
        return []

    def _commit(self, outputs: list[Any], now: float) -> tuple[list[Any], list[Any]]:
        writes = [o for o in outputs if not isinstance(o, SPOKEN)]
        handled: list[Any] = []
        if writes:
            if self._dies():
                return [], []
            handled = list(self.disk.store.commit(writes, self._take))
            if self._dies():
                return [], []
        return [o for o in outputs if isinstance(o, SPOKEN)], handled

    def _dies(self) -> bool:
        self.is_dead = self.disk.random.random() < self.disk.dies
        if self.is_dead:
            self.disk.die(self.disk.name)
        return self.is_dead

    def _take(self, opened: Opened, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS got (n INTEGER PRIMARY KEY, stream TEXT, body BLOB)")
        db.execute("INSERT INTO got (stream, body) VALUES (?, ?)", (opened.letter.stream, opened.letter.body))
        if self.disk.random.random() < self.disk.fails:
            raise ValueError("the app fails")

    def _speak(self, output: Any) -> list[Any]:
        seals = self.disk.seals
        match output:
            case Answer(bringer, opened, outcome):
                receipt = seals.receipt(opened, outcome)
                said = [Send(bringer, receipt), Send(MALLORY, receipt)]
                if self.disk.random.random() < self.disk.lies:
                    unread = replace(opened, letter=msgspec.structs.replace(opened.letter, body=b"not read"))
                    said.append(Send(bringer, seals.receipt(unread, Outcome.TAKEN)))
                return said
            case Transmit(letter, head):
                body = self.disk.store.body(letter.id, letter.addressee)
                whole = msgspec.structs.replace(head, app="app", body=body)
                envelope = seals.seal(whole, letter.addressee, letter.id, letter.expires)
                return [Send(letter.addressee, envelope), Send(MALLORY, envelope)]
            case Dial():
                return []
        return [output]


class Mallory:
    """Sees copies of everything, brings them again, and forges."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._seen: list[Any] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        if isinstance(event, Received):
            self._seen.append(event.message)
            return [] if len(self._seen) > 1 else [SetTimer("act", now + 1)]
        if not isinstance(event, TimerFired):
            return []
        seen = self._random.choice(self._seen)
        to = PeerId(seen.sender if isinstance(seen, Receipt) else seen.addressee)
        outputs: list[Any] = [SetTimer("act", now + 3 * self._random.random()), Send(to, seen)]
        if isinstance(seen, Receipt):
            other = self._random.choice(self._seen)
            outputs.append(
                Send(
                    to, msgspec.structs.replace(seen, id=other.id, outcome=self._random.choice(list(Outcome)))
                )
            )
        else:
            outputs.append(Send(to, msgspec.structs.replace(seen, expires=seen.expires + LASTS_S)))
            outputs.append(
                Send(
                    ANNA,
                    Receipt(seen.addressee, bytes(ANNA), seen.id, Outcome.TAKEN, 0, bytes(32), bytes(64)),
                )
            )
        return outputs


@dataclass
class History:
    """One history. `posted`: bodies by (sender, stream) in order; `kept`: those to which the box said yes."""

    world: World
    disks: dict[PeerId, Disk]
    posted: dict[tuple[PeerId, str], list[bytes]] = field(default_factory=dict)
    ids: dict[bytes, bytes] = field(default_factory=dict)

    def post(
        self, sender: PeerId, addressees: tuple[PeerId, ...], stream: str, *, lasts_s: float = LASTS_S
    ) -> bytes:
        """One letter, given to the core now if it runs; its body."""
        letters = self.posted.setdefault((sender, stream), [])
        body = f"{stream} {len(self.ids)}".encode()
        id_ = blake3(body).digest(length=16)
        self.ids[id_] = body
        letters.append(body)
        is_ordered = not stream.startswith("unordered")
        expires = int(self.world.now + lasts_s)
        first = len(addressees) > 1
        self.world.feed(sender, Post(id_, addressees, stream, is_ordered, first, expires, body, digest(body)))
        return body

    def kept(self) -> set[bytes]:
        """The bodies of all letters to which a box said yes."""
        said = [e for _, _, e in self.world.emitted if type(e).__name__ == "Posted"]
        assert not any(e.refused for e in said)
        return {self.ids[e.id] for e in said}

    def ended(self) -> list[Ended]:
        """What the senders were told."""
        return [e for _, _, e in self.world.emitted if isinstance(e, Ended)]

    def got(self, name: PeerId, stream: str) -> list[bytes]:
        """What the app of `name` has, in the order in which it came."""
        with contextlib.suppress(StorageError):  # no table yet
            return self.disks[name].store.run(
                lambda db: [
                    r[0] for r in db.execute("SELECT body FROM got WHERE stream = ? ORDER BY n", (stream,))
                ]
            )
        return []

    def waiting(self) -> int:
        """Letters on all disks."""
        count = "SELECT count(*) FROM mail_letters"
        return sum(disk.store.run(lambda db: db.execute(count).fetchone()[0]) for disk in self.disks.values())

    def is_over(self) -> bool:
        """Nothing waits."""
        return all(self.world.is_up(name) for name in self.disks) and not self.waiting()


def begin(seed: int, *, real_seals: bool = False, **chances: float) -> History:
    """A world with all four. `chances`: dies, fails, lies; `loss` of the network."""
    random = Random(f"{seed}/mail")
    loss = chances.get("loss", 0.3)
    world = World(
        seed,
        link=Link(
            latency=lambda a, b, r: 0.02 + 0.1 * r.random(), loss=loss, duplication=0.1, reordering=0.1
        ),
    )

    def die(name: PeerId) -> None:
        world.schedule(world.now, lambda: world.crash(name) if world.is_up(name) else None)
        world.schedule(
            world.now + 1 + 5 * random.random(),
            lambda: None if world.is_up(name) else world.restart(name),
        )

    history = History(world, {})
    for key in list(KEYS.values())[:3]:
        disk = history.disks[key.peer_id] = Disk(
            key.peer_id,
            Seals(key) if real_seals else QuickSeals(key),
            MailStore(None),
            random,
            chances.get("dies", 0.02),
            chances.get("fails", 0.1),
            chances.get("lies", 0.1),
            die,
        )
        world.add(key.peer_id, lambda r, d=disk: Station(r, d, world))  # type: ignore[misc]
    world.add(MALLORY, Mallory)
    return history


def meet_for_seconds(history: History, until: float) -> None:
    """anna meets each of ben's computers for seconds at a time; parts of the network are cut; nodes crash."""
    world, random = history.world, next(iter(history.disks.values())).random

    def meet(other: PeerId) -> None:
        world.connect(ANNA, other)
        world.schedule(world.now + 1 + 4 * random.random(), lambda: world.disconnect(ANNA, other))

    for other in (BEN, BEN2):
        at = 20 * random.random()
        while at < until:
            world.schedule(at, lambda other=other: meet(other))  # type: ignore[misc]
            at += 10 + 30 * random.random()
    cut = until * random.random()
    world.schedule(cut, lambda: world.partition([ANNA], [BEN, BEN2, MALLORY]))
    world.schedule(cut + 20, world.heal)

    def calm() -> None:
        for disk in history.disks.values():
            disk.dies = 0.0
        world.connect(ANNA, BEN)
        world.connect(ANNA, BEN2)

    world.schedule(max(until, cut + 20) + 6, calm)
