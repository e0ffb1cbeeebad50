"""What USB/IP offers: the question for a list of devices, and its answer. Pure.

Source: Documentation/usb/usbip_protocol.rst of Linux. The devices themselves are carried by the kernels, over `expose`.
"""

import struct

import msgspec

from coterie.decoding import decoder
from coterie.errors import PeerError

PORT = 3240
LIST = struct.pack(">HHI", 0x0111, 0x8005, 0)
HEAD_BYTES = 12
DEVICES_MAX = 64  # guess: more than one computer has
_HEAD = struct.Struct(">HHII")
_DEVICE = struct.Struct(">256s32sIIIHHHBBBBBB")
_INTERFACE_BYTES = 4
ANSWER_BYTES_MAX = HEAD_BYTES + DEVICES_MAX * (_DEVICE.size + 255 * _INTERFACE_BYTES)

CLASSES = {
    1: "audio",
    2: "communication",
    3: "input",
    6: "camera",
    7: "printer",
    8: "storage",
    9: "hub",
    11: "smart card",
    14: "video",
    0xE0: "wireless",
}


class UsbDevice(msgspec.Struct, frozen=True):
    """A device that a computer offers: `bus` names it there, `code` is VENDOR:PRODUCT, `kind` what it is for."""

    bus: str
    code: str
    kind: str = ""

    def text(self) -> str:
        """For people."""
        return f"{self.bus}  {self.code}  {self.kind}".rstrip()


@decoder(PeerError, "a list of USB devices")
def read_list(raw: bytes) -> list[UsbDevice] | None:
    """The devices; None: more bytes are to come. Raises `PeerError`: it is no list, or too long."""
    if len(raw) < HEAD_BYTES:
        return None
    _, code, status, count = _HEAD.unpack_from(raw)
    if code != 0x0005 or status or count > DEVICES_MAX:
        raise PeerError("what answers there is no USB/IP, or has too many devices")
    at, found = HEAD_BYTES, []
    for _ in range(count):
        if len(raw) < at + _DEVICE.size:
            return None
        _, bus, _, _, _, vendor, product, _, kind, *_, interfaces = _DEVICE.unpack_from(raw, at)
        at += _DEVICE.size
        if len(raw) < at + interfaces * _INTERFACE_BYTES:
            return None
        kinds = [kind, *raw[at : at + interfaces * _INTERFACE_BYTES : _INTERFACE_BYTES]]
        at += interfaces * _INTERFACE_BYTES
        said = next((CLASSES[one] for one in kinds if one in CLASSES), "")
        name = bus.split(b"\0")[0].decode("ascii")
        found.append(UsbDevice(name, f"{vendor:04x}:{product:04x}", said))
    return found
