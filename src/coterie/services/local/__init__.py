"""Servers for other programs on this machine: one table of ports, each with a switch, closed to other users."""

from coterie.services.local.flows import Flow
from coterie.services.local.ports import Port, PortLine, Ports
from coterie.services.local.service import Local

__all__ = ["Flow", "Local", "Port", "PortLine", "Ports"]
