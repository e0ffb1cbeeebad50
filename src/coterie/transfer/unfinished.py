"""What transfers that did not end have left: on disk, and in the store."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from coterie.content import Store
from coterie.content.writer import Partial, partials, staging_path
from coterie.transfer.records import TransferRecord
from coterie.wire import Ticket

OWNER = "transfer"  # of what the store keeps for transfers, each under its id


def partials_of(records: Iterable[TransferRecord]) -> list[Partial]:
    """What these have on disk so far."""
    wanted = {
        staging_path(
            Path(r.target).parent, Path(r.target).name, r.staging or Ticket.parse(r.ticket).content_id
        )
        for r in records
    }
    found: list[Partial] = []
    for parent in sorted({path.parent for path in wanted}):
        with contextlib.suppress(OSError):  # a disk that is not there now
            found += [partial for partial in partials(parent) if partial.path in wanted]
    return found


def pin_unfinished(store: Store, records: Iterable[TransferRecord]) -> None:
    """Have the store keep what belongs to these, which are all that are not done, and no other transfer. Blocks."""
    store.pins.replace(OWNER, {record.id: [Ticket.parse(record.ticket).content_id] for record in records})


def forget_unfinished(store: Store, record: TransferRecord) -> None:
    """Forget what was cancelled, unless the same content is here, or somebody else keeps it. Blocks."""
    store.pins.set(OWNER, record.id, ())
    root = Ticket.parse(record.ticket).content_id
    known = store.root(root)
    if known is not None and not known.paths:
        store.forget_root(root)
