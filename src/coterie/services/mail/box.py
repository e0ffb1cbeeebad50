"""One app's mail, running: what the app gets as `context.mail`."""

import asyncio
import itertools
import os
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from coterie.errors import CoterieError, LimitExceeded, StorageError, UsageError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, SetTimer, TimerFired
from coterie.quantity import say_bytes
from coterie.services.mail.core import MailCore
from coterie.services.mail.events import (
    Answer,
    Answered,
    Arrived,
    Deliver,
    Dial,
    Ended,
    Handled,
    Post,
    Posted,
    Transmit,
)
from coterie.services.mail.limits import (
    BODY_BYTES_MAX,
    DEVICES_MAX,
    LIFETIME_MAX_S,
    LIFETIME_S,
    NAME_CHARS_MAX,
)
from coterie.services.mail.messages import ID_BYTES, Envelope
from coterie.services.mail.sealing import Opened, Seals, digest
from coterie.services.mail.store import MailStore
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Message

T = TypeVar("T")
Copies = Literal["this", "each", "first"]

TURN_MAX = 256  # events in one transaction; guess
WAITING_MAX = (
    256  # letters and receipts of others that wait for their turn: 16 MB; what is beyond comes again
)
POSTS_MAX = 1_024  # letters of the app that wait for the disk
TIMER_MAX_S = 3_600.0  # then the clock is looked at again: it may have been set
CLOSED = "the mail of this app is closed: nobody knows whether the letter is kept"
_SPOKEN = (Answer, CancelTimer, Dial, Emit, SetTimer, Transmit)  # the rest is written to the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A letter that arrived. `sender` signed it; `id` is 16 bytes, the same whichever way it came."""

    sender: PeerId
    id: bytes
    stream: str
    body: bytes


Take = Callable[[Mail, sqlite3.Connection], None]


class Carriage(Protocol):
    """What a box needs of the room."""

    seals: Seals

    def now(self) -> float: ...

    def send(self, peer: PeerId, message: Message) -> None: ...

    def dial(self, peer: PeerId) -> None: ...

    def reachable(self) -> Sequence[PeerId]: ...

    def devices_of(self, peer: PeerId) -> Sequence[PeerId]: ...

    def is_refused(self, peer: PeerId) -> bool: ...

    def is_known(self, peer: PeerId) -> bool: ...


