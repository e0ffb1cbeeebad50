"""What the content store holds, and what was removed from it, for people."""

import msgspec

from coterie.quantity import count, say_bytes
from coterie.texts import tr


class Usage(msgspec.Struct, frozen=True):
    """What the store holds. `referenced_bytes` lie in known files, `unique_bytes` of them are different.

    `unfinished` are the folders where unfinished downloads lie, with the bytes that each takes; the apps know them.
    """

    database_bytes: int
    roots: int
    files: int
    chunks: int
    referenced_bytes: int
    unique_bytes: int
    manifests: int
    unfinished: dict[str, int] = {}

    def text(self) -> str:
        """For people."""
        twice = self.referenced_bytes - self.unique_bytes
        lines = [
            tr(
                "known files           {files}, {referenced_bytes}, where they are",
                files=count(self.files, "file"),
                referenced_bytes=say_bytes(self.referenced_bytes),
            )
            + (tr(" ({twice} of it more than once)", twice=say_bytes(twice)) if twice else ""),
            tr(
                "index                 {database_bytes} for {chunks}",
                database_bytes=say_bytes(self.database_bytes),
                chunks=count(self.chunks, "chunk"),
            ),
            tr("unfinished downloads  {sum}", sum=say_bytes(sum(self.unfinished.values()))),
        ]
        lines += [
            tr("  {size} in {path}", size=say_bytes(size), path=path)
            for path, size in self.unfinished.items()
        ]
        if self.unfinished:
            lines.append(tr("`coterie transfers` lists them: resume one, or cancel it to have the room back"))
        return "\n".join(lines)


class Collected(msgspec.Struct, frozen=True):
    """What a garbage collection removed. `blobs`: files of content that apps had kept."""

    manifests: int
    files: int
    locations: int
    blobs: int = 0

    def text(self) -> str:
        """For people."""
        if not (self.manifests or self.files or self.locations or self.blobs):
            return tr("Nothing to remove: all that is stored is needed")
        left = (
            tr("Removed {contents} that no app keeps. ", contents=count(self.blobs, "content"))
            if self.blobs
            else ""
        )
        return left + (
            tr(
                "Removed from the index: {files}, {places} of chunks, {manifests}. Your files are untouched",
                files=count(self.files, "file"),
                places=count(self.locations, "place"),
                manifests=count(self.manifests, "manifest"),
            )
        )
