"""The commands of `drive`: the command line and the HTTP API are rendered from these."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Values, command
from coterie.apps.drive.results import DriveLine

if TYPE_CHECKING:
    from coterie.apps.drive.service import DriveService

PURPOSE = "Share and get"
Shared = Annotated[str, Values("shares", "name", app="files")]


@command(path="drive", needs="store", title="The drive")
async def drive_status(drive: "DriveService") -> DriveLine:
    """Show whether what others share is a drive of this computer, and where."""
    return drive.line()


@command(path="drive on", needs="running", title="Open the drive")
async def drive_on(drive: "DriveService", *, lan: Shared = "") -> DriveLine:
    """Open what others share as a drive (WebDAV), for programs of yours on this computer, from now on.

    lan: Instead, let other devices of the local network read this folder that you share, with a password.
    """
    return await (drive.open_lan(lan) if lan else drive.switch(is_on=True))


@command(path="drive off", needs="running", title="Close the drive")
async def drive_off(drive: "DriveService", *, lan: bool = False) -> DriveLine:
    """Close the drive. What is mounted shows errors.

    lan: Instead, let no other device read anything, and forget the passwords.
    """
    return await (drive.close_lan() if lan else drive.switch(is_on=False))


@command("folder", path="drive mount", needs="running", title="Mount the drive")
async def drive_mount(drive: "DriveService", folder: Path) -> DriveLine:
    """Make the drive a folder of this computer, until it is unmounted or this node stops.

    folder: An empty folder; it is made where there is none.
    """
    return await drive.mount(folder)


@command("folder", path="drive unmount", needs="running", title="Unmount the drive")
async def drive_unmount(drive: "DriveService", folder: Path) -> DriveLine:
    """Make the folder an ordinary one again.

    folder: Where the drive is mounted.
    """
    return await drive.unmount(folder)
