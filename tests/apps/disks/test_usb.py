"""The list of USB/IP."""

import pytest

from coterie.apps.disks import usbip
from coterie.apps.disks.usb import devices_at, kernel_note
from coterie.errors import PeerError, TransportError, UsageError
from tests.apps.disks.usb import usb_server
from tests.support import run


def test_devices_are_listed_by_what_they_are() -> None:
    with usb_server() as port:
        (device,) = run(devices_at(f"127.0.0.1:{port}"))
    assert (device.bus, device.code, device.kind) == ("1-1", "1d6b:0104", "input")


def test_who_answers_otherwise_is_refused() -> None:
    with pytest.raises(UsageError):
        run(devices_at("nowhere"))
    with pytest.raises(TransportError, match="no USB/IP"):
        run(devices_at("127.0.0.1:9"))
    with pytest.raises(PeerError):
        usbip.read_list(usbip._HEAD.pack(0x0111, 3, 0, 0))
    with pytest.raises(PeerError):
        usbip.read_list(usbip._HEAD.pack(0x0111, 5, 0, usbip.DEVICES_MAX + 1))
    assert usbip.read_list(usbip._HEAD.pack(0x0111, 5, 0, usbip.DEVICES_MAX)) is None


def test_what_the_kernel_lacks_is_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert "neither" in kernel_note(tmp_path)
    (tmp_path / "usbip_host").mkdir()
    assert "takes none" in kernel_note(tmp_path)
    (tmp_path / "vhci_hcd").mkdir()
    assert "attach" in kernel_note(tmp_path)
