"""Servers for other programs on this machine: one table of ports, each with a switch, closed to other users."""

from coterie.services.local.ports import Local, Port, PortLine, Ports

__all__ = ["Local", "Port", "PortLine", "Ports"]
