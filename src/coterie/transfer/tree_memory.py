"""How much is remembered of the folders and links of a tree that arrives."""

from coterie.errors import CloseCode, PeerError

FOLDER_MEMORY_BYTES_MAX = 256 << 20  # of folders and links, remembered to the end; about a million
FOLDER_COST_BYTES = 200  # of one, beside its name, its link's text and 8 bytes for each folder above

Parts = tuple[str, ...]


class TreeMemory:
    """Counts folders and links: nothing that was announced bounds how many of them a tree can have."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, parts: Parts, target: str) -> None:
        """One more. Raises `PeerError` over FOLDER_MEMORY_BYTES_MAX."""
        self._bytes += FOLDER_COST_BYTES + 8 * len(parts) + len(parts[-1]) + len(target)
        if self._bytes > FOLDER_MEMORY_BYTES_MAX:
            raise PeerError(
                f"too many folders and links in one share: over {FOLDER_MEMORY_BYTES_MAX >> 20} MiB of names",
                CloseCode.LIMIT,
            )
