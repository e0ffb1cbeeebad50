"""What is kept for others who may come back from paper: of each depositor one deposit for each paper key, on disk.

Whoever deposits replaces its own deposit and nobody else's: rubbish stands beside the real thing, never in its place.
Files: the paper key and the depositor in hex; those of version 0.1 name the paper key only.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from coterie.decoding import decoder
from coterie.errors import StorageError
from coterie.identity.peer_id import KEY_BYTES
from coterie.private_file import write_private
from coterie.texts import tr

DEPOSITS_MAX = 1_024  # kept for others: a quarter of a gigabyte at most; guess
PER_PAPER_MAX = 32  # computers of a person at their bound, and as many others who say so
PER_DEPOSITOR_MAX = 4  # phrases of one person, the newest; guess

_NAME_CHARS = (2 * KEY_BYTES, 4 * KEY_BYTES + 1)

Place = tuple[bytes, bytes]
IsTheirs = Callable[[bytes, bytes], bool]
"""(paper, by): whether `by` is a computer of the person who lists the paper key, by the person's own word."""


class Deposited(msgspec.Struct, frozen=True, array_like=True):
    """One deposit: by whom, the depositor's own count, and what it sealed."""

    by: bytes
    version: int
    sealed: bytes


@decoder(StorageError, "a deposit")
def read_deposit(name: str, raw: bytes) -> tuple[bytes, Deposited]:
    """For which paper key a file of this name is, and what it holds. Raises `StorageError`."""
    return bytes.fromhex(name[: 2 * KEY_BYTES]), msgspec.msgpack.decode(raw, type=Deposited)


class Deposits:
    """All that is kept, oldest first."""

    def __init__(self, folder: Path, is_theirs: IsTheirs) -> None:
        """Raises `StorageError` when one on disk is damaged."""
        self._folder = folder
        self._is_theirs = is_theirs
        self._kept = self._load()

    def __len__(self) -> int:
        return len(self._kept)

    def papers(self) -> list[bytes]:
        """The paper keys for which there is something."""
        return list(dict.fromkeys(paper for paper, _ in self._kept))

    def keep(self, paper: bytes, deposited: Deposited) -> bool:
        """Keep it instead of the depositor's last one for `paper`; False where there is no room for strangers to it."""
        place = bytes(paper), bytes(deposited.by)
        if place not in self._kept and not self._make_room(*place):
            return False
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path(place), msgspec.msgpack.encode(deposited), noun="a deposit")
        self._kept.pop(place, None)
        self._kept[place] = deposited
        return True

    def of(self, paper: bytes) -> list[Deposited]:
        """Every deposit for `paper`: those of the person's own computers first, then by version, the highest first."""
        found = [deposited for (about, _), deposited in self._kept.items() if about == paper]
        return sorted(found, key=lambda d: (not self._is_theirs(paper, d.by), -d.version))

    def _make_room(self, paper: bytes, by: bytes) -> bool:
        """Room for one more: the depositor's own oldest gives way, then, for the person's own, a stranger's."""
        own = [place for place in self._kept if place[1] == by]
        if len(own) >= PER_DEPOSITOR_MAX:
            self._drop(own[0])
        of_paper = [place for place in self._kept if place[0] == paper]
        crowd = of_paper if len(of_paper) >= PER_PAPER_MAX else list(self._kept)
        if len(of_paper) < PER_PAPER_MAX and len(crowd) < DEPOSITS_MAX:
            return True
        strange = [place for place in crowd if not self._is_theirs(*place)]
        if not strange or not self._is_theirs(paper, by):
            return False
        self._drop(strange[0])
        return True

    def _drop(self, place: Place) -> None:
        self._path(place).unlink(missing_ok=True)
        del self._kept[place]

    def _path(self, place: Place) -> Path:
        return self._folder / f"{place[0].hex()}-{place[1].hex()}"

    def _load(self) -> dict[Place, Deposited]:
        found: dict[Place, Deposited] = {}
        for path in sorted(self._folder.glob("*")) if self._folder.is_dir() else []:
            if len(path.name) not in _NAME_CHARS:
                continue  # left from a write that a crash cut short
            try:
                paper, deposited = read_deposit(path.name, path.read_bytes())
            except (OSError, StorageError) as error:
                raise StorageError(
                    tr(
                        "{path} is damaged ({error}); move it away to go on without it",
                        path=path,
                        error=error,
                    )
                ) from error
            place = paper, deposited.by
            if path != self._path(place):
                path.rename(self._path(place))
            found[place] = deposited
        return found
