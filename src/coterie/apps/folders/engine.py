"""One live folder at work: looks at its disk, records, exchanges with others, fetches, and brings to the disk.

One task works on the disk, one fetches what is missing; what others send is merged as it comes. What takes long runs in
threads. Nothing is done at intervals: the kernel, other computers, or a time that was set wakes each.
"""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders.applying import Done, Failed, NotSo, Result
from coterie.apps.folders.asking import KEEP, Asking
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.content import Arrived
from coterie.apps.folders.disk import Disk
from coterie.apps.folders.fetching import Fetching
from coterie.apps.folders.hints import ALL, NONE, hints_of
from coterie.apps.folders.ignore import SHARED_NAME
from coterie.apps.folders.leaving_out import LeavingOut
from coterie.apps.folders.links import Links
from coterie.apps.folders.lying import Lying
from coterie.apps.folders.members import Members
from coterie.apps.folders.planner import Rules, paths_of
from coterie.apps.folders.reading import Hashed
from coterie.apps.folders.register import Value
from coterie.apps.folders.results import FolderLine
from coterie.apps.folders.root import MARKER, FolderGone, make_marker
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.standing import Standing
from coterie.apps.folders.steps import Agree, DiskStep, Hash, Print, Put, Record, Step, Wait
from coterie.apps.folders.store import FolderRow, FoldersStore
from coterie.apps.folders.telling import Telling
from coterie.apps.folders.timers import Timers
from coterie.apps.folders.watch import Watch
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Message

PLANNED_MAX = 5_000  # paths or names that are planned together; guess: some 100 ms
GATHER_S = 5.0  # so long a sender's further changes are waited for, before what came is planned
HASHED_MAX = 256  # files that are recorded while others are still read; guess

log = logging.getLogger(__name__)


