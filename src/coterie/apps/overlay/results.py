"""What the commands of `overlay` return, and what its service gives other apps: plain values."""

from collections.abc import Iterator

import msgspec

from coterie.quantity import count
from coterie.texts import tr_count


class Provider(msgspec.Struct, frozen=True):
    """Somebody who says that they provide what was looked for, and where they may be dialled."""

    peer: str
    addresses: list[str]

    def text(self) -> str:
        """For people: one line."""
        return f"{self.peer}  {', '.join(self.addresses) or 'no known address'}"


class Stored(msgspec.Struct, frozen=True):
    """What was announced or stored, under which key (hexadecimal), and how many nodes took it."""

    key: str
    holders: int

    def text(self) -> str:
        """For people."""
        return tr_count(
            "{number} node keeps it, under {key}",
            "{number} nodes keep it, under {key}",
            self.holders,
            key=self.key,
        )


class Value(msgspec.Struct, frozen=True):
    """What stands under a key. `publisher` is empty for an immutable value; `sequence` grows with each newer one."""

    value: bytes
    publisher: str = ""
    sequence: int = 0


class LookupLine(msgspec.Struct, frozen=True):
    """A lookup in progress."""

    kind: str
    key: str
    asked: int
    answers: int
    failures: int
    for_s: float


class BucketLine(msgspec.Struct, frozen=True):
    """A bucket: how many leading bits its contacts share with us, how many are failing, their median round trip."""

    bits: int
    contacts: int
    waiting: int
    failing: int
    rtt_ms: float


class TopicLine(msgspec.Struct, frozen=True, kw_only=True):
    """A topic that this node takes part in, its views and links, and what has happened in it."""

    name: str
    active: list[str]
    passive: int
    eager: int
    lazy: int
    held: int
    held_bytes: int
    missing: int
    counters: dict[str, int]


class ProtocolLine(msgspec.Struct, frozen=True):
    """Messages of one protocol since the start."""

    protocol: str
    sent: int
    received: int


class OverlayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Views, table, lookups in progress, traffic and counters."""

    level: str
    serves: bool
    is_public: bool
    contacts: int
    items: int
    provider_records: int
    own: int
    buckets: list[BucketLine]
    lookups: list[LookupLine]
    topics: list[TopicLine]
    traffic: list[ProtocolLine]
    counters: dict[str, int]

    def text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        whom = "everybody" if self.is_public else "those who are known here, and nobody else"
        yield f"reach        {self.level}: open to {whom}"
        serving = "answers others" if self.serves else "asks only: it cannot be reached from outside"
        yield f"table        {count(self.contacts, 'node')} in {count(len(self.buckets), 'bucket')}; {serving}"
        for b in self.buckets:
            failing = f", {b.failing} failing" if b.failing else ""
            yield f"  {b.bits:>3} bits   {b.contacts} and {b.waiting} waiting{failing}, {b.rtt_ms:.0f} ms"
        items, announced = count(self.items, "item"), count(self.provider_records, "announcement")
        yield f"kept         {items}, {announced}; own: {self.own}"
        yield f"lookups      {len(self.lookups)} in progress"
        for lookup in self.lookups:
            yield (
                f"  {lookup.kind} {lookup.key[:16]}  {lookup.asked} asked, {lookup.answers} answered, "
                f"{lookup.failures} failed, for {lookup.for_s:.1f} s"
            )
        yield f"topics       {len(self.topics)}"
        for topic in self.topics:
            yield (
                f"  {topic.name}: {count(len(topic.active), 'neighbour')} ({topic.eager} eager, {topic.lazy} lazy), "
                f"{topic.passive} in reserve; {count(topic.held, 'message')} kept, {topic.missing} missing"
            )
            yield "    " + ", ".join(f"{count} {name}" for name, count in topic.counters.items())
        for line in self.traffic:
            yield f"{line.protocol:<12} {count(line.sent, 'message')} sent, {line.received} received"
        counted = ", ".join(f"{count} {name}" for name, count in self.counters.items() if count)
        if counted:
            yield f"counters     {counted}"
