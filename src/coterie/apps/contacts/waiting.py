"""What is told while an invitation is open; the same for every command that invites."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from coterie.apps.command import Progress
from coterie.apps.contacts.results import Invited, Met, WrongCode

if TYPE_CHECKING:
    from coterie.apps.contacts.service import OpenInvitation

TELL_EVERY_S = 15.0  # how long there is still to wait


async def wait_for_joiner(
    invitation: "OpenInvitation", *, into: str = ""
) -> AsyncIterator[Invited | Progress | WrongCode | Met]:
    """All that happens to an invitation, until somebody has joined. Errors as `OpenInvitation.next`.

    into: what one is in then, when it is more than known to each other.
    """
    yield invitation.invited
    yield _waiting(invitation)
    following = asyncio.ensure_future(invitation.next())
    try:
        while True:
            await asyncio.wait({following}, timeout=TELL_EVERY_S)
            if following.done():
                news = following.result()
                yield msgspec.structs.replace(news, into=into) if isinstance(news, Met) else news
                if isinstance(news, Met):
                    return
                following = asyncio.ensure_future(invitation.next())
            yield _waiting(invitation)
    finally:
        following.cancel()


def _waiting(invitation: "OpenInvitation") -> Progress:
    total = round(60 * invitation.invited.minutes)
    left = round(invitation.until - asyncio.get_running_loop().time())
    return Progress(phase="waiting", done=min(max(0, total - left), total), total=total, unit="seconds")
