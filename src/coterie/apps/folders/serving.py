"""What others say on the streams that they open, about all live folders; and that one is followed no longer."""

from collections.abc import Awaitable, Callable, Mapping

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders.answering import Answering
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.keeping import Keeping
from coterie.apps.folders.kept_folders import KeptFolders
from coterie.apps.folders.members import Members
from coterie.apps.folders.membership import resource_of
from coterie.errors import CoterieError, PeerError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.wire.frames import Message

Hear = Callable[[Engine | Keeping, bytes, PeerId, Message], Awaitable[None]]


class Serving:
    """Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        engines: Mapping[bytes, Engine],
        kept: KeptFolders,
        members: Members,
        *,
        answering: Answering,
        heard_record: Callable[[PeerId, bytes], None],
        hear: Hear,
    ) -> None:
        """`engines`: of the folders that are not paused. `hear(engine, folder, peer, message)`: it may be heard."""
        self._context = context
        self._engines = engines
        self._kept = kept
        self._members = members
        self._answering = answering
        self._heard_record = heard_record
        self._hear_by = hear
        self._streams: dict[Stream, PeerId] = {}

    async def serve(self, stream: Stream) -> None:
        """One computer that tells, or asks."""
        peer = stream.peer
        try:
            while (message := await stream.receive()) is not None:
                if not isinstance(message, Message):
                    raise PeerError("no message of live folders")
                wire.check(message)
                match message:
                    case wire.Records(records):
                        for raw in records:
                            self._heard_record(peer, raw)
                    case wire.Keys(keys):
                        for raw in keys:
                            self._kept.heard_keys(raw)
                    case wire.Have():
                        await stream.send(await self._answering.have(peer, message))
                    case wire.Want():
                        await stream.send(await self._answering.want(peer, message))
                    case wire.Hello() | wire.Changes() | wire.Moved():
                        self._streams[stream] = peer
                        if not await self._hear(peer, message):
                            await stream.send(wire.Without(message.folder))
                    case _:
                        await self._hear(peer, message)
        finally:
            self._streams.pop(stream, None)

    def leave(self, *folders: bytes) -> None:
        """These are followed no longer, by whatever id others know them: whoever speaks of folders hears that."""
        for stream in list(self._streams):
            self._context.jobs.start(_say(stream, folders), "that a live folder is followed no longer")

    async def _hear(self, peer: PeerId, message: Message) -> bool:
        """Something about one folder, as far as `peer` may; False: it is not followed here now."""
        folder = wire.folder_of(message)
        if (real := self._members.keys.folder_of(folder)) is not None:
            engine: Engine | Keeping | None = self._engines.get(real)
            if engine is not None and self._members.keeps(peer, real):
                await self._hear_by(engine, real, peer, message)
            return engine is not None
        engine = self._engines.get(folder) or self._kept.get(folder)
        if engine is None:
            return False
        verb = Verb.WRITE if isinstance(message, wire.Changes | wire.Moved) else Verb.LIST
        if not self._context.access.decide(peer, verb, resource_of(folder)).allowed:
            return True
        if isinstance(message, wire.Hello):
            self._kept.tell_keys(peer, [folder])
        await self._hear_by(engine, folder, peer, message)
        return True

    def said(self, peer: PeerId, message: Message) -> None:
        """What a computer answers on the stream on which it is told things: that it does not follow a folder."""
        if not isinstance(message, wire.Without):
            return
        wire.check(message)
        real = self._members.keys.folder_of(message.folder)
        engine = self._engines.get(real or message.folder) or self._kept.get(message.folder)
        if engine is not None:
            engine.peer_without(peer)


async def _say(stream: Stream, folders: tuple[bytes, ...]) -> None:
    try:
        for folder in folders:
            await stream.send(wire.Without(folder))
    except CoterieError:
        return  # it has gone
