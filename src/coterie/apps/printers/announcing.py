"""Printers that are open to the local network, told by DNS-SD (RFC 6763) as AirPrint and IPP Everywhere have it.

Phones ask for the subtype `_universal` of `_ipp._tcp`. zeroconf registers one type for a name, so the same name is
registered by two instances: one with the type, one with the subtype.
"""

import asyncio
import logging
import socket
import uuid
from collections.abc import Mapping
from typing import Any

from coterie.apps.context import Context
from coterie.apps.printers.printing import attributes_of, supported_formats
from coterie.decoding import FAULTS
from coterie.texts import tr

TYPES = ("_ipp._tcp.local.", "_universal._sub._ipp._tcp.local.")
NAME_BYTES_MAX = 63  # of one label (RFC 1035)
VALUE_CHARS_MAX = 200  # with its key below 255 bytes

log = logging.getLogger(__name__)
Opened = Mapping[str, tuple[str, int, bytes]]
"""By label: name for people, port, what the printer says of itself."""


class Announcing:
    """All methods belong to the node's event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wanted: Opened = {}
        self._told: dict[str, tuple[str, int, bytes]] = {}
        self._infos: dict[str, list[Any]] = {}
        self._instances: list[Any] = []
        self._wake = asyncio.Event()
        context.jobs.keep(self._follow, "telling the local network of printers")

    def follow(self, printers: Opened) -> None:
        """Tell of these, and of no others."""
        self._wanted = dict(printers)
        self._wake.set()

    async def close(self) -> None:
        """Take everything back."""
        instances, self._instances = self._instances, []
        for instance in instances:
            await instance.async_close()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._register()
            except OSError as error:
                self._context.tell.say(
                    tr("the local network does not hear of your printers: {error}", error=str(error)),
                    key="mdns",
                )

    async def _register(self) -> None:
        import zeroconf
        import zeroconf.asyncio

        if not self._instances:
            self._instances = [zeroconf.asyncio.AsyncZeroconf(interfaces=_addresses()) for _ in TYPES]
        for label in [label for label, told in self._told.items() if self._wanted.get(label) != told]:
            del self._told[label]
            for instance, info in zip(self._instances, self._infos.pop(label), strict=True):
                await instance.async_unregister_service(info)
        for label, (name, port, attributes) in self._wanted.items():
            if label in self._told or not port:
                continue
            infos = [_info(zeroconf, kind, name, label, port, attributes) for kind in TYPES]
            for instance, info in zip(self._instances, infos, strict=True):
                try:
                    await instance.async_register_service(info, cooperating_responders=True)
                except (zeroconf.Error, *FAULTS) as error:
                    log.warning("%s is not announced as %s: %r", name, info.type, error)
            self._told[label], self._infos[label] = (name, port, attributes), infos


def _info(zeroconf: Any, kind: str, name: str, label: str, port: int, attributes: bytes) -> Any:
    shown = name.replace("/", " ").replace(".", " ").encode()[:NAME_BYTES_MAX].decode(errors="ignore")
    return zeroconf.ServiceInfo(
        kind,
        f"{shown}.{kind}",
        port=port,
        addresses=[socket.inet_aton(ip) for ip in _addresses()],
        properties=properties(label, port, attributes),
        server=f"{label}-{port}.local.",
    )


def _addresses() -> list[str]:
    """Our IPv4 addresses, of which others hear; that of loopback where there is no other: the port is open to IPv4."""
    import ifaddr

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [ip for ip in found if not ip.startswith("127.")] or ["127.0.0.1"]


def properties(label: str, port: int, attributes: bytes) -> dict[str, str]:
    """The keys of the TXT record (Bonjour Printing 1.2.1; PWG 5100.14, 4.2.3)."""
    own = attributes_of(attributes)

    def said(name: str, otherwise: str = "") -> str:
        found = own.get(name)
        return (
            str(found.first)[:VALUE_CHARS_MAX] if found is not None and found.first is not None else otherwise
        )

    model = said("printer-make-and-model", "Printer")
    urf = [str(value.data) for value in own["urf-supported"].values] if "urf-supported" in own else ["none"]
    sides = [value.data for value in own["sides-supported"].values] if "sides-supported" in own else []
    return {
        "txtvers": "1",
        "qtotal": "1",
        "rp": "ipp/print",
        "ty": model,
        "product": f"({model})",
        "note": said("printer-location"),
        "pdl": ",".join(supported_formats(attributes))[:VALUE_CHARS_MAX] or "application/octet-stream",
        "URF": ",".join(urf)[:VALUE_CHARS_MAX],
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"coterie-printer:{label}:{port}")),
        "Color": "T" if said("color-supported") == "True" else "F",
        "Duplex": "T" if len(sides) > 1 else "F",
        "priority": "50",
    }
