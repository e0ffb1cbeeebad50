"""Which contents of a live folder are to be on this disk: patterns, sizes and kinds, as its owner chose here. Pure.

A pattern names what is always here (pinned) or on demand; the last one that matches counts. Where none does, what is
larger than a size, or of certain kinds, is on demand, and all else comes. A choice is of one computer, and never told.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from pathspec import PathSpec

PATTERNS_MAX = 1_000  # of one folder; guess
PATTERN_CHARS_MAX = 1_000
PINNED, HERE, ON_DEMAND = "pinned", "here", "on demand"
KINDS: dict[str, frozenset[str]] = {  # by the end of a name
    "films": frozenset(["mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "mts", "wmv"]),
    "pictures": frozenset(
        [
            "jpg",
            "jpeg",
            "png",
            "gif",
            "webp",
            "avif",
            "heic",
            "bmp",
            "tif",
            "tiff",
            "raw",
            "dng",
            "cr2",
            "nef",
        ]
    ),
    "music": frozenset(["mp3", "ogg", "oga", "opus", "flac", "wav", "m4a", "aac"]),
    "archives": frozenset(["zip", "gz", "xz", "zst", "bz2", "7z", "tar", "rar", "iso", "img", "dmg"]),
}

What = Literal["pinned", "on demand"]


class Choices(msgspec.Struct, frozen=True):
    """What was chosen.

    Fields:
        patterns: as in .gitignore, each with what it says, in their order.
        larger_than: in bytes; 0: no bound. `kinds`: of KINDS.
    """

    patterns: tuple[tuple[str, What], ...] = ()
    larger_than: int = 0
    kinds: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether something may be on demand."""
        return bool(self.larger_than or self.kinds) or any(what == ON_DEMAND for _, what in self.patterns)

    def text(self) -> str:
        """To be kept; `read` reads it."""
        lines = [f"{what}\t{pattern}" for pattern, what in self.patterns]
        lines += [f"larger\t{self.larger_than}"] if self.larger_than else []
        return "\n".join([*lines, *(f"kind\t{kind}" for kind in self.kinds)])

    def with_patterns(self, patterns: Iterable[str], what: What) -> "Choices":
        """These say `what` from now on."""
        new = list(dict.fromkeys(patterns))
        kept = [one for one in self.patterns if one[0] not in new]
        return msgspec.structs.replace(self, patterns=(*kept, *((one, what) for one in new)))

    def without(self, patterns: Sequence[str]) -> "Choices":
        """These say nothing any more."""
        return msgspec.structs.replace(
            self, patterns=tuple(one for one in self.patterns if one[0] not in patterns)
        )


def read(text: str) -> Choices:
    """What `Choices.text` made; a line that is none is left out."""
    patterns: list[tuple[str, What]] = []
    larger_than, kinds = 0, []
    for line in text.splitlines():
        what, _, rest = line.partition("\t")
        if what == PINNED and is_pattern(rest):
            patterns.append((rest, "pinned"))
        elif what == ON_DEMAND and is_pattern(rest):
            patterns.append((rest, "on demand"))
        elif what == "larger" and rest.isascii() and rest.isdigit():
            larger_than = int(rest)
        elif what == "kind" and rest in KINDS:
            kinds.append(rest)
    return Choices(tuple(patterns[:PATTERNS_MAX]), larger_than, tuple(kinds))


class Chosen:
    """Choices, ready to be asked."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._specs = [(_spec(pattern), what) for pattern, what in reversed(choices.patterns)]
        self._ends = frozenset().union(*(KINDS[kind] for kind in choices.kinds))

    def of(self, path: str, size: int) -> str:
        """PINNED, HERE or ON_DEMAND: what a file at `path` with so many bytes is."""
        for spec, what in self._specs:
            if spec.match_file(path):
                return what
        if self.choices.larger_than and size > self.choices.larger_than:
            return ON_DEMAND
        if self._ends and path.rpartition(".")[2].lower() in self._ends:
            return ON_DEMAND
        return HERE


def matcher(patterns: Iterable[str]) -> PathSpec[Any]:
    """Matches what one of the patterns matches."""
    return PathSpec.from_lines("gitignore", patterns)


def is_pattern(text: str) -> bool:
    """Whether `text` can be a pattern here: one line that takes back nothing."""
    if not text.strip() or len(text) > PATTERN_CHARS_MAX or len(text.splitlines()) != 1 or text[0] in "!#":
        return False
    try:
        _spec(text)
    except ValueError:
        return False
    return True


def pattern_of(path: str) -> str:
    """The pattern that matches a path itself, with all below, and nothing else."""
    return "/" + "".join(f"\\{char}" if char in "\\*?[]!# " else char for char in path)


def _spec(pattern: str) -> PathSpec[Any]:
    return matcher([pattern])
