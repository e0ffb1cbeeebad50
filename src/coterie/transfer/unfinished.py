"""What transfers that did not end have left: on disk, and in the store."""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

from coterie.content import Store
from coterie.content.writer import Partial, partials, staging_path
from coterie.transfer.records import TransferRecord
from coterie.wire import Ticket


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


async def forget_unfinished(store: Store, record: TransferRecord, others: Iterable[TransferRecord]) -> None:
    """The manifests of what was cancelled, unless the same content is here, or on its way, in another place."""
    root = Ticket.parse(record.ticket).content_id
    is_wanted = any(Ticket.parse(r.ticket).content_id == root for r in others if r.id != record.id)
    known = await asyncio.to_thread(store.root, root)
    if known is not None and not known.paths and not is_wanted:
        await asyncio.to_thread(store.forget_root, root)
