"""What the commands of `disks` return: plain values that faces render."""

import msgspec

from coterie.apps.disks.usbip import UsbDevice
from coterie.quantity import say_bytes
from coterie.texts import tr


class SharedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of this computer: `path` is what it is here, `to` whom it is for, `users` who uses it now."""

    id: str
    name: str
    path: str
    form: str
    size: int
    to: list[str]
    write: bool
    users: list[str] = []
    place: str = ""
    state: str = "ready"

    def text(self) -> str:
        """For people."""
        said = tr("Shared {path} as {name} to {to}", path=self.path, name=self.name, to=", ".join(self.to))
        how = " --write" if self.write else ""
        lines = [said, tr("There: coterie disk attach {place}{how}", place=self.place, how=how)]
        lines += [tr("But now: {state}", state=self.state)] if self.state != "ready" else []
        return "\n".join(lines)


class AttachedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of somebody else, as it is used here.

    Fields:
        uri: what programs that speak NBD open.
        socket: the Unix socket in it, or HOST:PORT.
        device: the block device that was made of it; empty: none.
        programs: how many use it now.
    """

    place: str
    uri: str
    socket: str
    size: int
    write: bool
    device: str = ""
    programs: int = 0
    state: str = "ready"

    def text(self) -> str:
        """For people."""
        how = tr("to read and write") if self.write else tr("to read")
        lines = [
            tr("{place} ({size}) is attached {how}", place=self.place, size=say_bytes(self.size), how=how)
        ]
        lines += [tr("Device: {device}", device=self.device)] if self.device else []
        lines += [tr("For programs that speak NBD: {uri}", uri=self.uri)]
        lines += [tr("But now: {state}", state=self.state)] if self.state != "ready" else []
        return "\n".join(lines)


class DiskLine(msgspec.Struct, frozen=True, kw_only=True):
    """A disk, of this computer or of others.

    Fields:
        place: COMPUTER/NAME; of this computer NAME alone.
        form: "image", "disk" or "disc".
        use: "shared", "attached", or "offered" by another computer and not attached.
        where: the path, the device or the address for programs.
        users: who uses a shared one now.
        given: bytes that this computer itself gave of a shared one, or took, since it was started.
    """

    place: str
    form: str
    size: int
    write: bool
    use: str
    where: str = ""
    users: list[str] = []
    state: str = "ready"
    given: int = 0


class UsbList(msgspec.Struct, frozen=True):
    """USB devices that are offered at an address, and what this kernel can do with them."""

    address: str
    devices: list[UsbDevice]
    kernel: str

    def text(self) -> str:
        """For people."""
        found = [device.text() for device in self.devices]
        return "\n".join([*(found or [tr("No USB device is offered at {at}", at=self.address)]), self.kernel])


class DiskSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said
