"""The commands of `circles`: the command line and the HTTP API are rendered from these."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Literal

from coterie.apps.circles.results import (
    BlockedLine,
    CircleLine,
    CircleMade,
    CircleSaid,
    DeviceLine,
    DeviceSaid,
    Joined,
    MemberLine,
    Phrase,
    RecoveryLine,
    Restored,
)
from coterie.apps.command import Duration, Progress, Secret, Values, command
from coterie.apps.contacts.api import INVITATION_LASTS_S, Invited, Met, WrongCode, wait_for_joiner

if TYPE_CHECKING:
    from coterie.apps.circles.service import CirclesService

PURPOSE = "People"

RoleName = Literal["guest", "member", "owner"]
Circle = Annotated[str, Values("circle", "name")]
Member = Annotated[str, Values("circle members", "name", given=("circle",))]
Device = Annotated[str, Values("devices", "name")]
Blocked = Annotated[str, Values("blocked", "name")]
_NONE = Secret("")
PARTING_S = 2.0  # for the log to reach who has joined before a node of the command line may go


@command(
    path="circle",
    needs="store",
    empty_text="You are in no circle: `coterie circle new NAME` makes one.",
    title="Circles",
)
async def circle_(circles: "CirclesService") -> list[CircleLine]:
    """List the circles that this computer is in."""
    return circles.lines()


@command("name", path="circle new", needs="store", title="Make a circle")
async def circle_new(circles: "CirclesService", name: str) -> CircleMade:
    """Make a circle; you are its owner.

    name: What its members call it.
    """
    made = circles.create(name)
    return CircleMade(made.name, made.id, made.role, made.members)


@command(
    "circle",
    path="circle invite",
    interrupt_text="Withdrawn: this invitation no longer works.",
    title="Invite somebody into a circle",
)
async def circle_invite(
    circles: "CirclesService",
    circle: Circle,
    *,
    role: RoleName = "member",
    lasting: Duration = INVITATION_LASTS_S,
) -> AsyncIterator[Invited | Progress | WrongCode | Met]:
    """Invite somebody into a circle: shows a code that works once, and waits for it to be used. Owners only.

    circle: Its name, or the beginning of its id.
    role: What who joins will be.
    lasting: How long the invitation lasts: 90s, 15m, 8h.
    """
    async with circles.invite(circle, role=role, minutes=lasting / 60) as invitation:
        async for news in wait_for_joiner(invitation, into=circles.title(circle)):
            yield news
    await asyncio.sleep(PARTING_S)


@command("invitation", path="circle join", title="Join a circle")
async def circle_join(
    circles: "CirclesService", invitation: Secret, *, name: str = "", at: str = ""
) -> Joined:
    """Join a circle by the code or ticket of an owner.

    invitation: The code, like 7-planet-velvet, or the long ticket.
    name: What you are called there, instead of this computer's name.
    at: Where the inviter is, IP:PORT as it showed it, when it is not found by itself.
    """
    return await circles.join(invitation, name=name, at=at)


@command("circle", path="circle members", needs="store", title="Members of a circle")
async def circle_members(circles: "CirclesService", circle: Circle) -> list[MemberLine]:
    """List the members of a circle.

    circle: Its name, or the beginning of its id.
    """
    return circles.members(circle)


@command("circle", "member", "role", path="circle role", needs="store", title="Change the role of a member")
async def circle_role(
    circles: "CirclesService", circle: Circle, member: Member, role: RoleName
) -> CircleSaid:
    """Give a member another role. Owners only.

    circle: Its name, or the beginning of its id.
    member: The member's name there, or the beginning of an id.
    role: Guest, member or owner.
    """
    return circles.set_role(circle, member, role)


@command("circle", "member", path="circle remove", needs="store", title="Remove a member")
async def circle_remove(circles: "CirclesService", circle: Circle, member: Member) -> CircleSaid:
    """Remove a member with all its computers. Owners only.

    circle: Its name, or the beginning of its id.
    member: The member's name there, or the beginning of an id.
    """
    return circles.remove(circle, member)


@command("circle", path="circle leave", needs="store", title="Leave a circle")
async def circle_leave(circles: "CirclesService", circle: Circle) -> CircleSaid:
    """Leave a circle.

    circle: Its name, or the beginning of its id.
    """
    return circles.leave(circle)


@command("circle", "name", path="circle rename", needs="store", title="Rename a circle or a member")
async def circle_rename(
    circles: "CirclesService", circle: Circle, name: str, *, member: Member = ""
) -> CircleSaid:
    """Rename a circle (owners), or with --member a member of it (yourself, or as an owner anybody).

    circle: Its name, or the beginning of its id.
    name: The new name.
    member: Whom to rename, instead of the circle.
    """
    return circles.rename(circle, name, member)


@command(needs="store", empty_text="No computer is blocked.", title="Blocked computers")
async def blocked(circles: "CirclesService") -> list[BlockedLine]:
    """List the computers that get nothing here, because their own person says that they are lost."""
    return circles.blocked_lines()


@command("computer", needs="store", title="Unblock a computer")
async def unblock(circles: "CirclesService", computer: Blocked) -> DeviceSaid:
    """End a block on this computer only: the other one is what it would be without it.

    computer: Its name, or the beginning of its id, from `coterie blocked`.
    """
    return circles.unblock(computer)


@command(path="devices", needs="store", title="My computers")
async def devices_(circles: "CirclesService") -> list[DeviceLine]:
    """List the computers and the recovery phrase that are you."""
    return circles.devices.lines()


@command(
    path="devices add",
    interrupt_text="Withdrawn: this invitation no longer works.",
    title="Add a computer of mine",
)
async def devices_add(
    circles: "CirclesService", *, lasting: Duration = INVITATION_LASTS_S
) -> AsyncIterator[Invited | Progress | WrongCode | Met]:
    """Make another computer yours: shows a code for `coterie devices join` there. It gets all your rights.

    lasting: How long the invitation lasts: 90s, 15m, 8h.
    """
    async with circles.devices.invite(minutes=lasting / 60) as invitation:
        async for news in wait_for_joiner(invitation, into="the list of your computers"):
            yield news
    await asyncio.sleep(PARTING_S)


@command("invitation", path="devices join", title="Make this computer one of mine")
async def devices_join(circles: "CirclesService", invitation: Secret, *, at: str = "") -> DeviceSaid:
    """Make this computer one of yours, by the code that `coterie devices add` showed on another.

    invitation: The code or the long ticket.
    at: Where that computer is, IP:PORT as it showed it, when it is not found by itself.
    """
    return await circles.devices.join(invitation, at=at)


@command("device", path="devices remove", needs="store", title="Remove a computer of mine")
async def devices_remove(circles: "CirclesService", device: Device) -> DeviceSaid:
    """A computer of yours is lost or sold: nobody listens to it any more, in any circle.

    device: Its name or the beginning of its id, from `coterie devices`.
    """
    return circles.devices.remove(device)


@command("device", "name", path="devices rename", needs="store", title="Rename a computer of mine")
async def devices_rename(circles: "CirclesService", device: Device, name: str) -> DeviceSaid:
    """Call another computer of yours by another name; only here.

    device: Its name or the beginning of its id, from `coterie devices`.
    name: The new name.
    """
    return circles.devices.rename(device, name)


@command(path="recovery", needs="store", title="Recovery phrase")
async def recovery_(circles: "CirclesService") -> RecoveryLine:
    """Say whether you could come back from paper."""
    return circles.recovery.status()


@command(path="recovery new", needs="store", title="Make a recovery phrase")
async def recovery_new(circles: "CirclesService") -> Phrase:
    """Make a recovery phrase: twelve words for paper, shown once."""
    return circles.recovery.make()


@command(
    path="recovery replace",
    needs="store",
    prompts={"phrase": "The old words"},
    title="Replace the recovery phrase",
)
async def recovery_replace(circles: "CirclesService", *, phrase: Secret) -> Phrase:
    """Replace the recovery phrase by a new one: the old words stop working.

    phrase: The old words; asked for when not given.
    """
    return circles.recovery.make(phrase)


@command(
    path="recovery restore", prompts={"phrase": "The twelve words"}, title="Come back by the recovery phrase"
)
async def recovery_restore(
    circles: "CirclesService", *, phrase: Secret, invitation: Secret = _NONE, at: str = "", lost: bool = False
) -> Restored:
    """Come back on a fresh computer by the words on paper: identity, contacts, circles.

    phrase: The words; asked for when not given.
    invitation: Of somebody who was in a circle with you, or of another computer of yours, when none is known here yet.
    at: Where the inviter is, IP:PORT as it showed it, when it is not found by itself.
    lost: Remove all your earlier computers: they are lost or stolen.
    """
    return await circles.recovery.restore(phrase, invitation=invitation, at=at, lost=lost)