class Engine:
    """One folder. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        store: FoldersStore,
        row: FolderRow,
        settings: Settings,
        *,
        links: Links,
        members: Members,
    ) -> None:
        self._context = context
        self._store = store
        self._row = row
        self._links = links
        self._members = members
        self.leaving_out = LeavingOut(store, row)
        self.asking = Asking(settings)
        self._begins_anew = False
        self._has_asked = False
        self._path = Path(row.path)
        self._tasks = Tasks()
        self.cancel = threading.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._hints = NONE
        self._local: dict[str, None] = {}
        self._paths: dict[str, None] = {}
        self._timers = Timers()
        self._staged: dict[bytes, Arrived] = {}
        self._waiting: dict[bytes, set[str]] = {}  # contents to come: for which paths
        self._wanted: dict[str, bytes] = {}  # paths, and the content that each waits for
        self._acting: asyncio.Future[list[Result]] | None = None
        self._waits: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._full = ""
        self._gone = ""
        self._has_looked = False
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self._members.record(self._row.id).name

    def name_of(self, by: bytes) -> str:
        """What people here call a computer; "" where none is named."""
        if not by:
            return ""
        me = self._context.me
        return me.name if by == bytes(me.peer_id) else self._context.people.name_of(PeerId(by))

    @property
    def replica(self) -> bytes:
        """This copy of the folder."""
        return self._row.replica

    @property
    def path(self) -> Path:
        """Where the folder lies: absolute, without links."""
        return self._path

    @property
    def can_write(self) -> bool:
        """Whether what is changed here counts."""
        return self._members.role_here(self._row.id) in ("owner", "write")

    @property
    def disk(self) -> Disk:
        """The disk of the folder."""
        return self._disk

    # ---- begin and end

    def load(self) -> None:
        """Read what is known."""
        self.leaving_out.read()
        self.book = FolderBook(self._store, self._row)
        self._telling = Telling(self._row, self.book, self._links, self._members, self._tasks, self._merged)
        self._lying = Lying(self._context.blobs.store, self._store, self.book.data, self._path)
        self._disk = Disk(self._path, self._row.id, self._row.replica, self._context.blobs.versions)
        self._fetching = Fetching(
            self._context,
            self._row.id,
            self._disk.arrived,
            givers=self._givers,
            take=self._take,
            failed=self._disk_failed,
        )

    def start(self) -> None:
        """Work in the background."""
        self._tasks.keep(self._work, f"live folder {self.name}")
        self._tasks.keep(self._fetching.run, f"contents of {self.name}")

    async def close(self) -> None:
        """Stop; everything is on disk already."""
        self.cancel.set()
        self._timers.close()
        if self._gathering is not None:
            self._gathering.cancel()
        await self._tasks.close()
        if self._acting is not None:
            await asyncio.gather(self._acting, return_exceptions=True)

    # ---- for the service

    def mark(self) -> None:
        """In a thread: make its folder the copy of this live folder that this computer has. Errors as `make_marker`."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                tr("{path} cannot be made: {strerror}", path=self._path, strerror=error.strerror)
            ) from error
        make_marker(self._path, self._row.id, self._row.replica)

    def unmark(self) -> None:
        """In a thread: make it an ordinary folder again."""
        shutil.rmtree(self._path / MARKER, ignore_errors=True)

    def line(self, line: FolderLine) -> FolderLine:
        """How it stands."""
        files, size = self.book.data.totals()
        troubles = [trouble.text() for trouble in self._tasks.troubles()]
        standing = Standing(
            gone=self._gone,
            full=self._full,
            asks=self.asking.text(self.name),
            has_looked=self._has_looked,
            is_done=self._is_done,
            missing=self._fetching.missing,
            members=[self._context.people.name_of(peer) for peer in self._telling.peers],
            notes=[*self._failed.values(), *self._waits.values(), *troubles],
        )
        return msgspec.structs.replace(
            standing.on(line),
            files=files,
            size=size,
            unsent=self.book.data.unsent(),
            conflicts=self.book.data.conflicts(),
        )

    def known(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed chunks of those contents that are here. In a thread."""
        return self._lying.known(contents)

    def answer(self, answer: str) -> None:
        """What is to become of what waits (`asking`)."""
        self.asking.answer = answer
        self._idle.clear()
        self._wake.set()

    async def write(self, path: str, value: Value) -> None:
        """Give a path this value, for everybody, instead of all that it has."""
        await asyncio.to_thread(self.book.settle, {path: value})
        self._telling.news()
        self.touch([path])

    async def heard(self) -> None:
        """Wait until what somebody else has is known here."""
        await self._telling.heard()

    def touch(self, paths: Collection[str]) -> None:
        """Plan these paths again."""
        self._paths.update(dict.fromkeys(paths))
        self._idle.clear()
        self._wake.set()

    # ---- others

    def peer_up(self, peer: PeerId) -> None:
        """`peer` can be told something."""
        self._telling.up(peer)
        self._fetching.look_again(peer)

    def peer_down(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._telling.down(peer)

    def look_who(self) -> None:
        """Who may follow has changed: what is under way to those that may not ends."""
        self._telling.look_who()
        self._fetching.look_again()

    async def hear(self, peer: PeerId, message: Message) -> None:
        """What `peer` said; returns when it may say more."""
        await self._telling.hear(peer, message)
        if isinstance(message, wire.Changes | wire.Hello):
            self._fetching.look_again(peer)

    def _givers(self) -> list[PeerId]:
        return self._telling.peers

    def _merged(self, paths: Sequence[str], has_more: bool) -> None:
        """Others said something about these: it is planned when no more comes right behind it."""
        self._paths.update(dict.fromkeys(paths))
        if paths:
            self._paths.update(self.asking.there.taken())
            self._idle.clear()
        if not has_more:
            self._planned()
        elif self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(GATHER_S, self._planned)

    def _planned(self) -> None:
        """What was merged is to be planned."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._wake.set()

    # ---- the disk

    async def _work(self) -> None:
        watch = Watch(str(self._path), self._tasks)
        following: asyncio.Task[None] | None = None
        try:
            await self._enter()
            following = asyncio.ensure_future(self._follow(watch))
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._turn(watch)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await watch.close()

    async def _enter(self) -> None:
        """Begin with what the disk had last."""
        while True:
            try:
                await asyncio.to_thread(lambda: self._disk.remember(self.book.known()))
            except FolderGone as error:
                self._went(str(error))
                await self._wake.wait()
                self._wake.clear()
            else:
                break
        paths = await asyncio.to_thread(self.book.data.undone)
        self._paths.update(dict.fromkeys(paths))
        self._idle.clear()
        self._wake.set()

    async def _follow(self, watch: Watch) -> None:
        while True:
            hints = await watch.next()
            self._hints = self._hints.joined(hints)
            self._wake.set()

    async def _read_patterns(self) -> None:
        if await asyncio.to_thread(self.leaving_out.read):
            self.look_anew()

    def look_anew(self) -> None:
        """What is left out has changed: look at everything, as if nothing but what was agreed had been seen."""
        self._begins_anew = True
        self._hints = ALL
        self._idle.clear()
        self._wake.set()

    def _anew(self) -> list[str]:
        """In a thread: forget what was seen otherwise; all paths."""
        self.book.changed.clear()
        self._disk.remember(self.book.known())
        return self.book.data.paths()

    @property
    def _is_done(self) -> bool:
        return not (self._local or self._paths)

    async def _turn(self, watch: Watch) -> None:
        """Look where there are hints, and do all that follows from it."""
        try:
            hints, self._hints = self._hints, NONE
            if self._begins_anew:
                self._begins_anew = False
                self._paths.update(dict.fromkeys(await asyncio.to_thread(self._anew)))
            if hints != NONE:
                began = time.monotonic()
                scan = await asyncio.to_thread(self._disk.scan, hints)
                if hints.is_all:
                    watch.scan_took(time.monotonic() - began)
                    self._has_looked = True
                self._came_back()
                self._paths.update(dict.fromkeys(self.book.freed(scan.found)))
                if scan.found:
                    self._local.update(self.asking.here.taken())
                for local in self.book.found(scan.found, scan.moved):
                    self._local[local] = None
                if SHARED_NAME in scan.found:
                    await self._read_patterns()
                for local, seconds in scan.again.items():
                    self._again(local, seconds)
            if self.asking.answer:
                await self._answer()
            is_gathering = self._gathering is not None
            while self._local or (self._paths and not is_gathering):
                await self._plan()
                if self._hints != NONE:
                    break
        except FolderGone as error:
            self._went(str(error))
            return
        self._ask()
        if self._is_done:
            self._idle.set()
        elif self._gathering is None:
            self._wake.set()

    async def _plan(self) -> None:
        local = _some(self._local)
        paths = _some(self._paths)
        rules = self._rules()
        steps = await asyncio.to_thread(self.book.plan, rules, local, paths)
        self._forget_wanted(paths)
        notes = [step for step in steps if isinstance(step, Record | Agree)]
        hashes = [step.local for step in steps if isinstance(step, Hash)]
        if bool(notes) and await asyncio.to_thread(lambda: self.asking.stops_here(self.book, notes)):
            self.asking.here.put_aside([one for one in local if one not in hashes])
            self._paths.update(dict.fromkeys(paths))
            if hashes:  # they may have what went elsewhere
                await self._hash(hashes)
                self._local.update(self.asking.here.taken())
            return
        if notes:
            me = bytes(self._context.me.peer_id)
            await asyncio.to_thread(self.book.note, notes, me, int(time.time() * 1000))
            self.asking.here.passed(notes, time.monotonic())
            self._paths.update(dict.fromkeys(path for step in notes for path in paths_of(step)))
            self._telling.news()
        if hashes:
            await self._hash(hashes)
        for step in steps:
            if isinstance(step, Wait):
                self._waits[step.path] = tr("{path} waits: {why}", path=step.path, why=step.code)
        done = [step for step in steps if not isinstance(step, Record | Agree | Hash | Wait)]
        if bool(done) and await asyncio.to_thread(lambda: self.asking.stops_there(self.book, done)):
            self.asking.there.put_aside([*paths, *(path for step in done for path in paths_of(step))])
            if self.asking.there.hold is None:  # others said more meanwhile
                self._paths.update(self.asking.there.taken())
        elif done:
            await self._apply(done)

    async def _answer(self) -> None:
        """The owner has said what is to become of what waits."""
        answer, self.asking.answer = self.asking.answer, ""
        if answer == KEEP:
            me = bytes(self._context.me.peer_id)
            local, paths = await asyncio.to_thread(self.asking.keep, self.book, self._rules(), me)
            self._telling.news()
        else:
            local, paths = self.asking.go_on()
        self._local.update(local)
        self._paths.update(paths)

    def _ask(self) -> None:
        """Say that something waits, and no longer so when nothing does."""
        if self._has_asked != self.asking.is_waiting:
            self._has_asked = self.asking.is_waiting
            key = f"asks {self._row.id.hex()}"
            if self._has_asked:
                self._context.tell.say(self.asking.text(self.name), key=key)
            else:
                self._context.tell.withdraw(key)

    def _forget_wanted(self, paths: Sequence[str]) -> None:
        """What these paths waited for: if they still do, the plan says so."""
        for path in paths:
            content = self._wanted.pop(path, None)
            if content is None:
                continue
            waiting = self._waiting.get(content, set())
            waiting.discard(path)
            if not waiting:
                self._waiting.pop(content, None)
                self._fetching.forget([content])

    async def _hash(self, locals_: Sequence[str]) -> None:
        for at in range(0, len(locals_), HASHED_MAX):
            part = locals_[at : at + HASHED_MAX]
            for one in await asyncio.to_thread(self._hashed, part):
                if isinstance(one, Hashed):
                    self._local[one.local] = None
                    self._failed.pop(one.local, None)
                elif one.again_s is not None:
                    self._again(one.local, one.again_s)
                else:
                    self._failed[one.local] = tr(
                        "{path} cannot be read: {reason}", path=one.local, reason=one.reason
                    )
            await self._plan_recorded(part)

    async def _plan_recorded(self, part: Sequence[str]) -> None:
        """Record what was just read, so that others have it while more is read."""
        if len(part) == HASHED_MAX:
            await self._plan()

    def _hashed(self, locals_: Sequence[str]) -> list[Any]:
        """In a thread: read these, and tell the content store where their chunks lie."""
        results = list(self._disk.hash(locals_, self.cancel))
        hashed = [one for one in results if isinstance(one, Hashed)]
        for one in hashed:
            self.book.hashed(one.local, one.print, one.content)
        self._lying.note([(one.local, one.chunks) for one in hashed])
        self.book.data.save(contents=[(one.content, one.chunks) for one in hashed])
        return results

    async def _apply(self, steps: Sequence[Step]) -> None:
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
                self._paths[step.path] = None
            else:
                taken.add(content)
                ready.append((step, arrived.path))
        self._fetching.want(missing)
        if ready:
            await self._do(ready)

    async def _do(self, ready: Sequence[tuple[DiskStep, Path | None]]) -> None:
        """Do these steps, and note what was done: also where this is cancelled in between."""
        self._acting = asyncio.ensure_future(asyncio.to_thread(self._act, ready))
        results = await asyncio.shield(self._acting)
        if any(SHARED_NAME in (step.local, getattr(step, "to", "")) for step, _ in ready):
            await self._read_patterns()
        for (step, _), result in zip(ready, results, strict=True):
            match result:
                case Done():
                    self.asking.there.passed([step], time.monotonic())
                    if isinstance(step, Put):
                        self._staged.pop(step.value.content, None)
                    self._failed.pop(step.local, None)
                    self._waits.pop(step.path, None)
                    self._paths.update(dict.fromkeys(paths_of(step)))
                    if step.local in self.book.changed:
                        self._local[step.local] = None
                case NotSo(paths):
                    self._hints = self._hints.joined(hints_of(paths))
                    self._later(paths_of(step), 1.0)
                    self._wake.set()
                case Failed(path, reason, _, again_s):
                    self._failed[path] = reason
                    self._later(paths_of(step), again_s)

    def _act(self, ready: Sequence[tuple[DiskStep, Path | None]]) -> list[Result]:
        """In a thread."""
        results = self._disk.apply(ready)
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
        self.book.did(done, contents)
        self._lying.note(came)
        return results

    def _stage_known(self, puts: Sequence[Put]) -> None:
        """In a thread: contents that lie on this computer already need not come."""
        wanted = {put.value.content: put.value.size for put in puts if put.value.content not in self._staged}
        self._staged.update(self._lying.made(wanted, self._disk.arrived))

    async def _take(self, arrived: Mapping[bytes, Arrived]) -> None:
        """Bring contents that came to where they belong."""
        self._staged.update(arrived)
        paths = [path for content in arrived for path in self._waiting.get(content, ())]
        self.touch(paths)
        await self._idle.wait()
        for content in arrived:
            self._staged.pop(content, None)

    def _rules(self) -> Rules:
        facts = self._disk.facts
        return Rules(
            names=facts.names,
            bits=facts.bits,
            links=facts.links,
            ignored=self.leaving_out.ignored,
            can_write=self.can_write,
            name_of=self.name_of,
        )

    # ---- what goes wrong

    def _again(self, local: str, seconds: float) -> None:
        """Look at this again."""
        self._timers.start(seconds, partial(self._hint, local))

    def _hint(self, local: str) -> None:
        self._hints = self._hints.joined(hints_of([local]))
        self._wake.set()

    def _later(self, paths: Sequence[str], seconds: float) -> None:
        """Plan these again."""
        self._timers.start(seconds, partial(self.touch, paths))

    def _disk_failed(self, why: str) -> None:
        self._full = why

    def _went(self, why: str) -> None:
        if self._gone != why:
            self._gone = why
            self._context.tell.say(why, key=f"gone {self._row.id.hex()}")

    def _came_back(self) -> None:
        if self._gone:
            self._gone = ""
            self._context.tell.say(
                tr("the live folder {name} goes on", name=self.name), key=f"gone {self._row.id.hex()}"
            )


def _some(waiting: dict[str, None]) -> list[str]:
    """Take up to PLANNED_MAX of them."""
    taken = list(waiting) if len(waiting) <= PLANNED_MAX else list(waiting)[:PLANNED_MAX]
    for one in taken:
        del waiting[one]
    return taken
