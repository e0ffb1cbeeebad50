"""What the commands of `files` return: plain values that faces render."""

import msgspec

from coterie.apps.files.places_messages import FILE, FOLDER, FORMS, Entry
from coterie.moments import iso
from coterie.quantity import count, say_bytes
from coterie.services.directory.results import PlaceLine
from coterie.texts import tr
from coterie.transfer.results import Problem


class SharedItem(msgspec.Struct, frozen=True):
    """A share: `ticket` is all that another computer needs. `size` in bytes.

    `magnet` is the link for BitTorrent programs, `torrent` where the torrent file is; empty when it has none.
    `outside` says why not everybody elsewhere reaches this computer; empty when everybody does. `note` is that in a
    line, where it was not said before. `offers_internet`: the level `internet` would add a way.
    """

    id: str
    name: str
    path: str
    kind: str
    files: int
    size: int
    ticket: str
    created: str
    skipped: list[Problem] = []
    magnet: str = ""
    torrent: str = ""
    to: list[str] = msgspec.field(default_factory=lambda: ["ticket"])
    skipped_more: int = 0
    outside: str = ""
    offers_internet: bool = False
    note: str = ""

    def is_incomplete(self) -> bool:
        """Whether something could not be read that should have been shared."""
        return self.skipped_more > 0 or any(problem.is_lost for problem in self.skipped)

    def text(self) -> str:
        """For people: what is shared and with whom, what was left out, and the ticket alone on the last line."""
        lines = [
            tr(
                "Shared {path}: {files}, {size}  (share {id})",
                path=self.path,
                files=count(self.files, "file"),
                size=say_bytes(self.size),
                id=self.id,
            )
        ]
        lines += [tr("  left out {path}: {reason}", path=p.path, reason=p.reason) for p in self.skipped]
        lines += (
            [tr("  left out {skipped_more:,} more", skipped_more=self.skipped_more)]
            if self.skipped_more
            else []
        )
        if self.magnet:
            lines += [
                tr("  torrent file: {torrent}", torrent=self.torrent),
                "",
                tr("With any BitTorrent program:"),
                "",
                f"  {self.magnet}",
            ]
        named = [who for who in self.to if who != "ticket"]
        if named:
            lines += [
                "",
                tr(
                    "For {named}: `coterie ls` there shows it as {name}.",
                    named=", ".join(named),
                    name=self.name,
                ),
            ]
        if self.note:
            lines += ["", tr("Note: {note}.", note=self.note)]
        if "ticket" in self.to:
            lines += ["", tr("On the other computer:"), "", tr("  coterie get {ticket}", ticket=self.ticket)]
        return "\n".join(lines)


def place_line(entry: Entry) -> PlaceLine:
    """A line of `coterie ls` for one entry of a list; a name that another computer sent is shown, never trusted."""
    kind = FORMS.get(entry.kind, "?")
    known = entry.files or entry.kind == FILE
    files = entry.files if entry.kind == FOLDER and known else None
    return PlaceLine(
        entry.name, kind, files, entry.size if known else None, iso(entry.mtime_ns // 1_000_000_000)
    )


class ShareLine(msgspec.Struct, frozen=True):
    """One line of the list of shares; `state` is "ready", or what no longer matches the disk; `to`: who may have it."""

    id: str
    name: str
    path: str
    files: int
    size: int
    state: str
    to: list[str] = []


class Updated(msgspec.Struct, frozen=True):
    """A share that was taken in anew, and the `changes` in words; or the `problem` that stood in the way."""

    path: str
    shared: SharedItem | None = None
    changes: str = ""
    problem: str = ""

    def is_incomplete(self) -> bool:
        """Whether something is not shared as it is on the disk."""
        return self.shared is None or self.shared.is_incomplete()

    def text(self) -> str:
        """For people."""
        if self.shared is None:
            return f"{self.path}: {self.problem}"
        lines = [
            tr(
                "Updated {path}: {changes}; tickets, places and grants stay good",
                path=self.path,
                changes=self.changes or "nothing changed",
            ),
            *(tr("  left out {path}: {reason}", path=p.path, reason=p.reason) for p in self.shared.skipped),
        ]
        if self.shared.magnet:
            lines += [tr("  a magnet link names bytes, so it is a new one:"), f"  {self.shared.magnet}"]
        return "\n".join(lines)


class ShareTicket(msgspec.Struct, frozen=True):
    """The ticket of a share."""

    id: str
    name: str
    ticket: str

    def text(self) -> str:
        """The ticket alone, to copy or to pipe."""
        return self.ticket


class Removed(msgspec.Struct, frozen=True):
    """A share that ended. The files themselves are untouched."""

    id: str
    path: str

    def text(self) -> str:
        """For people."""
        return tr("No longer shared: {path} (its ticket is void; the files are untouched)", path=self.path)
