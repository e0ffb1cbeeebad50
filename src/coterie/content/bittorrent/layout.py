"""What a torrent from somebody else becomes on this disk: every name checked, every file in its place. Pure.

libtorrent has a guard of its own against names that lead out of a folder. This one does not rely on it: whatever
it is told, what it gives back are relative paths of checked parts, distinct on this computer.
"""

from collections.abc import Sequence

import msgspec

from coterie.content.chosen import Chosen
from coterie.content.names import ANY_NAME, RESERVED, NameRules, check_name, is_reserved, local_names
from coterie.errors import LimitExceeded, NotFound, PeerError
from coterie.texts import tr

FILES_MAX = 200_000  # guess: as many as a folder shared by torrent has had; each takes about 1 kB of memory
DEPTH_MAX = 128  # folders within each other, as in manifests
METAINFO_BYTES_MAX = 32 << 20  # guess: ten times the largest in use; libtorrent's own default is 10 MB
PIECES_MAX = 1 << 21  # libtorrent's default
DECODE_DEPTH_MAX = 200  # of lists in lists: `DEPTH_MAX` folders in the tree of version 2 need 131
DECODE_TOKENS_MAX = 8_000_000  # two for each value: `FILES_MAX` files with some 20 values each

Parts = tuple[str, ...]


class TorrentFile(msgspec.Struct, frozen=True):
    """One file as the torrent says: its number, path below the torrent's name, bytes, and what it is.

    `hidden` are those that only fill up pieces; `is_link` is a symbolic link.
    """

    index: int
    path: Parts
    size: int
    executable: bool = False
    hidden: bool = False
    is_link: bool = False


class Layout(msgspec.Struct, frozen=True):
    """Where everything goes.

    Fields:
        places: path below the target by the file's number; a torrent of one file has one with an empty path.
        wanted: numbers of the files to fetch; `size` is their bytes together.
        left_out: (path, reason) of what is not fetched because it cannot be.
        renamed: (path, reason) of what is called differently here.
        folders: every folder that `places` needs, parents first.
    """

    is_folder: bool
    places: dict[int, Parts]
    wanted: tuple[int, ...]
    executable: tuple[int, ...]
    size: int
    left_out: tuple[tuple[str, str], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


def lay_out(
    files: Sequence[TorrentFile],
    *,
    is_folder: bool,
    only: Sequence[str] = (),
    rules: NameRules = ANY_NAME,
) -> Layout:
    """Find every file a place. `only`: patterns ("*.ogg", "disc 1/*"), of which a file to fetch matches one.

    `rules`: of the disk.

    Raises:
        PeerError: a name that could mean something else than a file below the target.
        LimitExceeded: more files or deeper folders than any honest torrent has.
        NotFound: nothing matches `only`.
    """
    if len(files) > FILES_MAX:
        raise LimitExceeded(
            tr(
                "this torrent has {files:,} files; coterie takes at most {files_max:,}",
                files=len(files),
                files_max=FILES_MAX,
            )
        )
    real = [f for f in files if not f.hidden and not f.is_link and not any(map(is_reserved, f.path))]
    for file in real:
        _check(file, is_folder=is_folder)
    places = _places([file.path for file in real], rules) if is_folder else [() for _ in real]
    if not is_folder and len(real) != 1:
        raise PeerError(f"a torrent of one file that has {len(real)}")
    chosen = Chosen(only)
    chosen.look("/".join(file.path) for file in real)
    wanted = [file for file in real if not only or chosen.wants("/".join(file.path))]
    if not wanted:
        raise NotFound(
            tr("no file of this torrent matches {only}", only=", ".join(only))
            if only
            else tr("this torrent is empty")
        )
    return Layout(
        is_folder=is_folder,
        places={file.index: place for file, place in zip(real, places, strict=True)},
        wanted=tuple(file.index for file in wanted),
        executable=tuple(file.index for file in wanted if file.executable),
        size=sum(file.size for file in wanted),
        left_out=tuple(
            ("/".join(f.path), "a symbolic link" if f.is_link else RESERVED)
            for f in files
            if f.is_link or (not f.hidden and any(map(is_reserved, f.path)))
        ),
        renamed=tuple(
            ("/".join(file.path), f"it is called '{'/'.join(place)}' here")
            for file, place in zip(real, places, strict=True)
            if is_folder and place != file.path
        ),
    )


def _check(file: TorrentFile, *, is_folder: bool) -> None:
    if file.size < 0:
        raise PeerError("a file of less than no bytes")
    if is_folder and not file.path:
        raise PeerError("a file without a name")
    if len(file.path) > DEPTH_MAX:
        raise LimitExceeded(
            tr("this torrent has over {depth_max} folders within each other", depth_max=DEPTH_MAX)
        )
    for part in file.path:
        check_name(part)


class _Folder:
    """The entries of one folder in order: a file is a number, a folder another of these."""

    __slots__ = ("entries", "inner")

    def __init__(self) -> None:
        self.entries: list[tuple[str, int | _Folder]] = []
        self.inner: dict[str, _Folder] = {}

    def folder(self, name: str) -> "_Folder":
        if name not in self.inner:
            self.inner[name] = _Folder()
            self.entries.append((name, self.inner[name]))
        return self.inner[name]


def _places(paths: Sequence[Parts], rules: NameRules) -> list[Parts]:
    """Distinct local paths for `paths`. Two files of one name, or a file and a folder, get names of their own."""
    top = _Folder()
    for at, path in enumerate(paths):
        folder = top
        for part in path[:-1]:
            folder = folder.folder(part)
        folder.entries.append((path[-1], at))
    found: list[Parts] = [()] * len(paths)
    waiting: list[tuple[Parts, _Folder]] = [((), top)]
    while waiting:
        above, folder = waiting.pop()
        names = local_names([name for name, _ in folder.entries], rules)
        for name, (_, what) in zip(names, folder.entries, strict=True):
            if isinstance(what, _Folder):
                waiting.append(((*above, name), what))
            else:
                found[what] = (*above, name)
    return found
