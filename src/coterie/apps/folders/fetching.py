"""The contents of one folder that are missing here: fetched from whoever has them, many together, without an end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders import pacing
from coterie.apps.folders.content import WANTED_BYTES, WANTED_MAX, Arrived, ContentFetch, write_small
from coterie.apps.folders.keepers import Keepers
from coterie.errors import CoterieError, PeerError, StorageError
from coterie.identity import PeerId
from coterie.progress import Progress

ANSWER_S = 30.0  # for a giver to make a tree of what is wanted: it reads its database; guess
ASK_ALL_BYTES = 4 << 20  # from so much on, everybody is asked, and it comes from all at once; guess
AGAIN_S = 5.0  # after nobody gave anything, with somebody there; guess
AT_ONCE_MAX = 8  # computers that are asked for one tree

log = logging.getLogger(__name__)

Take = Callable[[Mapping[bytes, Arrived]], Awaitable[None]]


class Fetching:
    """What is wanted, and the task that gets it. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        folder: bytes,
        place: Path,
        *,
        givers: Callable[[], Collection[PeerId]],
        take: Take,
        failed: Callable[[str], None],
        keepers: Keepers,
    ) -> None:
        """`place`: a folder for what comes, on the file system of the live folder. `givers()`: who has the folder.

        `take` puts what came where it belongs; afterwards what is left of it is removed. `failed(why)`: this disk
        refuses; "" when it no longer does. `keepers`: who has it sealed, asked for what nobody else has.
        """
        self._context = context
        self._folder = folder
        self._place = place
        self._givers = givers
        self._take = take
        self._failed = failed
        self._keepers = keepers
        self._wanted: dict[bytes, int] = {}
        self._tried: dict[PeerId, set[bytes]] = {}
        self._wake = asyncio.Event()
        self._taking: asyncio.Task[None] | None = None
        self.done_bytes = 0
        """Of the tree that comes now."""

    @property
    def missing(self) -> int:
        """How many contents are still to come."""
        return len(self._wanted)

    def want(self, contents: Mapping[bytes, int]) -> None:
        """Get these, too (sizes in bytes by content id)."""
        news = {content: size for content, size in contents.items() if content not in self._wanted}
        if news:
            self._wanted.update(news)
            self._wake.set()

    def forget(self, contents: Collection[bytes]) -> None:
        """These are needed no more, or are here."""
        for content in contents:
            self._wanted.pop(content, None)

    def look_again(self, peer: PeerId | None = None) -> None:
        """`peer` may have more now; None: anybody may."""
        if peer is None:
            self._tried.clear()
        else:
            self._tried.pop(peer, None)
        self._wake.set()

    async def run(self) -> None:
        """Fetch until cancelled."""
        try:
            while True:
                self._wake.clear()
                if not await self._next():
                    is_hopeful = bool(self._wanted) and bool(self._givers() or self._keepers.peers)
                    try:
                        async with asyncio.timeout(AGAIN_S if is_hopeful else None):
                            await self._wake.wait()
                    except TimeoutError:
                        self._tried.clear()
        finally:
            if self._taking is not None:
                self._taking.cancel()
                await asyncio.gather(self._taking, return_exceptions=True)

    async def _next(self) -> bool:
        """Get some of what is wanted; False when nobody has any of it now."""
        for peer in list(self._givers()):
            part = self._part(self._tried.setdefault(peer, set()))
            if not part:
                continue
            peers = [peer]
            if sum(part.values()) >= ASK_ALL_BYTES:
                peers += [other for other in self._givers() if other != peer][: AT_ONCE_MAX - 1]
            try:
                if await self._fetch(part, peers):
                    self._failed("")
                    return True
            except StorageError as error:
                self._failed(str(error))
                return False
            except (CoterieError, TimeoutError) as error:
                log.info("contents of a live folder from %s: %s", peer.short, error)
                self._tried.setdefault(peer, set()).update(part)
        return await self._from_keepers()

    async def _from_keepers(self) -> bool:
        """Get some of what none of the givers has from a keeper."""
        for peer in self._keepers.peers:
            tried = self._tried.setdefault(peer, set())
            part = self._part(tried)
            if not part:
                continue
            tried.update(part)
            try:
                arrived = await self._keepers.fetch(peer, part, self._place)
            except StorageError as error:
                self._failed(str(error))
                return False
            await self._bring(part, None, arrived)
            if arrived:
                self._failed("")
                return True
        return False

    def _part(self, tried: Collection[bytes]) -> dict[bytes, int]:
        """Some of what is wanted, small enough to be shown soon."""
        part: dict[bytes, int] = {}
        size = 0
        for content, content_bytes in self._wanted.items():
            if content in tried:
                continue
            if part and size + content_bytes > WANTED_BYTES:
                break
            part[content] = content_bytes
            size += content_bytes
            if len(part) >= WANTED_MAX:
                break
        return part

    async def _fetch(self, part: Mapping[bytes, int], peers: Collection[PeerId]) -> bool:
        answers = await asyncio.gather(
            *(self._ask(peer, list(part)) for peer in peers), return_exceptions=True
        )
        by_root: dict[bytes, list[PeerId]] = {}
        of_root: dict[bytes, wire.Wanted] = {}
        small: dict[bytes, bytes] = {}
        for peer, answer in zip(peers, answers, strict=True):
            if isinstance(answer, wire.Wanted):
                self._tried.setdefault(peer, set()).update(answer.missing)
                small.update((content, data) for content, data in answer.small if content in part)
                if answer.files:
                    by_root.setdefault(answer.root, []).append(peer)
                    of_root[answer.root] = answer
            elif isinstance(answer, CoterieError | TimeoutError):
                self._tried.setdefault(peer, set()).update(part)
            else:
                raise answer
        if small:
            await self._bring(part, None, await asyncio.to_thread(write_small, self._place, small))
        if not by_root:
            return bool(small)
        root = max(by_root, key=lambda one: (of_root[one].files, len(by_root[one])))
        givers, missing = by_root[root], {*of_root[root].missing, *small}
        wanted = [content for content in part if content not in missing]
        fetch = ContentFetch(self._context, self._folder, self._place)
        try:
            arrived = await fetch.run(root, givers, wanted, self._progress)
        except BaseException:
            await fetch.close()
            raise
        for content in wanted:
            if content not in arrived:
                for giver in givers:
                    self._tried.setdefault(giver, set()).add(content)
        await self._bring(part, fetch, arrived)
        return bool(arrived)

    async def _bring(
        self, part: Mapping[bytes, int], fetch: ContentFetch | None, arrived: Mapping[bytes, Arrived]
    ) -> None:
        """Have what came put where it belongs, while more comes."""
        self.forget(arrived)
        if self._taking is not None:
            await self._taking
        self._taking = asyncio.ensure_future(self._take_all(fetch, arrived))
        if len(part) < WANTED_MAX:
            await self._taking  # nothing is to come right behind it

    async def _take_all(self, fetch: ContentFetch | None, arrived: Mapping[bytes, Arrived]) -> None:
        try:
            await self._take(arrived)
        finally:
            if fetch is not None:
                await fetch.close()
            else:
                await asyncio.to_thread(_remove, arrived)

    async def _ask(self, peer: PeerId, contents: list[bytes]) -> wire.Wanted:
        asked = wire.Want(self._folder, contents)
        down = self._context.blobs.rates.down
        await pacing.wait(down)
        answer = await self._context.net.ask(peer, wire.PROTOCOL, asked, timeout_s=ANSWER_S)
        if not isinstance(answer, wire.Wanted):
            raise PeerError("contents that are wanted are answered otherwise")
        wire.check(answer)
        pacing.went(down, sum(len(data) for _, data in answer.small))
        return answer

    def _progress(self, step: Progress) -> None:
        self.done_bytes = step.done


def _remove(arrived: Mapping[bytes, Arrived]) -> None:
    """In a thread: what nobody took."""
    for one in arrived.values():
        one.path.unlink(missing_ok=True)
