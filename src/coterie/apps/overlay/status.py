"""From the cores' own pictures to what people and programs read. Pure."""

from collections.abc import Mapping

from coterie.apps.overlay.results import BucketLine, LookupLine, OverlayStatus, ProtocolLine, TopicLine
from coterie.overlay.broadcast import Broadcast
from coterie.overlay.kademlia.events import Snapshot


def describe(
    table: Snapshot,
    broadcast: Broadcast,
    names: Mapping[bytes, str],
    *,
    traffic: Mapping[str, tuple[int, int]],
    level: str,
    is_public: bool,
    now: float,
) -> OverlayStatus:
    """Everything in one value. `traffic`: messages (sent, received) by protocol; `now` in unix seconds."""
    return OverlayStatus(
        level=level,
        serves=table.serves,
        is_public=is_public,
        contacts=table.contacts,
        items=table.items,
        provider_records=table.provider_records,
        own=table.own,
        buckets=[
            BucketLine(b.bits, len(b.contacts), b.waiting, b.failing, round(1000 * b.median_rtt_s, 1))
            for b in table.buckets
        ],
        lookups=[
            LookupLine(
                look.kind, look.key.hex(), look.asked, look.answers, look.failures, round(now - look.since, 1)
            )
            for look in table.lookups
        ],
        topics=[_topic(broadcast, id_, names.get(id_, id_.hex()[:16])) for id_ in broadcast.topics],
        traffic=[ProtocolLine(name, *figures) for name, figures in traffic.items()],
        counters={name: int(count) for name, count in table.counters.items()},
    )


def _topic(broadcast: Broadcast, id_: bytes, name: str) -> TopicLine:
    members, messages = broadcast.membership(id_), broadcast.messages(id_)
    return TopicLine(
        name=name,
        active=[str(peer) for peer in members.active],
        passive=len(members.passive),
        eager=len(messages.eager),
        lazy=len(messages.lazy),
        held=messages.history.held,
        held_bytes=messages.history.held_bytes,
        missing=messages.missing,
        counters={
            "delivered": messages.delivered,
            "duplicates": messages.duplicates,
            "recovered": messages.recovered,
            "ignored": messages.ignored + members.ignored,
        },
    )
