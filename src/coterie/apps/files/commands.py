"""The commands of `files`: the command line and the HTTP API are rendered from these."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from coterie.apps.command import Choice, Here, Person, Place, Progress, Rate, Target, Ticket, Values, command
from coterie.apps.files.results import (
    Removed,
    SharedItem,
    ShareLine,
    ShareTicket,
    Updated,
)
from coterie.apps.progress_events import with_progress
from coterie.errors import UsageError
from coterie.texts import tr
from coterie.transfer.results import LimitsNow, Received, TransferChange, TransferDetail, TransferLine

if TYPE_CHECKING:
    from coterie.apps.files.service import FilesService

PURPOSE = "Share and get"

Share = Annotated[str, Values("shares", "name")]
TransferId = Annotated[str, Values("transfers", "id")]
Version = Annotated[str, Values("trash", "id")]
PriorityName = Literal["high", "normal", "low"]
_HERE, _ALL = Target("."), Place("")
ROOT = Path("/")  # where relative paths start for callers who stand nowhere

ON_EXISTING = (
    Choice("o", "overwrite it", {"overwrite": True}),
    Choice("k", "keep both", {"keep_both": True}),
)


ON_SWEEPING = (Choice("y", "share all of it", {"everything": True}),)


@command(
    "path",
    stays=True,
    kind="files",
    asks={"sweeping": ON_SWEEPING},
    interrupt_text="Stopped. A share that was made is kept; one that was still being read is not.",
    title="Share something",
)
async def share(  # noqa: PLR0913 - all but one are named options
    files: "FilesService",
    path: Path | None = None,
    *,
    update: bool = False,
    reread: bool = False,
    everything: bool = False,
    name: str = "",
    to: list[Person] = [],  # noqa: B006  (never changed)
    write: bool = False,
    bittorrent: bool = False,
    public: bool = False,
    tracker: list[str] = [],  # noqa: B006  (never changed)
    v1: bool = False,
) -> AsyncIterator[Progress | SharedItem | list[Updated]]:
    """Share a file or folder: it stays where it is, and is served from there.

    The same again takes in what has changed. It stays the same share, and tickets, places and grants stay good.

    path: The file or folder to share; with --update none for all of which something has changed.
    update: Only take in what has changed of what is shared already.
    reread: Read files too whose size and date are as they were.
    everything: Share a home folder, or one with home folders in it, without a question.
    name: What the other side calls it, instead of its own name.
    to: For whom: a circle, CIRCLE:guest, a person, contacts, anyone, or ticket (whoever has the ticket; the default).
    write: Those of --to may also change what is in it, over the drive (`coterie drive on`).
    bittorrent: Make a torrent of it too, and seed it from the same files.
    public: Put the ticket into the magnet link: coterie then fetches from this computer first.
    tracker: URL of a tracker for the torrent; may be given several times.
    v1: A torrent of version 1 alone, for programs that know no other (aria2, Transmission before 4).
    """
    if update:
        if name or to or write or bittorrent or public or tracker or v1:
            raise UsageError(
                tr("--update only takes in what has changed: leave it out to change how it is shared")
            )
        updating = lambda tell: files.update(path, reread=reread, progress=tell)  # noqa: E731
        async for item in with_progress(updating):
            yield item
        return
    if path is None:
        raise UsageError(tr("say what to share: coterie share PATH"))
    work = lambda tell: files.share(  # noqa: E731
        path,
        name=name,
        to=to,
        write=write,
        progress=tell,
        bittorrent=bittorrent,
        public=public,
        trackers=tracker,
        v1=v1,
        reread=reread,
        everything=everything,
    )
    async for item in with_progress(work):
        yield item


@command("share", needs="store", title="Stop sharing something")
async def unshare(files: "FilesService", share: Share, *, here: Here | None = None) -> Removed:
    """Stop sharing: the ticket is void at once, the files are untouched.

    share: Its id, name or path.
    here: The folder that relative paths start from.
    """
    return await files.unshare(share, here or ROOT)


@command(needs="store", empty_text="Nothing is shared: coterie share PATH", title="What this computer shares")
async def shares(files: "FilesService") -> list[ShareLine]:
    """List what is shared, and what changed on disk since; `coterie ticket` shows a ticket."""
    return await files.shares()


@command(
    "share",
    path="shares changes",
    needs="store",
    returns="coterie.apps.files.share_changes:ShareChanges",
    title="What changed in a share",
)
async def shares_changes(files: "FilesService", share: Share, *, here: Here | None = None) -> Any:
    """Show what changed on disk since something was shared, by names.

    share: Its id, name or path.
    here: The folder that relative paths start from.
    """
    return await files.changes(share, here or ROOT)


@command("share", needs="network", title="Ticket of a share")
async def ticket(files: "FilesService", share: Share, *, here: Here | None = None) -> ShareTicket:
    """Show the ticket of a share again.

    share: Its id, name or path.
    here: The folder that relative paths start from.
    """
    return await files.ticket(share, here or ROOT)


@command(
    "ticket",
    "target",
    needs="others",
    asks={"exists": ON_EXISTING},
    interrupt_text="Stopped. What arrived is kept: the same command goes on from there.",
    title="Get something",
)
async def get(  # noqa: PLR0913 - all but two are named options
    files: "FilesService",
    ticket: Ticket,
    target: Target = _HERE,
    *,
    overwrite: bool = False,
    keep_both: bool = False,
    detach: bool = False,
    only: list[str] = [],  # noqa: B006  (never changed)
    share: bool = False,
    mirror: bool = False,
    wait: bool | None = None,
    here: Here | None = None,
) -> AsyncIterator[Progress | Received | TransferChange]:
    """Get what a ticket, a place, a magnet link or a torrent file names: verified, resumed where it stopped.

    The same again to the same target brings that up to date: new and changed files come, what was changed here is
    kept beside. Nothing of yours is ever deleted.

    ticket: The ticket, as the other side showed it; a place like anna/photos/2024; a magnet link, or the hash of a
        torrent; or the path of a torrent file (./anna/x is always the file, //anna/x the place).
    target: A folder to put it into (with / at its end one that is made), or the name it is to have.
    overwrite: Replace files of the same name at the target; the old ones are kept for 30 days (`coterie trash`).
    keep_both: Keep what is at the target and name this one differently.
    detach: Return at once; `coterie transfers` shows how it goes.
    only: Fetch only files like this ("*.ogg", "disc 1/*"); may be given several times.
    share: Share and seed what came by BitTorrent.
    mirror: Move what is gone at the giver to the trash here, instead of leaving it.
    wait: Wait for a giver that is not reached now; with --detach it always waits, unless it is told not to.
    here: The folder that relative paths start from.
    """
    source = await files.look(ticket, here)
    on_existing = files.on_existing(overwrite=overwrite, keep_both=keep_both)
    if detach:
        yield await files.get_detached(
            source,
            target,
            on_existing=on_existing,
            only=only,
            share=share,
            mirror=mirror,
            wait=wait is not False,
        )
        return
    fetch = lambda tell: files.get(  # noqa: E731
        source,
        target,
        on_existing=on_existing,
        progress=tell,
        only=only,
        share=share,
        mirror=mirror,
        wait=wait is True,
    )
    async for item in with_progress(fetch):
        yield item


@command(
    "place",
    needs="others",
    interrupt_text="Stopped. What is up to date stays so: the same command goes on with the rest.",
    empty_text="Nothing was got yet: coterie get TICKET",
    returns="coterie.apps.files.refresh:Refreshed",
    title="Bring up to date what was got",
)
async def refresh(
    files: "FilesService", place: Place = _ALL, *, mirror: bool = False, here: Here | None = None
) -> AsyncIterator[Any]:
    """Bring up to date what was got: new and changed files come, what was changed here is kept beside.

    place: What of it: the path it was got to, or the place it came from; all when nothing is named.
    mirror: Move what is gone at the giver to the trash here, instead of leaving it.
    here: The folder that relative paths start from.
    """
    place = Place(files.spelled_path(place, here))
    async for item in with_progress(lambda tell: files.refresh(place, mirror=mirror, progress=tell)):
        yield item


@command(
    needs="store",
    empty_text="Nothing was replaced or taken away.",
    returns="coterie.apps.files.trash:TrashLine",
    title="Trash",
)
async def trash(files: "FilesService") -> Any:
    """List what arrivals replaced or took away; each can be had back for 30 days."""
    return await files.trash.lines()


@command(
    "version",
    path="trash restore",
    needs="store",
    returns="coterie.apps.files.trash:Restored",
    title="Put something back",
)
async def trash_restore(files: "FilesService", version: Version, *, to: Path | None = None) -> Any:
    """Put something back where it lay, beside what is there by now.

    version: Its id, as `coterie trash` shows it.
    to: Where else to put it, on the same disk.
    """
    return await files.trash.restore(version, to)


@command(
    "versions",
    path="trash empty",
    needs="store",
    returns="coterie.apps.files.trash:Emptied",
    title="Empty the trash",
)
async def trash_empty(files: "FilesService", versions: list[Version] = []) -> Any:  # noqa: B006  (never changed)
    """Delete for good what is in the trash.

    versions: Their ids; everything when none is named.
    """
    return await files.trash.empty(versions)


@command(needs="store", empty_text="No transfers: coterie get TICKET", title="Transfers")
async def transfers(files: "FilesService") -> list[TransferLine]:
    """List transfers: running, waiting, seeding, paused, failed and done."""
    return await files.transfers()


@command("transfer", path="transfers show", needs="store", title="All about a transfer")
async def transfers_show(files: "FilesService", transfer: TransferId) -> TransferDetail:
    """Show all about one transfer: from whom and to whom, how each is reached, how fast, how long.

    transfer: Its id.
    """
    return await files.transfer_detail(transfer)


@command("transfer", path="transfers limit", needs="running", title="Limit a transfer")
async def transfers_limit(
    files: "FilesService", transfer: TransferId, *, down: Rate | None = None, up: Rate | None = None
) -> TransferDetail:
    """Limit one transfer.

    transfer: Its id.
    down: How fast it may fetch, like 2MB/s; 0: no limit.
    up: How fast others may have it from here; 0: no limit.
    """
    return await files.limit_transfer(transfer, down=down, up=up)


@command("transfer", "priority", path="transfers priority", needs="running", title="Priority of a transfer")
async def transfers_priority(
    files: "FilesService", transfer: TransferId, priority: PriorityName
) -> TransferDetail:
    """Let one transfer come before others, or after them.

    transfer: Its id.
    priority: high, normal or low: of a limit, and of a link that they share, 4 to 2 to 1.
    """
    return await files.set_priority(transfer, priority)


@command(needs="store", title="Limits of all transfers")
async def limits(
    files: "FilesService",
    *,
    up: Rate | None = None,
    down: Rate | None = None,
    up_hours: str | None = None,
    down_hours: str | None = None,
) -> LimitsNow:
    """Show the limits of all transfers together, and set those that are given.

    up: How fast to others, like 500kB/s; 0: no limit.
    down: How fast from others; 0: no limit.
    up_hours: Other limits by time of day, like 08:00-18:00=500kB/s,22:00-06:00=0; empty: none.
    down_hours: The same for what comes from others.
    """
    return files.limits.change(up=up, down=down, up_hours=up_hours, down_hours=down_hours)


@command("transfer", path="transfers pause", needs="store", title="Pause a transfer")
async def transfers_pause(files: "FilesService", transfer: TransferId) -> TransferChange:
    """Stop a transfer and keep what arrived.

    transfer: Its id.
    """
    return await files.pause(transfer)


@command("transfer", path="transfers resume", needs="running", title="Go on with a transfer")
async def transfers_resume(files: "FilesService", transfer: TransferId) -> TransferChange:
    """Go on with a paused or failed transfer.

    transfer: Its id.
    """
    return await files.resume(transfer)


@command("transfer", path="transfers cancel", needs="store", title="Cancel a transfer")
async def transfers_cancel(files: "FilesService", transfer: TransferId) -> TransferChange:
    """End a transfer for good and remove what arrived of it; of a finished one, only the line.

    transfer: Its id.
    """
    return await files.cancel(transfer)
