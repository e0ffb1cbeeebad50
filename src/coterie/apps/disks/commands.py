"""The commands of `disks`: the command line and the HTTP API are rendered from these."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Person, Place, Values, command
from coterie.apps.disks.results import AttachedDisk, DiskLine, DiskSaid, SharedDisk, UsbList

if TYPE_CHECKING:
    from coterie.apps.disks.service import DisksService

PURPOSE = "Services"

Disk = Annotated[str, Values("disks", "place")]


@command(
    "target",
    path="disk share",
    stays=True,
    kind="disk",
    interrupt_text="Stopped. The disk stays shared whenever this node runs.",
    title="Let others use a disk",
)
async def share(
    disks: "DisksService", target: Path, *, to: list[Person], write: bool = False, as_: str = ""
) -> SharedDisk:
    """Let others use a disk, a drive or an image of this computer.

    target: A device like /dev/sdb1 or /dev/sr0, or a file that is the image of one.
    to: For whom: a circle, CIRCLE:guest, a person, contacts or anyone; may be given several times.
    write: They may change it, too: one computer at a time, while nobody else uses it.
    as_: What others call it; without it the end of its path.
    """
    return await disks.share(target, to, write=write, name=as_)


@command(
    "disk",
    path="disk unshare",
    needs="store",
    title="End a disk for others",
)
async def unshare(disks: "DisksService", disk: Disk) -> DiskSaid:
    """End a disk for others: who uses it loses it at once, what is on it stays.

    disk: Its name or id.
    """
    return await disks.unshare(disk)


@command(
    path="disks",
    needs="others",
    empty_text="No disk is shared or attached here: coterie disk share IMAGE --to WHOM",
    title="Disks of this computer and of others",
)
async def disks(disks: "DisksService") -> list[DiskLine]:
    """List the disks that this computer shares, those that it uses, and those that others offer it."""
    return await disks.all()


@command(
    "place",
    path="disk attach",
    stays=True,
    interrupt_text="Stopped. The disk is attached again whenever this node runs.",
    title="Use a disk of somebody",
)
async def attach(
    disks: "DisksService", place: Place, *, write: bool = False, device: bool = False
) -> AttachedDisk:
    """Use a disk of somebody else on this computer: programs find it at a socket, by the protocol NBD.

    place: COMPUTER/NAME, like anna/backup.
    write: To change it, too; nobody else uses it meanwhile.
    device: Make a block device of it, as root.
    """
    return await disks.attach(place, write=write, device=device)


@command(
    "disk",
    path="disk detach",
    needs="store",
    title="End the use of a disk",
)
async def detach(disks: "DisksService", disk: Disk) -> DiskSaid:
    """End the use of a disk of somebody else: its device, if it has one, goes away, too.

    disk: COMPUTER/NAME, as `coterie disks` shows it.
    """
    return await disks.detach(disk)


@command(
    "disk",
    path="disk eject",
    title="Eject a disc",
)
async def eject(disks: "DisksService", disk: Disk) -> DiskSaid:
    """Open the drive of a disc: of this computer, or of another one whose disc you may write.

    disk: Its name, or COMPUTER/NAME.
    """
    return await disks.eject(disk)


@command("address", path="disk usb", needs="store", title="USB devices at an address")
async def usb(disks: "DisksService", address: str = "127.0.0.1:3240") -> UsbList:
    """List the USB devices that are offered by USB/IP: of this computer, or of another one by `coterie connect`.

    address: HOST:PORT, as `coterie connected` shows it; without it where usbipd of this computer is.
    """
    return await disks.usb(address)
