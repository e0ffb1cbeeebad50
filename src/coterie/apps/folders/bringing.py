"""Does what was planned on the disk of one live folder: with contents that came, or that lie here already."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coterie.apps.folders.applying import Done, Failed, NotSo, Result
from coterie.apps.folders.content import Arrived
from coterie.apps.folders.fetching import Fetching
from coterie.apps.folders.hints import hints_of
from coterie.apps.folders.ignore import SHARED_NAME
from coterie.apps.folders.parts import Parts
from coterie.apps.folders.planner import paths_left, paths_of
from coterie.apps.folders.steps import DiskStep, MakeLink, Print, Put, Remove, Step
from coterie.texts import tr


class Bringing:
    """Of one folder. Belongs to the event loop."""

    def __init__(self, parts: Parts, name_of: Callable[[bytes], str]) -> None:
        """`name_of`: what people here call a computer."""
        self._name_of = name_of
        self._book = parts.book
        self._disk = parts.disk
        self._lying = parts.lying
        self._agenda = parts.agenda
        self._asking = parts.asking
        self._selecting = parts.selecting
        self._staged: dict[bytes, Arrived] = {}
        self._waiting: dict[bytes, set[str]] = {}  # contents to come: for which paths
        self._wanted: dict[str, bytes] = {}  # paths, and the content that each waits for
        self._acting: asyncio.Future[tuple[list[Result], list[str], list[list[str]]]] | None = None
        self.fetching: Fetching
        """What is missing is asked for there."""

    async def close(self) -> None:
        """Return when nothing is being done any more."""
        if self._acting is not None:
            await asyncio.gather(self._acting, return_exceptions=True)

    def forget_wanted(self, paths: Sequence[str]) -> None:
        """What these paths waited for: if they still do, the plan says so."""
        for path in paths:
            content = self._wanted.pop(path, None)
            if content is None:
                continue
            waiting = self._waiting.get(content, set())
            waiting.discard(path)
            if not waiting:
                self._waiting.pop(content, None)
                self.fetching.forget([content])

    async def take(self, arrived: Mapping[bytes, Arrived]) -> None:
        """Bring contents that came to where they belong; returns when that was tried."""
        self._staged.update(arrived)
        self._agenda.touch([path for content in arrived for path in self._waiting.get(content, ())])
        await self._agenda.idle.wait()
        for content in arrived:
            self._staged.pop(content, None)

    async def bring(self, steps: Sequence[Step]) -> bool:
        """Do these steps, as far as their contents are here; ask for the others.

        Returns whether the patterns that all share may be others now.
        """
        ready: list[tuple[DiskStep, Path | None]] = []
        missing: dict[bytes, int] = {}
        puts = [step for step in steps if isinstance(step, Put) and step.value.content not in self._staged]
        if puts:
            await asyncio.to_thread(self._stage_known, puts)
        taken: set[bytes] = set()
        for step in steps:
            if not isinstance(step, Put):
                ready.append((step, None))  # type: ignore[arg-type]
                continue
            content = step.value.content
            arrived = self._staged.get(content)
            if arrived is None:
                missing[content] = step.value.size
                self._waiting.setdefault(content, set()).add(step.path)
                self._wanted[step.path] = content
            elif content in taken:  # a second place with the same content: made from the first
                self._agenda.add_paths([step.path])
            else:
                taken.add(content)
                ready.append((step, arrived.path))
        self.fetching.want(missing)
        if ready:
            await self._do(ready)
        return any(SHARED_NAME in (step.local, getattr(step, "to", "")) for step, _ in ready)

    async def _do(self, ready: Sequence[tuple[DiskStep, Path | None]]) -> None:
        """Do these steps, and note what was done: also where this is cancelled in between."""
        agenda = self._agenda
        self._acting = asyncio.ensure_future(asyncio.to_thread(self._act, ready))
        results, again, left = await asyncio.shield(self._acting)
        agenda.add_local(again)
        if any(isinstance(result, Done) for result in results):
            agenda.ask_again()
        for (step, _), result, paths in zip(ready, results, left, strict=True):
            match result:
                case Done():
                    if isinstance(step, Put):
                        self._staged.pop(step.value.content, None)
                    agenda.failed.pop(step.local, None)
                    agenda.add_paths(paths_of(step))
                case NotSo(locals_, folders):
                    agenda.plan_later(paths, 1.0)
                    agenda.look(hints_of(locals_, folders))
                case Failed(path, reason, _, again_s):
                    agenda.failed[path] = reason
                    agenda.plan_later(paths, again_s)

    def _act(
        self, ready: Sequence[tuple[DiskStep, Path | None]]
    ) -> tuple[list[Result], list[str], list[list[str]]]:
        """In a thread: what became of each step, the local names to look at again, and the paths that each leaves."""
        results = self._disk.apply(ready, self._source)
        done: list[tuple[DiskStep, Print | None]] = []
        came: list[tuple[str, bytes]] = []
        contents: list[tuple[bytes, bytes]] = []
        for (step, _), result in zip(ready, results, strict=True):
            if isinstance(result, Done):
                done.append((step, result.print))
                if isinstance(step, Put):
                    arrived = self._staged[step.value.content]
                    came.append((step.local, arrived.chunks))
                    contents.append((step.value.content, arrived.chunks))
        again = self._book.did(done, contents)
        tree = self._book.tree()
        left = [
            [] if isinstance(result, Done) else paths_left(step, tree)
            for (step, _), result in zip(ready, results, strict=True)
        ]
        self._selecting.came([step.path for step, _ in done if isinstance(step, Put)])
        self._lying.note(came)
        self._asking.passed_there(self._book, [step for step, _ in done])
        return results, again, left

    def _source(self, step: DiskStep) -> str:
        """In a thread: what happened to what a step replaces or removes, for who looks at its version."""
        match step:
            case Put(value=value) | MakeLink(value=value):
                return tr("changed by {who}", who=self._name_of(value.by))
            case Remove(path=path):
                by = self._book.last_by(path)
                return tr("removed by {who}", who=self._name_of(by)) if by else ""
        return ""

    def _stage_known(self, puts: Sequence[Put]) -> None:
        """In a thread: contents that lie on this computer already need not come."""
        wanted = {put.value.content: put.value.size for put in puts if put.value.content not in self._staged}
        self._staged.update(self._lying.made(wanted, self._disk.arrived))
