"""The disks of a node: which of its own it gives to whom, and which of others it uses."""

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from coterie.access.names import TICKET
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.disks import nbd_server
from coterie.apps.disks.attached import Attached, open_stream
from coterie.apps.disks.devices import Devices
from coterie.apps.disks.image import check_unused, look_at
from coterie.apps.disks.messages import (
    NAME_CHARS_MAX,
    PROTOCOL,
    Done,
    Eject,
    Join,
    List,
    Listed,
    Open,
    Opened,
    Refused,
)
from coterie.apps.disks.messages import Shared as Told
from coterie.apps.disks.nbd import Export
from coterie.apps.disks.records import AttachedRecord, Settings, SharedRecord
from coterie.apps.disks.results import AttachedDisk, DiskLine, DiskSaid, SharedDisk, UsbList
from coterie.apps.disks.serving import KIND, Serving, resource_of
from coterie.apps.disks.trees import Trees
from coterie.errors import AccessDenied, CoterieError, LimitExceeded, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.quantity import say_bytes
from coterie.services.data.quota import read_quota
from coterie.services.data.records import Records
from coterie.services.directory.core import Offered
from coterie.services.local import Port
from coterie.texts import tr
from coterie.transfer.read_cache import ReadCache

TOLD_MAX = 256  # computers that are told of one disk
SHARED_MAX = 256  # guess: more than anybody looks through
ATTACHED_MAX = 64  # each may hold 64 MB of memory while it is used
CACHE_BYTES = 2_000_000_000  # guess: as what is read of others' files
LIST_S = 3.0  # for others to say what disks they have; guess
ASKED_MAX = 64  # computers at once
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}\Z")

log = logging.getLogger(__name__)


