"""What the commands of `circles` return, and how it reads."""

import shlex

import msgspec

from coterie.quantity import count
from coterie.texts import tr


class CircleLine(msgspec.Struct, frozen=True):
    """One circle of this node; `members` counts people."""

    name: str
    id: str
    role: str
    members: int


class CircleMade(msgspec.Struct, frozen=True):
    """A new circle of this node's person."""

    name: str
    id: str
    role: str
    members: int

    def text(self) -> str:
        """For people."""
        return tr(
            "You own the circle {name} now.\nTo let somebody in: coterie circle invite {name2}\nTo "
            "share with all of it: coterie share PATH --to {name2}",
            name=self.name,
            name2=shlex.quote(self.name),
        )


class MemberLine(msgspec.Struct, frozen=True):
    """One member of a circle; `devices` are the ids of its computers, `blocked` of those that it lists as lost."""

    name: str
    role: str
    person: str
    devices: list[str]
    is_you: bool = False
    blocked: list[str] = []


class CircleSaid(msgspec.Struct, frozen=True):
    """What a command did, in a sentence."""

    circle: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class Joined(msgspec.Struct, frozen=True):
    """A circle that this node is in now."""

    circle: str
    id: str
    role: str
    members: list[str]

    def text(self) -> str:
        """For people."""
        return tr(
            "You are in the circle {circle} now, as {role}, with {members}",
            circle=self.circle,
            role=self.role,
            members=", ".join(self.members),
        )


class BlockedLine(msgspec.Struct, frozen=True):
    """One computer that gets nothing here. `by`: whose it was, who says so; `where`: the circle that carries that."""

    computer: str
    name: str
    by: str
    where: str
    since: str


class DeviceLine(msgspec.Struct, frozen=True):
    """One computer, or recovery phrase, of the person whose node this is.

    `here`: whether it is connected or on this network now; None: nobody can say.
    """

    name: str
    kind: str
    here: bool | None
    device: str
    is_this: bool = False


class DeviceSaid(msgspec.Struct, frozen=True):
    """What became of a device."""

    device: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class Phrase(msgspec.Struct, frozen=True):
    """A new recovery phrase: shown once, kept nowhere."""

    words: list[str]

    def text(self) -> str:
        """For people."""
        numbered = [f"{number:2}. {word:<10}" for number, word in enumerate(self.words, 1)]
        rows = [numbered[at : at + 4] for at in range(0, len(numbered), 4)]
        return "\n".join(
            [
                tr("Write these words on paper. They are shown once, and nothing else brings you back:"),
                "",
                *(f"  {'  '.join(row)}".rstrip() for row in rows),
                "",
                tr("Whoever has them can be you. This computer does not keep them."),
                tr("On a fresh computer: coterie recovery restore --invitation TICKET"),
                tr("The ticket is what `coterie invite` prints for somebody who was in a circle with you."),
            ]
        )

    def __repr__(self) -> str:
        return "Phrase(hidden)"


class Restored(msgspec.Struct, frozen=True):
    """What came back."""

    circles: list[str]
    contacts: int
    devices_removed: int
    missing: list[str]

    def text(self) -> str:
        """For people."""
        lines = [
            tr(
                "You are back: {contacts}, circles: {circles}.",
                contacts=count(self.contacts, "contact"),
                circles=", ".join(self.circles) or "none",
            )
        ]
        if self.devices_removed:
            lines.append(
                tr(
                    "Earlier computers that were removed: {devices_removed}.",
                    devices_removed=self.devices_removed,
                )
            )
        if self.missing:
            lines.append(
                tr(
                    "Nobody reachable had: {missing}. Run this again when members are there.",
                    missing=", ".join(self.missing),
                )
            )
        return "\n".join(lines)


class RecoveryLine(msgspec.Struct, frozen=True):
    """Whether there is a phrase, and who holds what comes back with it."""

    has_phrase: bool
    holders: int

    def text(self) -> str:
        """For people."""
        if not self.has_phrase:
            return tr("There is no recovery phrase yet: `coterie recovery new` makes one.")
        return tr(
            "There is a recovery phrase. Computers that got your sealed list since this node runs: "
            "{holders}.",
            holders=self.holders,
        )
