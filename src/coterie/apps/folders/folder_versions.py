"""What a live folder had: versions of its files by path and time. Pure.

A version ends when something replaced or removed it. So what was at a path at some time is the version that ended
first after it, or what is there now.
"""

from collections.abc import Iterable, Sequence

import msgspec

from coterie.content.versions import Version


class PastFile(msgspec.Struct, frozen=True):
    """Something that was at `local` until `until` (seconds since 1970).

    Fields:
        id: of the version. `kind`: "file", "link" or "folder"; `size` in bytes.
        ended_by: from whom the change came that ended it.
    """

    id: str
    local: str
    until: float
    kind: str
    size: int
    ended_by: str


def past_files(versions: Iterable[Version], folder: bytes, why: str) -> list[PastFile]:
    """Of all `versions` those of the folder at this path (as the system has it), the latest first."""
    top = folder.rstrip(b"/") + b"/"
    found = [
        PastFile(
            one.id,
            one.path[len(top) :].decode("utf-8", "surrogateescape"),
            one.at,
            one.kind,
            one.content_bytes,
            one.source,
        )
        for one in versions
        if one.why == why and one.path.startswith(top)
    ]
    return sorted(found, key=lambda one: (-one.until, one.local, one.id))


def below(files: Iterable[PastFile], local: str) -> list[PastFile]:
    """Those at a local name, or in it; "": all."""
    return [one for one in files if not local or one.local == local or one.local.startswith(local + "/")]


def at_time(files: Sequence[PastFile], when: float) -> dict[str, PastFile]:
    """By local name, what was there at `when` (seconds since 1970) and is not any more.

    What is not named was as it is now, or was not there.
    """
    found: dict[str, PastFile] = {}
    for one in sorted(files, key=lambda one: (one.until, one.id)):
        if one.until > when:
            found.setdefault(one.local, one)
    return found
