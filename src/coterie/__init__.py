"""A network of equals: `from coterie import Node`."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CoterieError", "Node", "PeerId", "Ticket", "__version__"]

if TYPE_CHECKING:
    from coterie.errors import CoterieError
    from coterie.identity import PeerId
    from coterie.node import Node
    from coterie.wire.ticket import Ticket

_HOMES = {
    "CoterieError": "coterie.errors",
    "Node": "coterie.node",
    "PeerId": "coterie.identity",
    "Ticket": "coterie.wire.ticket",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `coterie --version` must not pay for the network."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")
