"""The service of live folders: which there are, who is in them, and one engine for each."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders.answering import Answering
from coterie.apps.folders.api import Live, LiveState
from coterie.apps.folders.asking import GO_ON, KEEP
from coterie.apps.folders.book import OutdatedHome
from coterie.apps.folders.choosing import Choosing
from coterie.apps.folders.content import CONTENTS, FolderContents
from coterie.apps.folders.deeds import Deeds
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.finding import PREVIEW, offer_called, row_called
from coterie.apps.folders.keeping import Keeping
from coterie.apps.folders.kept_folders import KeptFolders
from coterie.apps.folders.kept_messages import KEEPING
from coterie.apps.folders.links import Links
from coterie.apps.folders.live_places import LivePlaces
from coterie.apps.folders.members import Members
from coterie.apps.folders.membership import FOLDER_ID_BYTES, KIND, FolderRecord, Role, resource_of
from coterie.apps.folders.renewing import Renewing
from coterie.apps.folders.results import (
    ConflictLine,
    EntryLine,
    EventLine,
    FolderLine,
    FolderMade,
    FolderSaid,
    IgnoredLine,
    JoinPlan,
    VersionLine,
)
from coterie.apps.folders.serving import Serving
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.standing import counted, left
from coterie.apps.folders.store import STEPS, FolderData, FolderRow, FoldersStore
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.quantity import read_size
from coterie.services.directory.core import Offered
from coterie.texts import tr
from coterie.transfer.read_cache import ReadCache
from coterie.wire.frames import Message

FOLDERS_MAX = 64  # of one computer; guess: each is watched, and costs memory
PREVIEW_S = 30.0  # to hear what is in a folder before it is joined
ON, PAUSED = "on", "paused"
KEEP_ROLE = Role.KEEP.name.lower()

log = logging.getLogger(__name__)


class WouldMix(UsageError):
    """The place where a folder is to be joined is not empty: says what would happen."""

    code = "not_empty"


class FoldersService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.data.settings(Settings)
        self._store = FoldersStore(context.data.database(STEPS))
        self._members = Members(context, self._store, self._record_changed)
        self._links = Links(
            context,
            members=self._everybody,
            up=self._up,
            down=self._down,
            said=self._said,
        )
        self._engines: dict[bytes, Engine] = {}
        self._kept = KeptFolders(context, self._store, self._links, self._members, self._engines)
        self._rows: dict[bytes, FolderRow] = {}
        self._renewing = Renewing(self._store)
        self._followers: list[PeerId] | None = None
        cache = ReadCache(context.data.folder / "reading", read_size(self._settings.reading_cache))
        self.places = places = LivePlaces(context, self._engines, self._live, cache)
        self.live, self.listing, self.look, self.open = places.live, places.listing, places.look, places.open
        self.writing, self.touched = places.writing, places.touched
        self.remove, self.move = places.remove, places.move
        self.contents = FolderContents(
            context.me.peer_id, context.blobs.store, context.access, context.blobs.rates.up
        )
        self._serving = Serving(
            context,
            self._engines,
            self._kept,
            self._members,
            answering=Answering(self._engines, context, self.contents),
            heard_record=self._heard_record,
            hear=self._heard_by,
        )

    async def start(self) -> None:
        """Go on with every folder. What takes long goes on in the background."""
        for row in self._store.folders():
            if row.state == PREVIEW:  # was shown, and never confirmed
                self._store.remove(row.number)
            else:
                self._rows[row.id] = row
        self._members.load()
        self._context.net.offer(KIND, self._offered)
        self._context.access.name_resources(KIND, self._resource_named, self._name_of_resource)
        if self._context.net.reach is None:
            return
        self._context.net.register(wire.PROTOCOL, self._serving.serve)
        self._context.net.register(CONTENTS, self.contents.handle)
        self._context.net.register(KEEPING, self._kept.serve)
        self._context.access.watch(self._who_changed)
        for row in self._rows.values():
            self._begin(row)
        self._links.start()

    async def close(self) -> None:
        """Stop; everything is on disk already."""
        self._links.close()
        await asyncio.gather(*(engine.close() for engine in self._engines.values()), self._kept.close())
        self.contents.close()
        self.places.close()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`; nothing while there is nothing."""
        return {"folders": len(self._rows)} if self._rows else {}

    @property
    def engines(self) -> list[Engine]:
        """Of the folders that are not paused."""
        return list(self._engines.values())

    # ---- lists

    def lines(self) -> list[FolderLine]:
        """The folders here by name, then those that could be joined."""
        here = [self._line(row) for row in self._rows.values() if row.state != PREVIEW]
        offered = [
            FolderLine(
                name=f"{self._context.people.name_of(PeerId(record.owner))}/{record.name}",
                state="offered",
                id=record.id.hex(),
            )
            for record, _ in self._members.offers()
            if record.id not in self._rows
        ]
        return [*sorted(here, key=lambda line: line.name.casefold()), *offered]

    def entries(self, folder: str, place: str) -> list[EntryLine]:
        """What is in a folder, here or not."""
        return self._deeds(folder).entries(place.strip("/"))

    def conflicts(self, folder: str) -> list[ConflictLine]:
        """Versions side by side; of all folders where none is named."""
        engines = [self._engine(folder)] if folder else list(self._engines.values())
        return [line for engine in engines for line in Deeds(self._context, engine).conflicts()]

    async def versions(self, folder: str, path: str) -> list[VersionLine]:
        """What was replaced or removed here."""
        return await asyncio.to_thread(self._deeds(folder).versions, path.strip("/"))

    # ---- begin and end

    async def new(self, path: Path, whom: Sequence[str], name: str) -> FolderMade:
        """Make a live folder of `path`."""
        self._check_room(path)
        wanted = name or path.name
        if any(
            self._members.record(row.id).name.casefold() == wanted.casefold() for row in self._rows.values()
        ):
            raise UsageError(
                tr("there is a live folder '{name}' already: choose another --name", name=wanted)
            )
        folder = os.urandom(FOLDER_ID_BYTES)
        record, raw = self._members.begin(folder, wanted, list(whom))
        engine = await self._add(folder, path, raw, ON)
        engine.start()
        self._members_changed()
        return FolderMade(name=record.name, id=folder.hex(), path=str(path), to=self._members.said(record))

    async def join(
        self, folder: str, path: Path, *, yes: bool, quota: int = 0, on_demand: bool = False
    ) -> FolderMade:
        """Have a folder of others here, too; of one that cannot be read here, at most `quota` bytes.

        `on_demand`: no contents come before they are asked for.

        Raises:
            WouldMix: something is at `path`; says what would happen. Not with `yes`.
            kept_folders.AsksQuota: the folder is to be kept without being read, and no `quota` is given.
        """
        record = offer_called(self._context.people, self._members, self._rows, folder)
        self._check_room(path)
        raw = self._members.offered_raw(record.id)
        if self._members.role_in(record) == KEEP_ROLE:
            row = self._new_row(record.id, path, raw, ON)
            await self._kept.add(row, record, quota)
            self._rows[row.id] = row
            self._members.joined(row.id, raw)
            self._begin(row)
            self._members_changed()
            return FolderMade(name=record.name, id=record.id.hex(), path=str(path), joined=True)
        is_full = await asyncio.to_thread(_is_full, path)
        engine = await self._add(record.id, path, raw, PREVIEW if is_full and not yes else ON)
        if is_full and not yes:
            try:
                plan = await self._preview(engine, record, path)
            finally:
                await self._forget(record.id)
                await asyncio.to_thread(engine.unmark)
            raise WouldMix(tr("{what}. To do that: --yes", what=plan.text()))
        if on_demand:
            await self.choosing(record.id.hex()).select(["*"], on_demand=True)
        engine.start()
        self._members_changed()
        self._context.tell.withdraw(f"offer {record.id.hex()}")
        return FolderMade(name=record.name, id=record.id.hex(), path=str(path), joined=True)

    def set_quota(self, folder: str, quota: int) -> FolderSaid:
        """Keep at most so much of a folder that cannot be read here."""
        return self._kept.set_quota(self._row(folder).id, quota)

    async def leave(self, folder: str) -> FolderSaid:
        """Follow a folder no longer; its files stay. What was only kept for others goes."""
        row = self._row(folder)
        name = self._members.record(row.id).name
        if self._kept.is_one(row):
            await self._kept.drop(row)
            await self._forget(row.id)
            return FolderSaid(name, tr("{path} keeps nothing any more", path=row.path))
        engine, unsent = self._engines.get(row.id), self._line(row).unsent
        await self._forget(row.id)
        if engine is not None:
            await asyncio.to_thread(engine.unmark)
        return FolderSaid(name, left(row.path, unsent))

    async def pause(self, folder: str) -> FolderSaid:
        """Neither send nor take changes."""
        row = self._row(folder)
        row.state = PAUSED
        self._store.change(row)
        ids = self._ids(row.id)
        await self._end(row)
        self._serving.leave(*ids)
        name = self._members.record(row.id).name
        return FolderSaid(name, tr("{name} is paused: coterie folder resume {name}", name=name))

    async def resume(self, folder: str) -> FolderSaid:
        """Go on."""
        row = self._row(folder)
        row.state = ON
        self._store.change(row)
        await self._end(row)
        self._begin(row)
        name = self._members.record(row.id).name
        return FolderSaid(name, tr("{name} goes on", name=name))

    # ---- members

    def add_member(self, folder: str, whom: str) -> FolderSaid:
        """Let somebody in."""
        row = self._row(folder)
        said, role = self._members.add(row.id, whom)
        name = self._members.record(row.id).name
        self._members_changed()
        return FolderSaid(
            name, tr("{whom} may join {name} ({role})", whom=said, name=name, role=role.name.lower())
        )

    def remove_member(self, folder: str, whom: str) -> FolderSaid:
        """Take somebody out."""
        row = self._row(folder)
        said = self._members.remove(row.id, whom)
        name = self._members.record(row.id).name
        self._members_changed()
        return FolderSaid(name, tr("{whom} follows {name} no longer", whom=said, name=name))

    # ---- what one engine does

    async def resolve(self, folder: str, path: str, version: str) -> FolderSaid:
        """Settle a conflict."""
        engine = self._engine(folder)
        await Deeds(self._context, engine).resolve(path, version)
        return FolderSaid(engine.name, tr("{path}: version {version} counts", path=path, version=version))

    async def restore(self, folder: str, version: str) -> FolderSaid:
        """Put an earlier version back."""
        engine = self._engine(folder)
        path = await Deeds(self._context, engine).restore(version)
        return FolderSaid(engine.name, tr("{path} is as it was", path=path))

    async def ignore(self, folder: str, patterns: Sequence[str], *, remove: bool) -> list[IgnoredLine]:
        """What is left out; `patterns` are added to those of this computer before, or removed from them."""
        engine = self._engine(folder)
        if patterns:
            (engine.leaving_out.remove if remove else engine.leaving_out.add)(patterns)
            engine.look_anew()
        return engine.leaving_out.lines()

    def choosing(self, folder: str) -> Choosing:
        """What of a folder is to be on this disk."""
        return Choosing(self._engine(folder))

    def go_on(self, folder: str) -> FolderSaid:
        """Let happen what waits."""
        engine = self._asked(folder)
        engine.answer(GO_ON)
        return FolderSaid(engine.name, tr("{name} goes on", name=engine.name))

    def keep(self, folder: str) -> FolderSaid:
        """Undo what waits."""
        engine = self._asked(folder)
        if engine.asking.there.hold is not None and not engine.can_write:
            raise UsageError(
                tr("you may only read {name}: what others removed cannot be kept for all", name=engine.name)
            )
        engine.answer(KEEP)
        return FolderSaid(engine.name, tr("{name} keeps its files as they were", name=engine.name))

    def _asked(self, folder: str) -> Engine:
        engine = self._engine(folder)
        if not engine.asking.is_waiting:
            raise UsageError(
                tr("nothing waits in {name}: `coterie folders` says how it stands", name=engine.name)
            )
        return engine

    async def undo(self, folder: str, change: str) -> list[EventLine]:
        """What came from others; with `change`, that one is taken back."""
        deeds = self._deeds(folder)
        return await (deeds.undo(change) if change else deeds.events())

    # ---- the network

    async def _heard_by(
        self, engine: Engine | Keeping, folder: bytes, peer: PeerId, message: Message
    ) -> None:
        """Have an engine hear it; where others know more of this copy than it does, it goes on as another."""
        try:
            await engine.hear(peer, message)
        except OutdatedHome:
            if engine in (self._engines.get(folder), self._kept.get(folder)):
                if not self._renewing.may(folder):
                    raise
                await self._renew(self._rows[folder])

    async def _renew(self, row: FolderRow) -> None:
        """Others know writes of this copy that it does not know: it goes on as another, and begins anew with all."""
        log.warning("%s goes on as another copy: others know more of this one", row.path)
        await self._end(row)
        try:
            await asyncio.to_thread(self._renewing.renew, row)
        finally:
            self._begin(row)

    def _heard_record(self, peer: PeerId, raw: bytes) -> None:
        record = self._members.heard(peer, raw)
        if record is not None and record.id not in self._rows:
            who = self._context.people.name_of(PeerId(record.owner))
            self._context.tell.say(
                tr(
                    "{who} has the live folder {name} for you: coterie folder join {who}/{name} PATH",
                    who=who,
                    name=record.name,
                ),
                key=f"offer {record.id.hex()}",
            )

    def _up(self, peer: PeerId) -> None:
        folders = [row.id for row in self._rows.values() if self._members.may(peer, Verb.LIST, row.id)]
        for at in range(0, len(folders), wire.RECORDS_MAX):
            part = folders[at : at + wire.RECORDS_MAX]
            self._links.send(peer, wire.Records([self._members.raw(folder) for folder in part]))
        self._kept.tell_keys(peer, list(self._rows))
        for folder in folders:
            if engine := self._engines.get(folder) or self._kept.get(folder):
                engine.peer_up(peer)

    def _said(self, peer: PeerId, message: Message) -> None:
        self._serving.said(peer, message)

    def _down(self, peer: PeerId) -> None:
        for engine in (*self._engines.values(), *self._kept):
            engine.peer_down(peer)

    def _everybody(self) -> list[PeerId]:
        """Whoever is in a folder of this computer."""
        if self._followers is None:
            found = (peer for folder in self._rows for peer in self._members.with_folder(folder))
            self._followers = list(dict.fromkeys(found))
        return self._followers

    def _who_changed(self) -> None:
        """The policy: contacts, circles, records are not as they were."""
        self._followers = None
        for engine in (*self._engines.values(), *self._kept):
            engine.look_who()
        self._links.look_again()

    def _record_changed(self, folder: bytes, before: Sequence[PeerId]) -> None:
        """`before`: who followed it until now: they hear that they do no longer."""
        up = self._links.up
        self._members_changed()
        raw = self._members.raw(folder)
        for peer in dict.fromkeys([*up, *self._links.up]):
            if peer in before or self._members.may(peer, Verb.LIST, folder):
                self._links.send(peer, wire.Records([raw]))
        self._kept.use_keys(folder)

    def _members_changed(self) -> None:
        self._followers = None
        self._links.look_again()

    # ---- names

    def _offered(self, peer: PeerId) -> Iterable[Offered]:
        for row in self._rows.values():
            yield Offered(
                resource=resource_of(row.id), name=self._members.record(row.id).name, form="live folder"
            )

    def _resource_named(self, rest: str) -> str:
        with contextlib.suppress(NotFound):
            return self._row(rest).id.hex()
        return rest

    def _name_of_resource(self, rest: str) -> str:
        found = next((row for row in self._rows.values() if row.id.hex() == rest), None)
        return self._members.record(found.id).name if found is not None else rest

    def _row(self, text: str) -> FolderRow:
        """The folder here with this name, id or path."""
        return row_called(self._rows.values(), self._members, text)

    def _engine(self, text: str) -> Engine:
        row = self._row(text)
        engine = self._engines.get(row.id)
        if engine is None:
            name = self._members.record(row.id).name
            if self._kept.is_one(row):
                raise UsageError(tr("{name} is kept for others, and cannot be read here", name=name))
            raise UsageError(tr("{name} is paused: coterie folder resume {name}", name=name))
        return engine

    def _deeds(self, text: str) -> Deeds:
        return Deeds(self._context, self._engine(text))

    # ---- rows and engines

    def _live(self) -> list[Live]:
        """For other apps."""
        found = []
        for row in self._rows.values():
            record, role = self._members.record(row.id), self._members.role_here(row.id)
            state: LiveState = (
                "ended" if not role or record.is_over else "on" if row.state == ON else "paused"
            )
            can_write = state == "on" and role in ("owner", "write")
            engine = self._engines.get(row.id)
            gone = engine.gone if engine is not None else ""
            if row.state != PREVIEW:
                found.append(
                    Live(row.id.hex(), record.name, Path(row.path), can_write and not gone, state, gone)
                )
        return found

    def _line(self, row: FolderRow) -> FolderLine:
        record, engine = self._members.record(row.id), self._engines.get(row.id)
        role = self._members.role_here(row.id)
        line = FolderLine(name=record.name, state=PAUSED, path=row.path, role=role, id=row.id.hex())
        if engine is not None:
            line = engine.line(line)
        elif (keeping := self._kept.get(row.id)) is not None:
            line = keeping.line(line)
        elif not self._kept.is_one(row):
            line = counted(line, FolderData(self._store, row))
        if not role or record.is_over:
            owner = self._context.people.name_of(PeerId(record.owner))
            note = tr("{owner} does not share it with this computer any more", owner=owner)
            line = msgspec.structs.replace(line, state="ended", note=note)
        return line

    def _check_room(self, path: Path) -> None:
        """Raise UsageError for a place that is part of another live folder, or holds one."""
        if len(self._rows) >= FOLDERS_MAX:
            raise UsageError(
                tr("{folders_max} live folders are the most: leave one first", folders_max=FOLDERS_MAX)
            )
        real = Path(os.path.realpath(path))
        for row in self._rows.values():
            other = Path(os.path.realpath(row.path))
            if real == other or real in other.parents or other in real.parents:
                raise UsageError(
                    tr("{path} and the live folder {other} would lie in each other", path=path, other=other)
                )
        home = Path(os.path.realpath(self._context.data.folder)).parent.parent
        if real == home or home in real.parents or real in home.parents:
            raise UsageError(tr("{path} has coterie's own data in it: choose another place", path=path))

    def _new_row(self, folder: bytes, path: Path, raw: bytes, state: str) -> FolderRow:
        return FolderRow(
            number=0,
            id=folder,
            path=str(Path(os.path.realpath(path))),
            replica=os.urandom(16),
            counter=0,
            record=raw,
            state=state,
            settings=b"",
            created=time.time(),
        )

    async def _add(self, folder: bytes, path: Path, raw: bytes, state: str) -> Engine:
        row = self._new_row(folder, path, raw, state)
        engine = Engine(
            self._context, self._store, row, self._settings, links=self._links, members=self._members
        )
        await asyncio.to_thread(engine.mark)
        self._store.add(row)
        engine.load()
        self._rows[folder] = row
        self._engines[folder] = engine
        up = self._links.up
        self._members.joined(folder, raw)
        for peer in up:
            if peer in self._links.up and self._members.may(peer, Verb.LIST, folder):
                self._links.send(peer, wire.Records([raw]))
                engine.peer_up(peer)
        return engine

    def _begin(self, row: FolderRow) -> None:
        if row.state != ON:
            return
        if self._kept.is_one(row):
            self._kept.begin(row)
            return
        engine = Engine(
            self._context, self._store, row, self._settings, links=self._links, members=self._members
        )
        engine.load()
        self._engines[row.id] = engine
        engine.start()
        for peer in self._links.up:
            if self._members.may(peer, Verb.LIST, row.id):
                engine.peer_up(peer)
            elif self._members.keeps(peer, row.id):
                engine.keepers.peer_up(peer)

    async def _end(self, row: FolderRow) -> None:
        """Take part no longer."""
        engine = self._engines.pop(row.id, None)
        if engine is not None:
            await engine.close()
        await self._kept.end(row.id)

    def _ids(self, folder: bytes) -> list[bytes]:
        """By which others know a folder: keepers by another one."""
        engine = self._engines.get(folder)
        return [folder, engine.keepers.folder] if engine is not None and engine.keepers.folder else [folder]

    async def _forget(self, folder: bytes) -> None:
        ids = self._ids(folder)
        engine, row = self._engines.pop(folder, None), self._rows.pop(folder)
        if engine is not None:
            await engine.close()
        self._store.remove(row.number)
        self._members.left(folder)
        self._serving.leave(*ids)
        self._members_changed()

    async def _preview(self, engine: Engine, record: FolderRecord, path: Path) -> JoinPlan:
        """Hear what is in the folder, look at what is at `path`, and say what would become of both."""
        self._members_changed()
        try:
            async with asyncio.timeout(PREVIEW_S):
                return await Deeds(self._context, engine).preview(record.name, path)
        except TimeoutError:
            who = self._context.people.name_of(PeerId(record.owner))
            raise CoterieError(
                tr("nobody with {name} answers now: try again when {who} is there", name=record.name, who=who)
            ) from None


def _is_full(path: Path) -> bool:
    with contextlib.suppress(OSError), os.scandir(path) as found:
        return any(True for _ in found)
    return False