class DisksService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.data.settings(Settings)
        cache_bytes = read_quota({"cache": settings.cache}, "cache", CACHE_BYTES, "disks")
        self._shared: Records[SharedRecord] = context.data.records("shared", SharedRecord, "disk")
        self._records: Records[AttachedRecord] = context.data.records("attached", AttachedRecord, "disk")
        self._cache = ReadCache(context.data.folder / "cache", cache_bytes)
        self._serving = Serving(
            context,
            lambda: self._shared,
            Trees(context.data.folder / "trees"),
            self._join,
            self._heard,
            self._shared.save,
        )
        self._attached: dict[str, Attached] = {}  # by the id of the record
        self._devices = Devices(context.local, context.data.folder)
        self._port: Port | None = None

    async def start(self) -> None:
        """Serve what was shared before, attach what was attached before."""
        self._context.access.name_resources(KIND, self._resolve, self._say)
        self._context.net.offer(KIND, self._offered)
        for record in self._shared:
            self._permit(record)
        self._context.net.register(PROTOCOL, self._serving.handle, strangers=True)
        self._context.net.watch(self._came, lambda peer: None)
        if self._context.net.reach is None:
            return
        for attached in self._records:
            self._begin(attached)
        if self._attached:
            self._context.jobs.start(self._devices_again(), "making the devices of attached disks again")

    async def close(self) -> None:
        """What is on disk stays; devices go."""
        await self._devices.close()
        for attached in self._attached.values():
            await attached.close()
        self._serving.close()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "shared": len(self._shared),
            "attached": len(self._records),
            "used by others": sum(len(self._serving.users(record)) for record in self._shared),
        }

    # ---- what others may use here

    async def share(
        self, target: Path, to: Sequence[str], *, write: bool = False, name: str = ""
    ) -> SharedDisk:
        """Let those named in `to` use the disk, drive or image at `target`; the same name again changes it.

        Raises:
            NotFound: nothing is there, or nobody is called so.
            UsageError: it is no disk, or no such name can be.
            StorageError: it cannot be opened, or is in use here and to be written.
            LimitExceeded: SHARED_MAX are shared.
        """
        form, size = await asyncio.to_thread(look_at, target)
        if write:
            await asyncio.to_thread(check_unused, target)
        name = name or _name_of(target)
        if not NAME.match(name):
            raise UsageError(
                tr(
                    "'{name}' cannot be the name of a disk: letters, digits, dots and hyphens, at most {most}; "
                    "say one with --as",
                    name=name[:50],
                    most=NAME_CHARS_MAX,
                )
            )
        subjects = list(dict.fromkeys(self._context.people.subject(who) for who in to))
        if not subjects or TICKET in subjects:
            raise UsageError(tr("say for whom: --to with a person, a circle, contacts or anyone"))
        known = next((record for record in self._shared if record.name == name), None)
        if known is None and len(self._shared) >= SHARED_MAX:
            raise LimitExceeded(
                tr(
                    "{shared_max} disks are shared already; end some with `coterie disk unshare`",
                    shared_max=SHARED_MAX,
                )
            )
        if known is not None and known.path != str(target):
            await self._serving.end(known)
        record = SharedRecord(
            id=known.id if known else self._shared.new_id(),
            created=known.created if known else time.time(),
            name=name,
            path=str(target),
            to=subjects,
            write=write,
            told=known.told if known else [],
            last_writer=known.last_writer if known else "",
        )
        self._shared.save(record)
        self._permit(record)
        for peer in self._context.people.here() or ():
            self._came(peer)
        if form == "image" and not write and self._context.net.reach is not None:
            self._serving.prepare(record)
        return self._shared_line(record, form, size)

    def _came(self, peer: PeerId) -> None:
        """A computer is here: tell it of disks that are there for it, each once."""
        access = self._context.access
        for record in self._shared:
            is_new = str(peer) not in record.told and len(record.told) < TOLD_MAX
            if (
                is_new
                and self._context.people.is_known(peer)
                and access.explain(peer, Verb.READ, resource_of(record)).allowed
            ):
                self._context.jobs.start(self._tell(peer, record), "telling a computer of a disk")

    async def _tell(self, peer: PeerId, record: SharedRecord) -> None:
        with contextlib.suppress(CoterieError, TimeoutError):  # it hears of it when it comes again
            form, size = await asyncio.to_thread(look_at, Path(record.path))
            resource = resource_of(record)
            may_write = self._context.access.explain(peer, Verb.WRITE, resource).allowed
            told = Told(record.name, form, size, may_write)
            await self._context.net.ask(peer, PROTOCOL, told, timeout_s=LIST_S)
            for now in self._shared:  # what is kept: it may have been shared anew meanwhile
                if now.id == record.id and str(peer) not in now.told:
                    now.told.append(str(peer))
                    self._shared.save(now)

    def _heard(self, peer: PeerId, told: Told) -> None:
        """Somebody who is known shares a disk with this computer."""
        if not (self._context.people.is_known(peer) and NAME.match(told.name)):
            raise PeerError("a disk that is shared by a stranger, or under no name")
        place = f"{self._context.people.name_of(peer)}/{told.name}"
        self._context.tell.say(
            tr("A disk is there for you: {place}, {size}", place=place, size=say_bytes(max(0, told.size))),
            key=f"disk {peer.short}/{told.name}",
        )

    async def unshare(self, text: str) -> DiskSaid:
        """End it: who uses it loses it at once. Raises `NotFound`."""
        record = self._choose(text)
        self._shared.remove(record.id)
        self._context.access.policy.withdraw(resource_of(record))
        self._context.access.review()
        await self._serving.end(record)
        return DiskSaid(
            record.name,
            tr("{name} is no longer shared; {path} is untouched", name=record.name, path=record.path),
        )

    async def eject(self, text: str) -> DiskSaid:
        """Open the drive of a disc of this computer, or of another one.

        Raises:
            NotFound, AccessDenied, UsageError, StorageError: there is none, it is not for us, or stays closed.
            TransportError, PeerError: the other computer.
        """
        if "/" in text and not text.startswith("/"):
            peer, name = self._place(text)
            answer = await self._context.net.ask(peer, PROTOCOL, Eject(name), timeout_s=nbd_server.OPEN_S)
            if isinstance(answer, Refused):
                raise NotFound(answer.reason)
            if not isinstance(answer, Done):
                raise PeerError(f"{peer.short} did not answer as coterie does")
        else:
            await self._serving.eject(self._choose(text))
        return DiskSaid(text, tr("{disk} is ejected", disk=text))

    async def usb(self, address: str) -> UsbList:
        """What USB/IP offers at an address. Errors as `usb.devices_at`."""
        from coterie.apps.disks import usb

        return UsbList(address, await usb.devices_at(address), await asyncio.to_thread(usb.kernel_note))

    # ---- what this node uses of others

    async def attach(self, place: str, *, write: bool = False, device: bool = False) -> AttachedDisk:
        """Have a disk of a peer at a socket here, and as a device where that is asked for.

        Raises:
            NotFound, AccessDenied: there is no such disk for this node, or another computer uses it.
            TransportError, PeerError: the peer was not reached, or not understood.
            UsageError, StorageError: no device can be made of it here.
            LimitExceeded: ATTACHED_MAX are attached.
        """
        peer, name = self._place(place)
        if peer == self._context.me.peer_id:
            raise UsageError(tr("{place} is a disk of this computer itself", place=place))
        if device:
            self._devices.check()
        await self._check(peer, name, write=write)
        known = next((r for r in self._records if (r.peer, r.name) == (str(peer), name)), None)
        if known is not None and known.write != write:
            await self._forget(known)
            known = None
        if known is None:
            if len(self._records) >= ATTACHED_MAX:
                raise LimitExceeded(
                    tr("{attached_max} disks are attached already; detach some", attached_max=ATTACHED_MAX)
                )
            known = AttachedRecord(
                id=self._records.new_id(), created=time.time(), peer=str(peer), name=name, write=write
            )
            is_new = True
        else:
            is_new = False
        attached = self._attached.get(known.id) or self._begin(known)
        try:
            await attached.open()
            if device:
                await self._devices.make(known.id, attached.name, self._uri(attached), write=write)
                known.device = True
        except BaseException:
            if is_new:
                await self._forget(known)
            raise
        self._records.save(known)
        return self._attached_line(attached)

    async def detach(self, place: str) -> DiskSaid:
        """Programs here have it no more. Raises `NotFound`; StorageError: its device is in use."""
        peer, name = self._place(place)
        for record in self._records:
            if (record.peer, record.name) == (str(peer), name):
                await self._forget(record)
                return DiskSaid(place, tr("{place} is detached", place=place))
        raise NotFound(tr("{place} is not attached here; `coterie disks` lists what is", place=place))

    async def all(self) -> list[DiskLine]:
        """The disks of this computer, those that it uses, and those that others who are here offer."""
        lines = []
        for record in self._shared:
            line = await asyncio.to_thread(self._look, record)
            lines.append(
                DiskLine(
                    place=record.name,
                    form=line.form,
                    size=line.size,
                    write=record.write,
                    use="shared",
                    where=record.path,
                    users=line.users,
                    state=line.state,
                    given=self._serving.given_bytes(record),
                )
            )
        places: dict[str, DiskLine] = {}
        for attached in self._attached.values():
            told = self._attached_line(attached)
            places[attached.name] = DiskLine(
                place=attached.name,
                form=attached.opened.form if attached.opened else "",
                size=told.size,
                write=told.write,
                use="attached",
                where=told.device or told.uri,
                state=told.state,
            )
        for offered in await self._others():
            known = places.get(offered.place)
            if known is None:
                places[offered.place] = offered
            elif not known.form:
                places[offered.place] = msgspec.structs.replace(known, form=offered.form, size=offered.size)
        return lines + [places[place] for place in sorted(places)]

    def users(self, record: SharedRecord) -> list[str]:
        """The names of who uses a disk now."""
        name_of = self._context.people.name_of
        return [
            name_of(using.peer) + (" (writes)" if using.kind == "write" else "")
            for using in self._serving.users(record)
        ]

    def given_bytes(self, name: str) -> int:
        """What this computer itself gave of a disk since it was started."""
        return self._serving.given_bytes(self._choose(name))

    async def _others(self) -> list[DiskLine]:
        people = self._context.people
        here = [peer for peer in people.here() or () if people.is_known(peer)][:ASKED_MAX]
        found = await asyncio.gather(*(self._disks_of(peer) for peer in here))
        return [line for lines in found for line in lines]

    async def _disks_of(self, peer: PeerId) -> list[DiskLine]:
        try:
            answer = await self._context.net.ask(peer, PROTOCOL, List(), timeout_s=LIST_S)
        except (CoterieError, TimeoutError) as error:
            log.debug("%s does not say what disks it has: %s", peer.short, error)
            return []
        if not isinstance(answer, Listed):
            return []
        name = self._context.people.name_of(peer)
        return [
            DiskLine(place=f"{name}/{disk}", form=form, size=size, write=write, use="offered")
            for disk, form, size, write in answer.disks
            if NAME.match(disk) and form in ("image", "disk", "disc") and size >= 0
        ]

    async def _check(self, peer: PeerId, name: str, *, write: bool) -> None:
        stream, opened = await open_stream(self._context, peer, Open(name, "ask"))
        await stream.end()
        if write and not opened.may_write:
            raise AccessDenied(
                tr(
                    "you may read this disk, not write it: its owner shares it with --write, or attach it without"
                )
            )

    # ---- programs here

    def names(self) -> Sequence[str]:
        """See `nbd_server.Exports`."""
        return sorted(attached.name for attached in list(self._attached.values()))

    async def open(self, name: str) -> tuple[Export, Attached]:
        """See `nbd_server.Exports`."""
        found = [one for one in self._attached.values() if name in (one.name, "")]
        if len(found) != 1:
            if name:
                raise NotFound(tr("no disk is attached as '{name}'", name=name))
            raise NotFound(tr("several disks are attached: say which, as COMPUTER/NAME"))
        return await found[0].open(), found[0]

    def used(self, volume: nbd_server.Volume, by: int) -> None:
        """See `nbd_server.Exports`."""
        if isinstance(volume, Attached):
            volume.clients += by

    def _begin(self, record: AttachedRecord) -> Attached:
        name = f"{self._context.people.name_of(PeerId.parse(record.peer))}/{record.name}"
        attached = self._attached[record.id] = Attached(self._context, record, self._cache, name)
        if self._port is None:
            self._port = self._open_port()
        return attached

    def _open_port(self) -> Port:
        local, note = self._context.local, tr("disks of others, for programs that speak NBD")
        if hasattr(socket, "AF_UNIX"):
            try:
                return local.unix("nbd", self._serve, note=note)
            except UsageError as error:  # the path of the home is too long
                log.info("the disks of others are at a TCP port: %s", error)
        return local.tcp("nbd-tcp", self._serve, note=note)

    async def _serve(self, client: socket.socket) -> None:
        await nbd_server.serve(self, client)

    async def _join(self, stream: Stream, join: Join) -> None:
        """Another reader of an image that is attached here."""
        for attached in self._attached.values():
            blocks, others = attached.blocks, attached.others
            if blocks is not None and others is not None and join.root and blocks.root == join.root:
                await others.serve(stream)
                return
        await stream.send(Refused(tr("that image is not read here")))

    async def _forget(self, record: AttachedRecord) -> None:
        await self._devices.remove(record.id)
        if any(known.id == record.id for known in self._records):
            self._records.remove(record.id)
        attached = self._attached.pop(record.id, None)
        if attached is not None:
            await attached.close()
        if not self._attached and self._port is not None:
            port, self._port = self._port, None
            await port.close()

    async def _devices_again(self) -> None:
        for record in list(self._records):
            attached = self._attached.get(record.id)
            if not record.device or attached is None:
                continue
            try:
                await self._devices.make(record.id, attached.name, self._uri(attached), write=record.write)
            except CoterieError as error:
                attached.state = str(error)
                self._context.tell.say(
                    tr("The device of {disk} was not made again: {error}", disk=attached.name, error=error),
                    key=f"device {record.id}",
                )

    # ---- small things

    def _place(self, text: str) -> tuple[PeerId, str]:
        who, slash, name = text.partition("/")
        if not (who and slash and name):
            raise UsageError(tr("a disk of somebody is called COMPUTER/NAME, like anna/backup"))
        return self._context.people.find(who), name

    def _offered(self, peer: PeerId) -> list[Offered]:
        return [Offered(resource=resource_of(r), name=r.name, note=_note(r)) for r in self._shared]

    def _permit(self, record: SharedRecord) -> None:
        verbs = Verb.READ | Verb.WRITE if record.write else Verb.READ
        self._context.access.policy.permit_only(record.to, verbs, resource_of(record))
        self._context.access.review()

    def _choose(self, text: str) -> SharedRecord:
        found = next((record for record in self._shared if text in (record.name, record.id)), None)
        if found is None:
            raise NotFound(tr("no disk is shared as '{text}'; `coterie disks` lists what is", text=text))
        return found

    def _resolve(self, path: str) -> str:
        name, slash, rest = path.partition("/")
        return self._choose(name).id + slash + rest

    def _say(self, path: str) -> str:
        one, slash, rest = path.partition("/")
        return next((record.name for record in self._shared if record.id == one), one) + slash + rest

    def _look(self, record: SharedRecord) -> SharedDisk:
        try:
            return self._shared_line(record, *look_at(Path(record.path)))
        except CoterieError as error:
            return self._shared_line(record, "", 0, state=str(error))

    def _shared_line(self, record: SharedRecord, form: str, size: int, *, state: str = "ready") -> SharedDisk:
        return SharedDisk(
            id=record.id,
            name=record.name,
            path=record.path,
            form=form,
            size=size,
            to=[self._context.people.say(subject) for subject in record.to],
            write=record.write,
            users=self.users(record),
            place=f"{self._context.me.name}/{record.name}",
            state=state,
        )

    def _uri(self, attached: Attached) -> str:
        address = self._port.address if self._port is not None else ""
        if self._port is not None and self._port.number:
            return f"nbd://{address}/{quote(attached.name)}"
        return f"nbd+unix:///{quote(attached.name)}?socket={quote(address)}" if address else ""

    def _attached_line(self, attached: Attached) -> AttachedDisk:
        opened: Opened | None = attached.opened
        return AttachedDisk(
            place=attached.name,
            uri=self._uri(attached),
            socket=self._port.address if self._port is not None else "",
            size=opened.size if opened is not None else 0,
            write=attached.record.write,
            device=self._devices.device(attached.record.id),
            programs=attached.clients,
            state=attached.state,
        )


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).strip("-._")[:NAME_CHARS_MAX]


def _note(record: SharedRecord) -> str:
    return "write" if record.write else ""
