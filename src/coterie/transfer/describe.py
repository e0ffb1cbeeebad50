"""What is said about transfers: a line in the list, and all about one."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from coterie.moments import iso
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import AskerLine, TransferChange, TransferDetail, TransferLine
from coterie.transfer.transfer import Transfer, TransferState
from coterie.wire import Ticket


class Stands(Protocol):
    """What the record of every kind of transfer says of how far it is. `size` and `done` in bytes."""

    state: str
    missing: int
    size: int
    done: int


def state_of(record: Stands) -> str:
    """Where a transfer stands, for people: one that ended without everything is not done."""
    return "incomplete" if record.state == TransferState.DONE and record.missing else record.state


def bytes_done(record: Stands) -> int:
    """How many bytes of a transfer are here."""
    whole = record.state == TransferState.DONE and not record.missing
    return record.size if whole else record.done


def transfer_change(record: TransferRecord, did: str) -> TransferChange:
    """What a command did to a transfer."""
    return TransferChange(record.id, did, bytes_done(record), record.size, record.target)


def transfer_line(record: TransferRecord, active: Transfer | None) -> TransferLine:
    """One line of the list."""
    sources = active.sources() if active else []
    return TransferLine(
        id=record.id,
        state=state_of(record),
        done=bytes_done(record),
        size=record.size,
        path=record.target,
        peer=Ticket.parse(record.ticket).peer.short,
        rate=round(active.rate) if active else 0,
        eta_s=active.eta_s if active else None,
        ways=dict(Counter(source.way for source in sources)),
        health=active.health() if active and sources else None,
        note=record.note,
    )


def transfer_detail(
    record: TransferRecord, active: Transfer | None, askers: Sequence[AskerLine]
) -> TransferDetail:
    """All about one transfer; `askers`: who fetches it from us."""
    return TransferDetail(
        id=record.id,
        state=state_of(record),
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
        note=record.note,
        priority=record.priority,
        missing=record.failed,
    )
