"""What a whole-system exit changed or may have changed of this computer, on disk until it is undone."""

from pathlib import Path

import msgspec

from coterie.decoding import decoder
from coterie.errors import CoterieError, StorageError
from coterie.private_file import write_private

NAME = "exit-journal.json"


class Journal(msgspec.Struct):
    """`group`: the folder of the node's control group; "" none."""

    group: str = ""


def is_changed(folder: Path) -> bool:
    """Whether something may be changed, by this run of the node or an earlier one. `folder`: of the app."""
    return (folder / NAME).exists()


def write_journal(folder: Path, journal: Journal) -> None:
    """Before anything is changed. Raises `StorageError`."""
    write_private(folder / NAME, msgspec.json.encode(journal))


def read_journal(folder: Path) -> Journal:
    """What was written; one that was cut off says nothing of a group, which then is still as it was."""
    try:
        return _read((folder / NAME).read_bytes())
    except (OSError, CoterieError):
        return Journal()


def end_journal(folder: Path) -> None:
    """Everything is undone."""
    (folder / NAME).unlink(missing_ok=True)


@decoder(StorageError, "the journal of the whole-system exit")
def _read(raw: bytes) -> Journal:
    return msgspec.json.decode(raw, type=Journal)
