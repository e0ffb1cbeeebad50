"""The commands of `send`: the command line and the HTTP API are rendered from these."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.apps.command import Choice, Duration, Here, Progress, command
from coterie.apps.progress_events import with_progress
from coterie.apps.send.results import OFFER_LASTS_S, AlwaysLine, InboxLine, InboxSaid, SentLine
from coterie.errors import NotFound, UsageError

if TYPE_CHECKING:
    from coterie.apps.send.service import SendService

PURPOSE = "Share and get"
ON_SWEEPING = (Choice("y", "send all of it", {"everything": True}),)


@command(
    "paths",
    stays=True,
    asks={"sweeping": ON_SWEEPING},
    interrupt_text="Stopped. What was offered stays so, and can be taken whenever this node runs: `coterie sent`",
)
async def send(
    send: "SendService",
    paths: list[str],
    *,
    each: bool = False,
    lasting: Duration = OFFER_LASTS_S,
    note: str = "",
    everything: bool = False,
    here: Here = Here(Path("/")),  # noqa: B008  (where nobody stands anywhere)
) -> AsyncIterator[Progress | SentLine]:
    """Send files and folders to a person, who takes or declines them: `coterie send PATH... PERSON`.

    The person need not be there now: the offer arrives when both computers run, and so does the content.

    paths: What to send, and last the name of the person.
    each: Let every computer of the person take it, not only the first that does.
    lasting: How long the offer can be taken: 90s, 15m, 8h, 7d.
    note: A word that is shown with it.
    everything: Send a home folder, or one with home folders in it, without a question.
    """
    person, files = _addressee(paths, here, send.is_known)
    work = lambda tell: send.offer(  # noqa: E731
        files,
        person,
        each=each,
        lasts_s=lasting,
        note=note,
        everything=everything,
        progress=tell,
    )
    async for item in with_progress(work):
        yield item


def _addressee(words: list[str], here: Path, is_known: Callable[[str], bool]) -> tuple[str, list[Path]]:
    """Who is meant by the last of `words`, and the files that the others name, seen from `here`.

    Raises:
        UsageError: it may be a file as well.
        NotFound: it is nobody, or there is no such file.
    """
    if not words:
        raise UsageError("say what to send, and to whom: coterie send PATH... PERSON")
    *others, last = words
    path = here / Path(last).expanduser()
    is_file = os.path.lexists(path)
    if is_known(last):
        if is_file:
            raise UsageError(
                f"'{last}' is a person and a file here: write ./{last} for the file, and the person behind it"
            )
        if not others:
            raise UsageError(f"say what to send to {last}: coterie send PATH... {last}")
        return last, [here / Path(word).expanduser() for word in others]
    if is_file:
        raise UsageError("say to whom: coterie send PATH... PERSON")
    raise NotFound(f"'{last}' is nobody known here, and no file: `coterie ls` shows who is known")


@command(needs="store", empty_text="Nothing was sent: coterie send PATH... PERSON")
async def sent(send: "SendService") -> list[SentLine]:
    """List what was sent to people, and what became of it."""
    return send.sent()


@command("offer", path="sent cancel", needs="store")
async def sent_cancel(send: "SendService", offer: str) -> list[SentLine]:
    """Offer something no longer; what is being fetched of it ends.

    offer: Its id, as `coterie sent` shows it.
    """
    return send.cancel(offer)


@command(needs="store", empty_text="Nobody has sent you anything.")
async def inbox(send: "SendService") -> list[InboxLine]:
    """List what people sent to this computer."""
    return send.inbox()


@command(
    "offer", path="inbox accept", stays=True, interrupt_text="Stopped. It goes on whenever this node runs."
)
async def inbox_accept(send: "SendService", offer: str, *, to: Path | None = None) -> InboxLine:
    """Take what was sent; again, where it failed.

    offer: Its id, the name of what was sent, or the sender.
    to: The folder that it goes to, instead of Downloads.
    """
    return send.accept(offer, to)


@command("offer", path="inbox decline", needs="store")
async def inbox_decline(send: "SendService", offer: str) -> InboxLine:
    """Do not take what was sent, or take no more of it; the sender is told.

    offer: Its id, the name of what was sent, or the sender.
    """
    return send.decline(offer)


@command(
    "person", path="inbox always", needs="store", empty_text="Everything that is sent waits for an answer."
)
async def inbox_always(
    send: "SendService", person: str = "", *, to: Path | None = None
) -> InboxSaid | list[AlwaysLine]:
    """Take everything that a person sends, without a question; without a name, list from whom.

    person: The name.
    to: The folder that it goes to, instead of Downloads.
    """
    return send.always(person, to) if person else send.always_lines()


@command("person", path="inbox ask", needs="store")
async def inbox_ask(send: "SendService", person: str) -> InboxSaid:
    """Wait for an answer again before something of this person is taken.

    person: The name.
    """
    return send.ask(person)
