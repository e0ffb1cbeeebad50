"""WHAT: chunks, manifests, the store of what is shared, importing it, and writing what is received."""

from coterie.content.importer import ImportCancelled, Imported, ImportProgress, import_path
from coterie.content.large_file import LargeFile
from coterie.content.manifest import Kind
from coterie.content.reader import ChunkUnavailable
from coterie.content.scan import Skipped
from coterie.content.store import KnownFile, Root, Store
from coterie.content.usage import Collected, Usage
from coterie.content.writer import (
    Partial,
    Staging,
    TargetExists,
    check_space,
    discard_partial,
    partials,
)

__all__ = [
    "ChunkUnavailable",
    "Collected",
    "ImportCancelled",
    "ImportProgress",
    "Imported",
    "Kind",
    "KnownFile",
    "LargeFile",
    "Partial",
    "Root",
    "Skipped",
    "Staging",
    "Store",
    "TargetExists",
    "Usage",
    "check_space",
    "discard_partial",
    "import_path",
    "partials",
]
