"""What is said about transfers: a line in the list, and all about one."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from coterie.moments import iso
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import AskerLine, SourceLine, TransferDetail, TransferLine
from coterie.transfer.states import TransferState, bytes_done, state_of
from coterie.transfer.table import Entry
from coterie.transfer.transfer import Transfer
from coterie.wire import Ticket

TICKETS_MAX = 2_048  # whose giver is remembered: as many lines as lists are asked for again and again; guess


def transfer_line(record: TransferRecord, active: Transfer | None) -> TransferLine:
    """One line of the list."""
    state, note = _stands(record, active)
    sources = active.sources() if active else []
    return TransferLine(
        id=record.id,
        state=state,
        done=bytes_done(record),
        size=record.size,
        path=record.target,
        peer=_giver(record.ticket),
        rate=round(active.rate) if active else 0,
        eta_s=active.eta_s if active else None,
        ways=dict(Counter(source.way for source in sources)),
        health=active.health() if active and sources else None,
        note=note,
    )


@lru_cache(TICKETS_MAX)
def _giver(ticket: str) -> str:
    """The short id of the computer that a ticket names."""
    return Ticket.parse(ticket).peer.short


def _stands(record: TransferRecord, active: Transfer | None) -> tuple[str, str]:
    """Its state and note, for people: what asks for bytes and gets none waits."""
    waits_for = active.waits_for if active else ""
    return (TransferState.WAITING, waits_for) if waits_for else (state_of(record), record.note)


def transfer_detail(
    record: TransferRecord, active: Transfer | None, askers: Sequence[AskerLine]
) -> TransferDetail:
    """All about one transfer; `askers`: who fetches it from us."""
    state, note = _stands(record, active)
    return TransferDetail(
        id=record.id,
        state=state,
        path=record.target,
        size=record.size,
        done=record.done,
        rate=round(active.rate) if active else 0.0,
        eta_s=active.eta_s if active else None,
        health=active.health() if active else 0,
        started=iso(record.created),
        finished=iso(record.finished),
        seconds=record.seconds,
        sources=active.sources() if active else [],
        askers=list(askers),
        dropped=record.dropped,
        note=note,
        priority=record.priority,
        missing=record.failed,
        pieces=active.pieces() if active else [],
        rates=active.rates.per_second() if active else [],
    )


def plain_detail(
    entry: Entry,
    line: TransferLine,
    *,
    health: int = 0,
    sources: Sequence[SourceLine] = (),
    askers: Sequence[AskerLine] = (),
    pieces: Sequence[int] = (),
    rates: Sequence[int] = (),
) -> TransferDetail:
    """All about one transfer whose record says no more than its `line`."""
    return TransferDetail(
        id=line.id,
        state=line.state,
        path=line.path,
        size=line.size,
        done=line.done,
        rate=line.rate,
        eta_s=line.eta_s,
        health=health,
        started=iso(entry.created),
        finished="",
        seconds=0.0,
        sources=list(sources),
        askers=list(askers),
        note=line.note,
        priority=entry.priority,
        pieces=list(pieces),
        rates=list(rates),
    )
