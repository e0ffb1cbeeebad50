"""Content with owners: what one app keeps, no other has forgotten."""

from coterie.services.blobs.exchange import BlobExchange
from coterie.services.blobs.folder import BlobFolder
from coterie.services.blobs.service import Blobs

__all__ = ["BlobExchange", "BlobFolder", "Blobs"]
