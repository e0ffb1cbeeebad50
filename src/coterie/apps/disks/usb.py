"""USB devices themselves: what USB/IP offers at a port, and whether this kernel can give or take them."""

import asyncio
from pathlib import Path

from coterie.apps.disks.usbip import ANSWER_BYTES_MAX, LIST, UsbDevice, read_list
from coterie.errors import PeerError, TransportError, UsageError
from coterie.texts import tr

ANSWER_S = 5.0  # guess: another kernel, over a line
READ_BYTES = 65_536
MODULES = Path("/sys/module")


async def devices_at(address: str) -> list[UsbDevice]:
    """What is offered at HOST:PORT of this computer.

    Raises:
        UsageError: that is no address.
        TransportError, PeerError: nothing answers there, or no USB/IP.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise UsageError(tr("'{address}' is no HOST:PORT", address=address[:50]))
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(LIST)
                raw = b""
                while (found := read_list(raw)) is None:
                    data = await reader.read(READ_BYTES)
                    if not data or len(raw) > ANSWER_BYTES_MAX:
                        raise PeerError("the list of USB devices ends in the middle")
                    raw += data
                return found
            finally:
                writer.close()
    except TimeoutError:
        raise TransportError(tr("nothing answers at {address}", address=address)) from None
    except OSError as error:
        raise TransportError(
            tr(
                "no USB/IP is at {address} ({strerror}): `usbipd -D` offers devices, `coterie connect` leads to those "
                "of others",
                address=address,
                strerror=error.strerror or error,
            )
        ) from None


def kernel_note(modules: Path = MODULES) -> str:
    """What this kernel can do with USB devices of others, in words."""
    gives, takes = (modules / "usbip_host").exists(), (modules / "vhci_hcd").exists()
    if takes:
        return tr("attach one: usbip --tcp-port PORT attach -r HOST -b BUS")
    if gives:
        return tr("this kernel gives USB devices, and takes none: the module vhci-hcd is not loaded")
    return tr("this kernel neither gives nor takes USB devices: usbip-host and vhci-hcd are not loaded")
