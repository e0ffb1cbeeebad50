"""What `disks` keeps on disk."""

import msgspec


class SharedRecord(msgspec.Struct, kw_only=True):
    """A disk of this computer for others.

    `to`: subjects of the policy. `write`: they may change it, too. `told`: ids of computers that know of it.
    `last_writer`: the id of the one that wrote last.
    """

    id: str
    created: float
    name: str
    path: str
    to: list[str] = []
    write: bool = False
    told: list[str] = []
    last_writer: str = ""


class AttachedRecord(msgspec.Struct, kw_only=True):
    """A disk of a peer that programs here use. `peer`: its id as text. `device`: a device is to be made of it."""

    id: str
    created: float
    peer: str
    name: str
    write: bool = False
    device: bool = False


class Settings(msgspec.Struct):
    """The section [app.disks] of config.toml."""

    cache: int | str = "2GB"
