"""The commands of `send`: the command line and the HTTP API are rendered from these."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from coterie.apps.command import (
    Choice,
    Duration,
    Here,
    PathOrPerson,
    Person,
    Progress,
    Secret,
    Values,
    command,
)
from coterie.apps.contacts.api import INVITATION_LASTS_S, Invited, WrongCode
from coterie.apps.progress_events import with_progress
from coterie.apps.send.results import (
    OFFER_LASTS_S,
    AlwaysLine,
    Got,
    InboxLine,
    InboxSaid,
    NearLine,
    NearOffer,
    NearOpen,
    Sent,
    SentLine,
    Taken,
)
from coterie.errors import NotFound, UsageError
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.apps.send.service import SendService

PURPOSE = "Share and get"
SentId = Annotated[str, Values("sent", "id")]
InboxId = Annotated[str, Values("inbox", "id")]
Sender = Annotated[Person, Values("ls", "name", app="node")]
_NOBODY, _NO_CODE = Person(""), Secret("")
ON_SWEEPING = (Choice("y", "send all of it", {"everything": True}),)


ON_OFFERED = (Choice("y", "take it", {"yes": True}),)


@command(
    "paths",
    stays=True,
    asks={"sweeping": ON_SWEEPING},
    interrupt_text="Stopped. A code that was not used is void; what people were offered stays so: `coterie sent`",
    title="Send something",
)
async def send(
    send: "SendService",
    paths: list[PathOrPerson],
    *,
    near: bool = False,
    each: bool = False,
    lasting: Duration | None = None,
    note: str = "",
    everything: bool = False,
    here: Here = Here(Path("/")),  # noqa: B008  (where nobody stands anywhere)
) -> AsyncIterator[Progress | Invited | WrongCode | Taken | Sent | list[NearLine]]:
    """Send files and folders to a person, who takes or declines them: `coterie send PATH... PERSON`.

    The person need not be there now: the offer arrives when both computers run, and so does the content. Without a
    person it shows a code, good once, for `coterie receive CODE` on any other computer.

    paths: What to send, and last the name of the person.
    near: Send to a computer on this network that runs `coterie receive --near`; without a name, list those.
    each: Let every computer of the person take it, not only the first that does.
    lasting: How long the offer can be taken (7d) or the code used (15m): 90s, 15m, 8h, 7d.
    note: A word that is shown with it.
    everything: Send a home folder, or one with home folders in it, without a question.
    """
    person, files = addressee(paths, here, send.is_known, near=near)
    if near and not person:
        yield await send.strangers.near_lines()
        return
    is_offer = bool(person) and not near
    lasts_s = (lasting if is_offer else None) or OFFER_LASTS_S
    reading = lambda tell: send.read(  # noqa: E731
        files, lasts_s=lasts_s, note=note, everything=everything, progress=tell
    )
    record: Any = None
    async for item in with_progress(reading):
        if isinstance(item, Progress):
            yield item
        else:
            record = item
    if is_offer:
        yield send.offer_to(record, person, each=each)
    elif near:
        yield await send.strangers.to_near(record, person)
    else:
        async for event in send.strangers.by_code(record, (lasting or INVITATION_LASTS_S) / 60):
            yield event


def addressee(
    words: Sequence[str], here: Path, is_known: Callable[[str], bool], *, near: bool = False
) -> tuple[str, list[Path]]:
    """Who is meant by the last of `words` (nobody: ""), and the files that the others name, seen from `here`.

    `near`: the last of several words is a computer of the network, whatever its name.

    Raises:
        UsageError: it may be a file as well.
        NotFound: it is nobody, or there is no such file.
    """
    if not words:
        raise UsageError(tr("say what to send, and to whom: coterie send PATH... PERSON"))
    *others, last = words
    paths = [here / Path(word).expanduser() for word in words]
    is_file = os.path.lexists(paths[-1])
    if near:
        return (last, paths[:-1]) if others else ("", paths)
    if is_known(last):
        if is_file:
            raise UsageError(
                tr(
                    "'{last}' is a person and a file here: write ./{last} for the file, and the person "
                    "behind it",
                    last=last,
                )
            )
        if not others:
            raise UsageError(tr("say what to send to {last}: coterie send PATH... {last}", last=last))
        return last, paths[:-1]
    if not is_file:
        raise NotFound(
            tr("'{last}' is nobody known here, and no file: `coterie ls` shows who is known", last=last)
        )
    return "", paths


@command(
    "code",
    asks={"offered": ON_OFFERED},
    interrupt_text="Stopped. What was accepted goes on whenever this node runs: `coterie inbox`",
    title="Receive with a code",
)
async def receive(
    send: "SendService",
    code: Secret = _NO_CODE,
    *,
    near: bool = False,
    at: str = "",
    to: Path | None = None,
    yes: bool = False,
) -> AsyncIterator[Progress | Got | NearOpen | NearOffer]:
    """Take what somebody sends: by the code that `coterie send` showed there, or from this network.

    It shows what is offered, and asks, before anything is fetched. Neither becomes a contact of the other.

    code: The code, like 7-planet-velvet, or the long ticket.
    near: Let whoever is on this network offer something while this runs; `coterie inbox accept` takes it.
    at: Where the sender is, IP:PORT as it showed it, when it is not found by itself.
    to: The folder that it goes to, instead of Downloads.
    yes: Take it without a question.
    """
    if near:
        if code or at or yes:
            raise UsageError(tr("with --near nobody has a code: leave out CODE, --at and --yes"))
        async for event in send.strangers.near():
            yield event
        return
    if not code:
        raise UsageError(tr("say the code that the other computer printed: coterie receive CODE"))
    async for step in send.strangers.receive(code, at=at, folder=to, yes=yes):
        yield step


@command(needs="store", empty_text="Nothing was sent: coterie send PATH... PERSON", title="What you sent")
async def sent(send: "SendService") -> list[SentLine]:
    """List what was sent to people, and what became of it."""
    return send.sent()


@command("offer", path="sent cancel", needs="store", title="Withdraw what was sent")
async def sent_cancel(send: "SendService", offer: SentId) -> list[SentLine]:
    """Offer something no longer; what is being fetched of it ends.

    offer: Its id, as `coterie sent` shows it.
    """
    return send.cancel(offer)


@command(needs="store", empty_text="Nobody has sent you anything.", title="What people sent you")
async def inbox(send: "SendService") -> list[InboxLine]:
    """List what people sent to this computer."""
    return send.inbox()


@command(
    "offer",
    path="inbox accept",
    stays=True,
    interrupt_text="Stopped. It goes on whenever this node runs.",
    title="Take what was sent",
)
async def inbox_accept(send: "SendService", offer: InboxId, *, to: Path | None = None) -> Got:
    """Take what was sent; again, where it failed.

    offer: Its id, the name of what was sent, or the sender.
    to: The folder that it goes to, instead of Downloads.
    """
    return send.accept(offer, to)


@command("offer", path="inbox decline", needs="store", title="Decline what was sent")
async def inbox_decline(send: "SendService", offer: InboxId) -> Got:
    """Do not take what was sent, or take no more of it; the sender is told.

    offer: Its id, the name of what was sent, or the sender.
    """
    return send.decline(offer)


@command(
    "person",
    path="inbox always",
    needs="store",
    empty_text="Everything that is sent waits for an answer.",
    title="Always take from a person",
)
async def inbox_always(
    send: "SendService", person: Sender = _NOBODY, *, to: Path | None = None
) -> InboxSaid | list[AlwaysLine]:
    """Take everything that a person sends, without a question; without a name, list from whom.

    person: The name.
    to: The folder that it goes to, instead of Downloads.
    """
    return send.always(person, to) if person else send.always_lines()


@command("person", path="inbox ask", needs="store", title="Ask again before taking")
async def inbox_ask(send: "SendService", person: Sender) -> InboxSaid:
    """Wait for an answer again before something of this person is taken.

    person: The name.
    """
    return send.ask(person)
