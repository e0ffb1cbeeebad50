"""Uploads that go on where they stopped: a server of tus 1.0.0 over a folder of the node. See docs/phone.md."""

from coterie.web.uploads.folder import UploadFolder
from coterie.web.uploads.server import Uploads

__all__ = ["UploadFolder", "Uploads"]
