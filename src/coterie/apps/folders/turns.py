"""The work on the disk of one live folder, turn by turn: look where there are hints, record, read, and bring.

One task. What takes long runs in threads. Nothing is done at intervals: the kernel, other computers, or a time that
was set wakes it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from coterie.apps.context import Context
from coterie.apps.folders import names
from coterie.apps.folders.asking import KEEP
from coterie.apps.folders.book import Noted
from coterie.apps.folders.brake import waits_too
from coterie.apps.folders.bringing import Bringing
from coterie.apps.folders.hints import NONE
from coterie.apps.folders.ignore import SHARED_NAME
from coterie.apps.folders.parts import Parts
from coterie.apps.folders.planner import Rules, paths_of
from coterie.apps.folders.reading import Hashed
from coterie.apps.folders.root import FolderGone
from coterie.apps.folders.steps import Agree, Hash, Record, Wait
from coterie.apps.folders.watch import Watch
from coterie.errors import CoterieError
from coterie.memory import give_back
from coterie.tasks import Tasks
from coterie.texts import tr

HASHED_MAX = 1_024  # files that are recorded while others are still read; guess
MUCH = 2_000  # names and paths: after so many memory is given back, once nothing is left to do; guess


class Turns:
    """Of one folder. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        parts: Parts,
        bringing: Bringing,
        *,
        name: Callable[[], str],
        rules: Callable[[], Rules],
        news: Callable[[], None],
        recover: Callable[[], None],
    ) -> None:
        """`name()`: what the folder is called. `rules()`: what holds on the disk now. `news()`: others are to hear.

        `recover()`: blocking, before the disk is looked at first.
        """
        self._context = context
        self._folder = parts.folder
        self._agenda = parts.agenda
        self._book = parts.book
        self._disk = parts.disk
        self._lying = parts.lying
        self._bringing = bringing
        self._asking = parts.asking
        self._leaving_out = parts.leaving_out
        self._name = name
        self._rules = rules
        self._news = news
        self._recover = recover
        self._orders: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()
        self._begins_anew = False
        self._has_asked = False
        self._planned = MUCH  # since memory was given back
        self.cancel = threading.Event()
        """Set: files are read no further."""
        self.gone = ""
        """Why the folder is away; "" while it is there."""
        self.has_looked = False
        """At all of the folder, since it began."""

    async def run(self, tasks: Tasks) -> None:
        """Work until cancelled. `tasks`: for what watches the disk."""
        watch = Watch(str(self._disk.path), tasks)
        following: asyncio.Task[None] | None = None
        try:
            await self._enter()
            following = asyncio.ensure_future(self._follow(watch))
            while True:
                await self._agenda.wake.wait()
                self._agenda.wake.clear()
                await self._turn(watch)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await watch.close()

    async def between(self, work: Callable[[], None]) -> None:
        """Do blocking work in a thread while nothing else is done with the disk. Raises what it raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._orders.append((work, done))
        self._agenda.wake.set()
        await done

    async def _obey(self) -> None:
        """Do what others wait for."""
        while self._orders:
            work, done = self._orders.popleft()
            try:
                await asyncio.to_thread(work)
            except CoterieError as error:
                if not done.done():
                    done.set_exception(error)
                if isinstance(error, FolderGone):
                    raise
            else:
                if not done.done():
                    done.set_result(None)

    def look_anew(self) -> None:
        """What is left out has changed: look at everything, as if nothing but what was agreed had been seen."""
        self._begins_anew = True
        self._agenda.look_at_all()

    async def _enter(self) -> None:
        """Begin with what the disk had last."""
        while True:
            try:
                await asyncio.to_thread(self._begin)
            except FolderGone as error:
                self._went(str(error))
                await self._agenda.wake.wait()
                self._agenda.wake.clear()
            else:
                break
        self._agenda.touch(await asyncio.to_thread(self._book.data.undone))

    def _begin(self) -> None:
        """In a thread."""
        self._recover()
        self._disk.remember(self._book.known())

    async def _follow(self, watch: Watch) -> None:
        while True:
            self._agenda.look(await watch.next())

    async def _turn(self, watch: Watch) -> None:
        """Look where there are hints, and do all that follows from it."""
        agenda = self._agenda
        try:
            await self._obey()
            hints = agenda.take_hints()
            if self._begins_anew:
                self._begins_anew = False
                agenda.add_paths(await asyncio.to_thread(self._anew))
            if hints != NONE:
                began = time.monotonic()
                scan = await asyncio.to_thread(self._disk.scan, hints)
                if hints.is_all:
                    watch.scan_took(time.monotonic() - began)
                    self.has_looked = True
                self._came_back()
                agenda.add_paths(self._book.freed(scan.found))
                if scan.found:
                    agenda.ask_again()
                    agenda.add_local(self._asking.here.taken())
                agenda.add_local(self._book.found(scan.found, scan.moved))
                for to, local in scan.folders.items():
                    await self._moved_here(local, to)
                if SHARED_NAME in scan.found:
                    await self._read_patterns()
                for local, seconds in scan.again.items():
                    agenda.look_later(local, seconds)
            await self._plan_all()
            if self._asking.answer and not agenda.is_due:  # all that was found waits with the rest, by now
                await self._answer()
                await self._plan_all()
        except FolderGone as error:
            self._went(str(error))
            return
        self._ask()
        if agenda.is_done:
            agenda.idle.set()
            if self._planned >= MUCH:
                self._planned = 0
                await asyncio.to_thread(self._rest)
        elif not agenda.is_gathering:
            agenda.wake.set()

    def _rest(self) -> None:
        """In a thread: give back the memory of much that was done. Some 20 ms."""
        self._lying.shrink()
        give_back()

    def _anew(self) -> list[str]:
        """In a thread: forget what was seen otherwise; all paths."""
        self._book.changed.clear()
        self._disk.remember(self._book.known())
        return self._book.data.paths()

    async def _read_patterns(self) -> None:
        if await asyncio.to_thread(self._leaving_out.read):
            self.look_anew()

    async def _plan_all(self) -> None:
        """What is due, or until the disk is to be looked at again."""
        agenda = self._agenda
        if agenda.is_long:
            await self._weigh()
        while agenda.is_due:
            while (move := agenda.next_move()) is not None:
                await self._move(*move)
            if self._asking.is_again:
                await self._weigh()
            await self._plan()
            if agenda.has_hints:
                break

    async def _moved_here(self, local: str, to: str) -> None:
        """The owner renamed a folder in which all is as it was: one note where that can be, else path by path."""
        if not self._asking.is_waiting and await asyncio.to_thread(self._noted_move, local, to):
            self._agenda.ask_again()
            self._agenda.add_paths([above for above in [names.parent(local)] if above])
            self._planned = MUCH
            self._news()
            return
        found, moved = self._disk.renamed(local, to)
        self._agenda.add_paths(self._book.freed(found))
        self._agenda.ask_again()
        self._agenda.add_local(self._book.found(found, moved))

    def _noted_move(self, local: str, to: str) -> bool:
        """In a thread."""
        me = bytes(self._context.me.peer_id)
        return self._book.moved_here(self._rules(), local, to, me, int(time.time() * 1000))

    async def _move(self, source: str, target: str) -> None:
        """Others moved a folder as a whole: so is it on this disk where that can be, else path by path."""
        ready = None
        try:
            if not self._asking.is_waiting:
                ready = await asyncio.to_thread(self._book.to_move, self._rules(), source, target)
            if ready is not None:
                await self._bringing.bring([ready.step])
        except FolderGone:
            self._agenda.add_move(source, target)
            raise
        self._planned = MUCH
        if ready is not None and self._book.moves.is_done(ready):
            self._agenda.add_paths([*ready.paths, *(above for above in [names.parent(source)] if above)])
            return
        for path in (source, target):
            self._agenda.add_paths(await asyncio.to_thread(self._book.data.paths_at, path))

    async def _weigh(self) -> None:
        """Find out whether the owner is to be asked, before a part of what is to be done is done."""
        agenda = self._agenda
        local = agenda.all_local if self.has_looked else None
        paths = agenda.all_paths if not agenda.is_gathering else None
        await asyncio.to_thread(self._asking.weigh, self._book, self._rules(), local, paths)

    # ---- one plan

    async def _plan(self) -> None:
        local, paths = self._agenda.next_local(), self._agenda.next_paths()
        try:
            await self._do_planned(local, paths)
        except FolderGone:
            self._agenda.add_local(local)
            self._agenda.add_paths(paths)
            raise

    async def _do_planned(self, local: Sequence[str], paths: Sequence[str]) -> None:
        agenda = self._agenda
        self._planned += len(local) + len(paths)
        rules = self._rules()
        steps = await asyncio.to_thread(self._book.plan, rules, local, paths)
        agenda.now_waits(paths, {step.path: step.code for step in steps if isinstance(step, Wait)})
        self._bringing.forget_wanted(paths)
        notes = [step for step in steps if isinstance(step, Record | Agree)]
        hashes = [step.local for step in steps if isinstance(step, Hash)]
        if bool(notes) and await asyncio.to_thread(lambda: self._asking.stops_here(self._book, notes)):
            self._asking.here.put_aside([step.local for step in notes if waits_too(step)])
            notes = [step for step in notes if not waits_too(step)]
        if notes:
            me = bytes(self._context.me.peer_id)
            noted = await asyncio.to_thread(self._note, notes, me)
            agenda.add_local(noted.local)
            agenda.ask_again()
            agenda.add_paths(noted.paths)
            asked = set(paths)  # what others changed of them was passed over while the owner's came first
            agenda.add_paths(step.path for step in notes if isinstance(step, Record) and step.path in asked)
            self._news()
        if hashes:
            await self._hash(hashes)
            agenda.add_paths(path for step in steps if isinstance(step, Hash) for path in paths_of(step))
            if self._asking.here.hold is not None:  # they may have what went elsewhere
                agenda.add_local(self._asking.here.taken())
        done = [step for step in steps if not isinstance(step, Record | Agree | Hash | Wait)]
        if bool(done) and await asyncio.to_thread(lambda: self._asking.stops_there(self._book, done)):
            self._asking.there.put_aside(
                [path for step in done if waits_too(step) for path in paths_of(step)]
            )
            done = [step for step in done if not waits_too(step)]
        if done and await self._bringing.bring(done):
            await self._read_patterns()
        await asyncio.to_thread(self._asking.save, self._book.data)

    def _note(self, notes: list[Record | Agree], me: bytes) -> Noted:
        """In a thread."""
        noted = self._book.note(notes, me, int(time.time() * 1000))
        self._asking.passed_here(self._book, notes)
        return noted

    async def _hash(self, locals_: Sequence[str]) -> None:
        agenda = self._agenda
        for at in range(0, len(locals_), HASHED_MAX):
            part = locals_[at : at + HASHED_MAX]
            for one in await asyncio.to_thread(self._hashed, part):
                if isinstance(one, Hashed):
                    agenda.add_local([one.local])
                    agenda.failed.pop(one.local, None)
                elif one.again_s is not None:
                    agenda.look_later(one.local, one.again_s)
                else:
                    agenda.failed[one.local] = tr(
                        "{path} cannot be read: {reason}", path=one.local, reason=one.reason
                    )
            await self._plan_recorded(part)

    async def _plan_recorded(self, part: Sequence[str]) -> None:
        """Record what was just read, so that others have it while more is read."""
        if len(part) == HASHED_MAX and not self._book.data.agreed(part):  # what changed is weighed together
            await self._plan()

    def _hashed(self, locals_: Sequence[str]) -> list[Any]:
        """In a thread: read these, and tell the content store where their chunks lie."""
        results = list(self._disk.hash(locals_, self.cancel))
        hashed = [one for one in results if isinstance(one, Hashed)]
        for one in hashed:
            self._book.hashed(one.local, one.print, one.content)
        self._lying.note([(one.local, one.chunks) for one in hashed])
        self._book.data.save(contents=[(one.content, one.chunks) for one in hashed])
        return results

    # ---- what the owner is asked

    async def _answer(self) -> None:
        """The owner has said what is to become of what waits."""
        answer, self._asking.answer = self._asking.answer, ""
        if answer == KEEP:
            me = bytes(self._context.me.peer_id)
            local, paths = await asyncio.to_thread(self._asking.keep, self._book, self._rules(), me)
            self._news()
        else:
            local, paths = self._asking.go_on()
        self._agenda.add_local(local)
        self._agenda.add_paths(paths)

    def _ask(self) -> None:
        """Say that something waits, and no longer so when nothing does."""
        if self._has_asked != self._asking.is_waiting:
            self._has_asked = self._asking.is_waiting
            key = f"asks {self._folder.hex()}"
            if self._has_asked:
                self._context.tell.say(self._asking.text(self._name()), key=key)
            else:
                self._context.tell.withdraw(key)

    def _went(self, why: str) -> None:
        if self.gone != why:
            self.gone = why
            self._context.tell.say(why, key=f"gone {self._folder.hex()}")

    def _came_back(self) -> None:
        if self.gone:
            self.gone = ""
            self._context.tell.say(
                tr("the live folder {name} goes on", name=self._name()), key=f"gone {self._folder.hex()}"
            )
