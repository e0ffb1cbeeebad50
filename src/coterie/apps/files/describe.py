"""What is said about transfers: a line in the list, and all about one."""

from collections.abc import Sequence
from datetime import UTC, datetime

from coterie.apps.files.records import TransferRecord
from coterie.apps.files.results import TransferChange, TransferDetail, TransferLine
from coterie.apps.files.torrent_records import TorrentRecord
from coterie.apps.files.transfer import Transfer, TransferState
from coterie.quantity import duration, say_bytes
from coterie.wire import Ticket


def state_of(record: TransferRecord | TorrentRecord) -> str:
    """Where a transfer stands, for people: one that ended without everything is not done."""
    return "incomplete" if record.state == TransferState.DONE and record.missing else record.state


def share_done(record: TransferRecord) -> str:
    """How much of a transfer is there, in percent."""
    whole = record.state == TransferState.DONE and not record.missing
    return f"{100 * record.done // record.size if record.size and not whole else 100 * whole} %"


def transfer_change(record: TransferRecord, did: str) -> TransferChange:
    """What a command did to a transfer."""
    return TransferChange(record.id, did, share_done(record), say_bytes(record.size), record.target)


def transfer_line(record: TransferRecord, active: Transfer | None) -> TransferLine:
    """One line of the list."""
    rate = active.rate if active else 0.0
    sources = active.sources() if active else []
    ways = [source.way for source in sources]
    counted = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
    eta_s = active.eta_s if active else None
    return TransferLine(
        id=record.id,
        state=state_of(record),
        done=share_done(record),
        size=say_bytes(record.size),
        rate=f"{say_bytes(rate)}/s" if rate else "",
        peer=Ticket.parse(record.ticket).peer.short,
        path=record.target,
        note=record.note,
        left=duration(eta_s) if eta_s is not None else "",
        peers=counted,
        health=str(active.health()) if active and sources else "",
    )


def transfer_detail(record: TransferRecord, active: Transfer | None, askers: Sequence[str]) -> TransferDetail:
    """All about one transfer; `askers`: who fetches it from us, in words."""
    return TransferDetail(
        id=record.id,
        state=state_of(record),
        path=record.target,
        size=record.size,
        done=record.done,
        rate=round(active.rate) if active else 0.0,
        eta_s=active.eta_s if active else None,
        health=active.health() if active else 0,
        started=_moment(record.created),
        finished=_moment(record.finished) if record.finished else "",
        seconds=record.seconds,
        sources=active.sources() if active else [],
        askers=list(askers),
        dropped=record.dropped,
        note=record.note,
        priority=record.priority,
        missing=record.failed,
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
