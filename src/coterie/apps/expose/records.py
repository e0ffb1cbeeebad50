"""What `expose` keeps on disk."""

import msgspec

from coterie.apps.expose.targets import Target


class ExposedRecord(msgspec.Struct, kw_only=True):
    """A service of this computer. `to`: subjects of the policy. `kind`: "tcp" or "udp"."""

    id: str
    created: float
    name: str
    target: Target
    kind: str = "tcp"
    to: list[str] = []
    host_header: str = ""


class ConnectedRecord(msgspec.Struct, kw_only=True):
    """A port here that leads to a service of a peer. `peer`: its id as text."""

    id: str
    created: float
    peer: str
    name: str
    kind: str = "tcp"
    lan: bool = False
