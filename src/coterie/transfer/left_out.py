"""What of one download does not arrive, and why."""

from coterie.errors import NotFound
from coterie.quantity import count
from coterie.texts import tr

FAILED_MAX = 10_000  # reported one by one


class LeftOut:
    """Entries as (path, why), of which at most FAILED_MAX are `listed`; `count` are all, with `files` in them."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, str]] = []
        self.count = 0
        self.files = 0

    @property
    def paths(self) -> set[str]:
        """Those that are listed."""
        return {path for path, _ in self.listed}

    @property
    def is_all_listed(self) -> bool:
        """Whether each is known by its path."""
        return self.count == len(self.listed)

    def add(self, path: str, why: str, *, files: int = 0) -> None:
        """One entry does not arrive, with `files` files that were to."""
        self.count += 1
        self.files += files
        if self.count <= FAILED_MAX:
            self.listed.append((path, why))

    def error(self, name: str, *, is_tree: bool) -> NotFound:
        """That no file arrived of `name`."""
        first, reason = min(self.listed)
        where = f" (none of {count(self.files, 'file')}; {first})" if is_tree else ""
        return NotFound(tr("{name} cannot be had{where}: {reason}", name=name, where=where, reason=reason))
