"""How a live folder stands, as its list says it."""

from collections.abc import Sequence

import msgspec

from coterie.apps.folders.results import FolderLine
from coterie.apps.folders.store import FolderData
from coterie.texts import tr, tr_count


def counted(line: FolderLine, data: FolderData) -> FolderLine:
    """The line with what is kept of the folder: also of one that is paused."""
    files, size = data.totals()
    return msgspec.structs.replace(
        line,
        files=files,
        size=size,
        here=data.files_here(),
        unsent=data.unsent(),
        conflicts=data.conflicts(),
    )


def left(path: str, unsent: int) -> str:
    """What people are told of a folder that this computer follows no longer. `unsent`: see `FolderLine`."""
    said = tr("{path} is an ordinary folder again", path=path)
    if not unsent:
        return said
    only = tr_count(
        "{number} change or file of it was at nobody else's: it stays here, and goes to others if you join it again",
        "{number} changes or files of it were at nobody else's: they stay here, and go to others if you join it again",
        unsent,
    )
    return f"{said}; {only}"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What counts for it.

    Fields:
        gone, full, asks: why it does not go on; empty: that is not so.
        has_looked: since it began. `is_done`: nothing is left to be planned. `missing`: contents to come.
        members: who has it now. `notes`: what does not work, the most important first.
    """

    gone: str
    full: str
    asks: str
    has_looked: bool
    is_done: bool
    missing: int
    members: Sequence[str]
    notes: Sequence[str]

    def on(self, line: FolderLine) -> FolderLine:
        """The line with state, note, and who has it."""
        state, note = self._state()
        return msgspec.structs.replace(
            line,
            state=state,
            missing=self.missing,
            members=list(self.members),
            note=note or next(iter(self.notes), ""),
        )

    def _state(self) -> tuple[str, str]:
        if self.gone:
            return "gone", self.gone
        if self.asks:
            return "asks", self.asks
        if self.full:
            return "waits", self.full
        if not self.has_looked:
            return "looking", ""
        if self.missing:
            return "receiving", ""
        if not self.is_done:
            return "working", ""
        return ("in sync", "") if self.members else ("alone", "")
