"""The commands of `play`: the command line and the HTTP API are rendered from these."""

from typing import TYPE_CHECKING

from coterie.apps.command import Here, Target, Ticket, command
from coterie.apps.play.results import Playing

if TYPE_CHECKING:
    from coterie.apps.play.service import PlayService

PURPOSE = "Share and get"

_HERE = Target(".")


@command(
    "ticket",
    "target",
    stays=True,
    interrupt_text="Stopped. What arrived is kept: the same command goes on from there.",
    title="Watch or listen",
)
async def play(
    play: "PlayService",
    ticket: Ticket,
    target: Target = _HERE,
    *,
    file: str = "",
    overwrite: bool = False,
    keep_both: bool = False,
    here: Here | None = None,
) -> Playing:
    """Watch or listen while it arrives: gives local URLs in which a media player can seek at once.

    ticket: What `coterie get` takes (a ticket, a place like anna/films/one.mkv, a magnet link, a torrent file), or the
        id of a transfer, under way or done.
    target: Where it is kept, as with `coterie get`.
    file: Which files of a folder, e.g. "*.mkv"; otherwise all films and music in it.
    overwrite: Replace files of the same name at the target; the old ones are kept for 30 days (`coterie trash`).
    keep_both: Keep what is at the target and name this one differently.
    here: The folder that relative paths start from.
    """
    from coterie.transfer.transfer import on_existing

    existing = on_existing(overwrite=overwrite, keep_both=keep_both)
    return await play.play(ticket, target, file=file, on_existing=existing, here=here)
