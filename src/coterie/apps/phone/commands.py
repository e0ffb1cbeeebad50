"""The commands of `phone`: the command line and the HTTP API are rendered from these."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Duration, Values, command
from coterie.apps.phone.core import KEY_LASTS_S
from coterie.apps.phone.results import PhoneAdded, PhoneKey, PhoneLine, PhoneSaid

if TYPE_CHECKING:
    from coterie.apps.phone.service import PhoneService

PURPOSE = "People"
LiveFolder = Annotated[str, Values("folders", "name", app="folders")]
PhoneName = Annotated[str, Values("phones", "id")]


@command(
    "name",
    path="phone add",
    needs="running",
    interrupt_text="Withdrawn: this address no longer works.",
    title="Add a phone",
)
async def phone_add(
    phone: "PhoneService",
    name: str = "",
    *,
    may: list[str] = [],  # noqa: B006  (never changed)
    plain: bool = False,
    lasting: Duration = Duration(KEY_LASTS_S),  # noqa: B008
) -> AsyncIterator[PhoneKey | PhoneAdded]:
    """Let a phone use this computer: shows a QR code that works once, and waits for the phone.

    Without --may it may look, get, upload, send, answer and play; never more.

    name: What the phone is called here; without it, what it calls itself.
    may: What it may do, like look,get or look,upload,send; also share, people, settings, devices.
    plain: Without encryption and certificate: camera, installing as an app and sharing to it do not work then.
    lasting: How long the address works: 90s, 15m.
    """
    async with phone.expecting(name, may, plain=plain, lasts_s=lasting) as expected:
        yield expected.key
        yield await expected.came()


@command(needs="store", empty_text="No phone may use this computer: coterie phone add", title="Phones")
async def phones(phone: "PhoneService") -> list[PhoneLine]:
    """List the phones that may use this computer, and what they may do."""
    return phone.lines()


@command("called", "may", path="phone may", needs="store", title="Change what a phone may do")
async def phone_may(phone: "PhoneService", called: PhoneName, may: list[str]) -> PhoneLine:
    """Change what a phone may do, from now on.

    called: Its id or its name, from `coterie phones`.
    may: All that it may do from now on, like look,get,play.
    """
    return phone.change(called, may)


@command("called", "folder", path="phone camera", needs="store", title="Where pictures of a phone go")
async def phone_camera(phone: "PhoneService", called: PhoneName, folder: LiveFolder = "") -> PhoneSaid:
    """Let a phone put its pictures into a live folder: by year and month, none of them twice.

    The phone has that place to choose when it sends files here, and they come to all who follow the folder.

    called: Its id or its name, from `coterie phones`.
    folder: The name of a live folder; without it, into none.
    """
    return phone.set_camera(called, folder)


@command("called", path="phone remove", needs="store", title="Remove a phone")
async def phone_remove(phone: "PhoneService", called: PhoneName) -> PhoneSaid:
    """Let a phone in no more: what it has open ends at once, what it has not finished uploading is removed.

    called: Its id or its name, from `coterie phones`.
    """
    return phone.remove(called)


@command(path="phone on", needs="running", title="Let phones in")
async def phone_on(phone: "PhoneService") -> PhoneSaid:
    """Open the ports for phones on the local network; `phone add` does so, too."""
    return await phone.switch(is_on=True)


@command(path="phone off", needs="running", title="Let no phone in")
async def phone_off(phone: "PhoneService") -> PhoneSaid:
    """Close the ports for phones. The phones stay known, and are back with `phone on`."""
    return await phone.switch(is_on=False)
