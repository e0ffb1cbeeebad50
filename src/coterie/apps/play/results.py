"""What the commands of `play` return: plain values that faces render."""

import msgspec

from coterie.quantity import say_bytes
from coterie.texts import tr


class PlayedLine(msgspec.Struct, frozen=True):
    """One file that can be played; `size` in bytes."""

    path: str
    size: int
    url: str


class Playing(msgspec.Struct, frozen=True):
    """What is played of a transfer: URLs for a media player on this computer, which may seek while it arrives."""

    id: str
    target: str
    files: list[PlayedLine]

    def text(self) -> str:
        """For people: each URL alone on a line, to copy or to pipe."""
        many = len(self.files) > 1
        lines = [
            tr(
                "It is kept in {target} (transfer {id}). Open in a media player on this computer:",
                target=self.target,
                id=self.id,
            ),
            "",
        ]
        for file in self.files:
            lines += [f"  {file.path} ({say_bytes(file.size)})"] * many + [f"  {file.url}"]
        return "\n".join(lines)
