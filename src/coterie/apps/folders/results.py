"""What the commands of `folders` return: plain values that faces render."""

import msgspec

from coterie.quantity import count, say_bytes
from coterie.texts import tr


class FolderLine(msgspec.Struct, frozen=True, kw_only=True):
    """A live folder of this computer.

    Fields:
        state: a word or a few: "in sync", "receiving", "paused", "asks", "gone", "looking".
        path: where it is here; empty: it is offered, and was not joined.
        role: what this computer may: owner, write, read, keep.
        files, size: of all that is in it, wherever. `here`: how many files are on this disk.
        missing: contents that are still to come. `unsent`: places with a change or content that nobody else has yet.
        conflicts: places with several versions side by side. `members`: who has it now, by name.
        note: what is to be done, or why it does not go on.
    """

    name: str
    state: str
    path: str = ""
    role: str = ""
    files: int = 0
    size: int = 0
    here: int = 0
    missing: int = 0
    unsent: int = 0
    conflicts: int = 0
    members: list[str] = []
    note: str = ""
    id: str = ""


class FolderMade(msgspec.Struct, frozen=True, kw_only=True):
    """A live folder that was just begun, or joined."""

    name: str
    id: str
    path: str
    to: list[str] = []
    joined: bool = False

    def text(self) -> str:
        """For people."""
        if self.joined:
            return tr(
                "{path} follows the folder {name} from now on. `coterie folders` says how far it is",
                path=self.path,
                name=self.name,
            )
        lines = [tr("{path} is the live folder {name} from now on", path=self.path, name=self.name)]
        if self.to:
            lines += [
                tr("For {whom}: coterie folder join {name} PATH", whom=", ".join(self.to), name=self.name)
            ]
        return "\n".join(lines)


class FolderSaid(msgspec.Struct, frozen=True):
    """What was done."""

    name: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class EntryLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a live folder.

    Fields:
        here: whether its content is on this computer. `state` of a file: "here", "pinned" (always here), "coming", or
            "on demand" (it comes when it is opened in the drive or the page, or with `folder get`).
        by: who wrote it last.
    """

    path: str
    kind: str
    size: int = 0
    here: bool = False
    state: str = ""
    by: str = ""
    changed: str = ""


class ConflictLine(msgspec.Struct, frozen=True, kw_only=True):
    """One of the versions that stand side by side at a place, since several computers wrote without each other.

    `version`: what `coterie folder resolve` calls it. `shown`: the name under which it lies in the folder.
    """

    folder: str
    path: str
    version: str
    shown: str
    by: str
    size: int
    changed: str = ""


class VersionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a change took away here, recoverable for a while."""

    id: str
    folder: str
    path: str
    size: int
    kept: str
    why: str


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed here because of another computer. `id`: for `coterie folder undo`.

    `to`: where it is now, if it was moved: a folder with all that is in it is one change.
    """

    id: str
    folder: str
    path: str
    what: str
    by: str
    changed: str = ""
    to: str = ""


class IgnoredLine(msgspec.Struct, frozen=True, kw_only=True):
    """A pattern of what is left out. `of`: "programs", "everybody" (`.coterieignore`), or "here"."""

    pattern: str
    of: str


class ChoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of what is on this disk: of what a pattern names, of what is larger than so many bytes, or of a kind.

    `what`: "pinned" or "on demand".
    """

    what: str
    pattern: str = ""
    larger_than_bytes: int | None = None
    kind: str = ""


class JoinPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What joining will do, where the place is not empty."""

    name: str
    path: str
    same: int
    differing: int
    only_here: int
    only_there: int
    size: int

    def text(self) -> str:
        """One sentence for people."""
        return tr(
            "{path} is not empty. With {name} joined to it: {same} the same on both sides (nothing happens), "
            "{differing} differing (both stay, side by side), {only_here} only here (everybody gets them), "
            "{only_there} only there (they come here, {size})",
            path=self.path,
            name=self.name,
            same=count(self.same, "file"),
            differing=count(self.differing, "file"),
            only_here=count(self.only_here, "file"),
            only_there=count(self.only_there, "file"),
            size=say_bytes(self.size),
        )
