"""What the content store holds, and what was removed from it, for people."""

import msgspec

from coterie.quantity import count, say_bytes


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
            f"known files           {count(self.files, 'file')}, {say_bytes(self.referenced_bytes)}, where they are"
            + (f" ({say_bytes(twice)} of it more than once)" if twice else ""),
            f"index                 {say_bytes(self.database_bytes)} for {count(self.chunks, 'chunk')}",
            f"unfinished downloads  {say_bytes(sum(self.unfinished.values()))}",
        ]
        lines += [f"  {say_bytes(size)} in {path}" for path, size in self.unfinished.items()]
        if self.unfinished:
            lines.append("`coterie transfers` lists them: resume one, or cancel it to have the room back")
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
            return "Nothing to remove: all that is stored is needed"
        left = f"Removed {count(self.blobs, 'content')} that no app keeps. " if self.blobs else ""
        return left + (
            f"Removed from the index: {count(self.files, 'file')}, {count(self.locations, 'place')} of chunks, "
            f"{count(self.manifests, 'manifest')}. Your files are untouched"
        )
