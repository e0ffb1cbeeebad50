"""What `coterie ls` returns: plain values that faces render."""

import msgspec

from coterie.moments import iso
from coterie.services.directory.messages import Offer


class PlaceLine(msgspec.Struct, frozen=True):
    """One line of `coterie ls`: a computer, or what it offers: a share, a folder, a file, a service. `size` in bytes.

    `changed`: ISO 8601. `here`: of a computer, whether it is there now; `known`: from where, like a circle.
    `note`: a few words of the computer that offers it.
    """

    name: str
    kind: str
    files: int | None = None
    size: int | None = None
    changed: str = ""
    here: bool | None = None
    known: str = ""
    note: str = ""

    @classmethod
    def of(cls, offer: Offer) -> "PlaceLine":
        """For one offer; what another computer sent is shown, never trusted."""
        changed = iso(offer.mtime_ns // 1_000_000_000)
        return cls(offer.name, offer.form or offer.kind, offer.files, offer.size, changed, note=offer.note)
