"""What people choose of one live folder: what is always here, what on demand, and what is to come now."""

from collections.abc import Sequence
from functools import partial

from coterie.apps.folders.engine import Engine
from coterie.apps.folders.results import ChoiceLine, FolderSaid
from coterie.errors import UsageError
from coterie.quantity import count, say_bytes
from coterie.texts import tr


class Choosing:
    """Of one folder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def select(
        self,
        patterns: Sequence[str],
        *,
        on_demand: bool = False,
        remove: bool = False,
        larger_than: int | None = None,
        kinds: Sequence[str] | None = None,
    ) -> list[ChoiceLine]:
        """What of it is to be on this disk; what is given is chosen before. Raises UsageError, NotFound."""
        selecting = self._engine.selecting
        if remove and (on_demand or not patterns):
            raise UsageError(tr("say which patterns to remove, and nothing else about them"))
        if on_demand and not patterns:
            raise UsageError(tr("say what is to be on demand: a path or pattern; '*' is all"))
        if patterns and remove:
            await self._engine.select(lambda: selecting.forget(patterns))
        elif patterns:
            await self._engine.select(
                lambda: selecting.choose(patterns, "on demand" if on_demand else "pinned")
            )
        if larger_than is not None or kinds is not None:
            await self._engine.select(lambda: selecting.limit(larger_than, kinds))
        return selecting.lines()

    async def get(self, paths: Sequence[str]) -> FolderSaid:
        """Have contents come that are on demand. Raises NotFound."""
        files = size = 0
        for path in paths:
            found = await self._engine.select(partial(self._engine.selecting.ask, path))
            files, size = files + found[0], size + found[1]
        if not files:
            return FolderSaid(self._engine.name, tr("all of it is here"))
        said = tr("{files}, {size} come", files=count(files, "file"), size=say_bytes(size))
        return FolderSaid(self._engine.name, said)