class MailBox:
    """The mail of one app. All methods belong to the node's event loop."""

    def __init__(
        self, app: str, path: Path, carriage: Carriage, tasks: Tasks, tell: Callable[[str], None]
    ) -> None:
        """`path`: the file, made when there is none. `tell`: for the owner: that it was damaged."""
        self._app = app
        self._path = path
        self._carriage = carriage
        self._tasks = tasks
        self._tell = tell
        self._take: Take | None = None
        self._watchers: list[Callable[[Ended], None]] = []
        self._refused: list[Callable[[PeerId], None]] = []
        self._events: deque[Any] = deque()
        self._others: Counter[PeerId] = Counter()  # of the events: how many each of the others brought
        self._posting: dict[bytes, asyncio.Future[None]] = {}
        self._timers: dict[Any, asyncio.Handle] = {}
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._store: MailStore | None = None
        self._core: MailCore | None = None
        self._failure = ""
        tasks.keep(self._run, "mail")

    # ---- for the app

    async def send(
        self,
        to: PeerId,
        body: bytes,
        *,
        stream: str = "",
        is_ordered: bool = True,
        lasts_s: float = LIFETIME_S,
        copies: Copies = "this",
    ) -> bytes:
        """Keep `body` for the same app on another computer until it is there or `lasts_s` are over; the letter's id.

        When this returns, the letter is on disk.

        Args:
            stream: letters of one stream arrive in the order in which they were sent, those of others do not wait.
            is_ordered: False: each arrives when it can.
            copies: "this" computer only, "each" computer of its person, or the "first" of them that is met.

        Raises:
            UsageError: the letter cannot be.
            LimitExceeded: too many wait; the text says which bound.
            StorageError: the disk.
        """
        if len(body) > BODY_BYTES_MAX:
            raise UsageError(
                tr(
                    "a letter of {body} bytes is over {body_bytes_max}: send the name of content",
                    body=len(body),
                    body_bytes_max=BODY_BYTES_MAX,
                )
            )
        if len(stream) > NAME_CHARS_MAX:
            raise UsageError(
                tr(
                    "the name of a stream has {name_chars_max} characters at most",
                    name_chars_max=NAME_CHARS_MAX,
                )
            )
        if not 0 < lasts_s <= LIFETIME_MAX_S:
            raise UsageError(
                tr("a letter lasts up to {lifetime_max_s} days", lifetime_max_s=LIFETIME_MAX_S // 86400)
            )
        if to == self._carriage.seals.peer_id and copies == "this":
            raise UsageError(tr("a letter to this very computer"))
        addressees = (to,) if copies == "this" else tuple(self._carriage.devices_of(to))
        if not addressees:
            raise UsageError(tr("that person has no other computer"))
        if len(addressees) > DEVICES_MAX:
            raise LimitExceeded(
                tr("that person has more than {devices_max} computers (DEVICES_MAX)", devices_max=DEVICES_MAX)
            )
        if len(self._posting) >= POSTS_MAX:
            raise LimitExceeded(
                tr("{posts_max} letters wait for the disk already (POSTS_MAX)", posts_max=POSTS_MAX)
            )
        if self._failure:
            raise StorageError(self._failure)
        id_ = os.urandom(ID_BYTES)
        posted = self._posting[id_] = asyncio.get_running_loop().create_future()
        expires = int(self._carriage.now() + lasts_s)
        self._feed(Post(id_, addressees, stream, is_ordered, copies == "first", expires, body, digest(body)))
        await posted
        return id_

    def receive(self, take: Take) -> None:
        """Give each letter to `take(mail, db)` from now on: once, and in order within its stream.

        `take` runs in a thread, inside a transaction of this app's mail file: what it writes with `db` and the receipt
        are on disk together or not at all. So it keeps its records in tables there (their names do not begin with
        "mail_"; `CREATE TABLE IF NOT EXISTS` may be its first statement), is quick, and does nothing that cannot be
        undone. Where records are kept elsewhere it must bear that the same (sender, id) comes again after a crash.
        When it raises, the letter is undone and comes again later; an ordered stream waits for it until it expires.
        """
        self._take = take

    def watch(self, ended: Callable[[Ended], None]) -> None:
        """Call `ended` with each letter that was taken, or was not. Not kept over a restart."""
        self._watchers.append(ended)

    def watch_refused(self, refused: Callable[[PeerId], None]) -> None:
        """Call `refused` with each computer for which a letter waits, that is met and takes no mail from us.

        It is of version 0.1, or does not know us. What waits for it goes on waiting.
        """
        self._refused.append(refused)

    async def records(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(db)` on the app's tables, in a thread and a transaction. Raises `StorageError` and what it raises."""
        await self._ready.wait()
        if self._store is None:
            raise StorageError(self._failure or "the mail of this app is closed")
        return await asyncio.to_thread(self._store.run, work)

    def is_refused(self, peer: PeerId) -> bool:
        """Whether `peer` was reached lately and takes no letters: it is older, or does not know this computer."""
        return self._carriage.is_refused(peer)

    def status(self) -> dict[str, Any]:
        """For `coterie status`."""
        if self._failure:
            return {"mail": f"stopped: {self._failure}"}
        if self._core is None:
            return {}
        count = self._core.letters
        return {"mail": f"{count} letters ({say_bytes(self._core.size)}) wait as"}

    # ---- for the room

    @property
    def is_taking(self) -> bool:
        """Whether letters reach the app."""
        return self._take is not None and not self._failure

    def feed_peer(self, event: PeerUp | PeerDown) -> None:
        """A computer can be sent to, or no longer can."""
        self._feed(event)

    def feed_other(self, event: Arrived | Answered) -> None:
        """What somebody brought. When much waits, who brought most loses the last of it, which comes again."""
        if self._others.total() >= WAITING_MAX:
            heaviest, count = max(self._others.items(), key=lambda one: one[1])
            if count <= self._others[event.bringer] + 1:
                return
            del self._events[self._last_of(heaviest)]
            self._done_with(heaviest)
        self._others[event.bringer] += 1
        self._feed(event)

    def _last_of(self, bringer: PeerId) -> int:
        """Where in the events the last one that `bringer` caused is."""
        return next(
            at
            for at in reversed(range(len(self._events)))
            if isinstance(self._events[at], Arrived | Answered) and self._events[at].bringer == bringer
        )

    def _done_with(self, bringer: PeerId) -> None:
        self._others[bringer] -= 1
        if not self._others[bringer]:
            del self._others[bringer]

    def is_writing_to(self, peer: PeerId) -> bool:
        """Whether a letter waits for `peer`."""
        return self._core is not None and self._core.waits_for(peer)

    def tell_refused(self, peer: PeerId) -> None:
        """`peer` is there and takes no mail from us."""
        if self.is_writing_to(peer):
            for watcher in self._refused:
                watcher(peer)

    async def close(self) -> None:
        """Stop; everything is on disk already."""
        await self._tasks.close()
        self._fail_posts(StorageError(CLOSED))

    # ---- the loop

    def _feed(self, event: Any) -> None:
        self._events.append(event)
        self._wake.set()

    async def _run(self) -> None:
        """Turns of the core, each written before anything of it is sent or told. Raises `StorageError`."""
        store: MailStore | None = None
        try:
            store = await asyncio.to_thread(MailStore, self._path)
            if store.problem:
                self._tell(store.problem)
            core = MailCore(random.SystemRandom())
            letters, finished = await asyncio.to_thread(store.load)
            outputs = core.load(letters, finished, self._carriage.now())
            self._store, self._core, self._failure = store, core, ""
            self._ready.set()
            self._events.extendleft(PeerUp(peer) for peer in self._carriage.reachable())
            await self._carry_out(store, outputs)
            while True:
                if not self._events:
                    self._wake.clear()
                    await self._wake.wait()
                outputs = []
                for _ in range(min(TURN_MAX, len(self._events))):
                    event = self._events.popleft()
                    if isinstance(event, Arrived | Answered):
                        self._done_with(event.bringer)
                    outputs += core.handle(event, self._carriage.now())
                await self._carry_out(store, outputs)
        except CoterieError as error:
            self._failure = str(error)
            raise
        finally:
            self._ready.set()
            self._forget_turn(store)

    def _forget_turn(self, store: MailStore | None) -> None:
        """What is in memory may differ from the disk now: begin with the disk the next time."""
        self._store = self._core = None
        self._events.clear()
        self._others.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._fail_posts(StorageError(self._failure or CLOSED))
        if store is not None:
            store.close()

    def _fail_posts(self, error: StorageError) -> None:
        for posted in self._posting.values():
            if not posted.done():
                posted.set_exception(error)
                posted.exception()  # seen: nobody may be left who waits
        self._posting.clear()

    async def _carry_out(self, store: MailStore, outputs: list[Any]) -> None:
        writes = [o for o in outputs if not isinstance(o, _SPOKEN)]
        strange = [o for o in writes if isinstance(o, Deliver) and not self._carriage.is_known(o.key.peer)]
        if strange:  # they waited here, and their sender is not known any more
            writes = [o for o in writes if o not in strange]
            self._events.extend(_not_given(o) for o in strange)
        if writes:
            handled = await asyncio.to_thread(store.commit, writes, self._given if self._take else None)
            self._events.extend(handled)
        spoken = [o for o in outputs if isinstance(o, _SPOKEN)]
        for are_letters, group in itertools.groupby(spoken, lambda o: isinstance(o, Transmit)):
            if are_letters:
                await self._transmit(store, [o for o in group if isinstance(o, Transmit)])
            else:
                for output in group:
                    self._speak(output)

    def _speak(self, output: Any) -> None:
        match output:
            case Answer(bringer, opened, outcome):
                self._carriage.send(bringer, self._carriage.seals.receipt(opened, outcome))
            case SetTimer(key, at):
                self._cancel(key)
                self._arm(key, at)
            case CancelTimer(key):
                self._cancel(key)
            case Dial(peer):
                self._carriage.dial(peer)
            case Emit(Posted(id_, refused)):
                posted = self._posting.pop(id_, None)
                if posted is not None and not posted.done():
                    if refused:
                        posted.set_exception(LimitExceeded(refused))
                    else:
                        posted.set_result(None)
            case Emit(Ended() as ended):
                for watcher in self._watchers:
                    watcher(ended)

    async def _transmit(self, store: MailStore, outputs: list[Transmit]) -> None:
        for output, envelope in await asyncio.to_thread(self._seal, store, outputs):
            self._carriage.send(output.letter.addressee, envelope)

    def _seal(self, store: MailStore, outputs: list[Transmit]) -> list[tuple[Transmit, Envelope]]:
        sealed = []
        for output in outputs:
            letter = output.letter
            body = store.body(letter.id, letter.addressee)
            if body is None:
                continue
            whole = msgspec.structs.replace(output.head, app=self._app, body=body)
            envelope = self._carriage.seals.seal(whole, letter.addressee, letter.id, letter.expires)
            sealed.append((output, envelope))
        return sealed

    def _given(self, opened: Opened, db: sqlite3.Connection) -> None:
        assert self._take is not None  # noqa: S101  (else it is not called)
        mail = Mail(sender=opened.sender, id=opened.id, stream=opened.letter.stream, body=opened.letter.body)
        self._take(mail, db)

    def _arm(self, key: Any, at: float) -> None:
        delay_s = min(TIMER_MAX_S, max(0.0, at - self._carriage.now()))
        self._timers[key] = asyncio.get_running_loop().call_later(delay_s, self._fire, key, at)

    def _fire(self, key: Any, at: float) -> None:
        if self._carriage.now() < at:
            self._arm(key, at)
            return
        del self._timers[key]
        self._feed(TimerFired(key))

    def _cancel(self, key: Any) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()


def _not_given(output: Deliver) -> Handled:
    return Handled(output.key, output.letters[0].letter.epoch, (False,) * len(output.letters))
