"""The send service of a node: offers made and got, and what follows from their states."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from coterie.apps.contacts.api import ContactsService
from coterie.apps.context import Context
from coterie.apps.files.api import Content, FilesApi, Gifts
from coterie.apps.send import core as c
from coterie.apps.send import events as e
from coterie.apps.send.always import Always
from coterie.apps.send.direct import Direct
from coterie.apps.send.fetching import fetch
from coterie.apps.send.messages import ITEMS_MAX, NOTE_CHARS_MAX, OFFER_ID_BYTES, PROTOCOL, pack, unpack
from coterie.apps.send.records import AlwaysRecord, InboxRecord, Part, SentItem, SentRecord
from coterie.apps.send.results import (
    OFFER_LASTS_S,
    Got,
    InboxLine,
    Sent,
    SentLine,
    got_now,
    said_names,
    sent_now,
    waiting_for,
)
from coterie.apps.send.strangers import Strangers
from coterie.errors import CoterieError, LimitExceeded, PeerError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit, SetTimer, TimerFired
from coterie.moments import iso
from coterie.progress import Progress
from coterie.quantity import count, say_bytes
from coterie.services.data.records import Records
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.frames import Message

if TYPE_CHECKING:
    import sqlite3

    from coterie.services.mail.box import Mail, MailBox

LASTS_MAX_S = 30 * 86_400.0  # as a letter
POST_AGAIN_S = 30.0  # after a letter could not be posted
TAKE_S = 10.0  # for one letter to be written; else it comes again
TIMER_MAX_S = 3_600.0  # then the clock is looked at again: it may have been set
UNTAKEN = "that computer was reached and takes no letters: it does not know this one, or its coterie is to be upgraded"

log = logging.getLogger(__name__)
Report = Callable[[Progress], None]


class Settings(msgspec.Struct):
    """`folder`: where accepted files go, if nobody says another place."""

    folder: str = "~/Downloads"


class SendService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, contacts: ContactsService, files: FilesApi) -> None:
        self._context = context
        self._files = files
        self._sent: Records[SentRecord] = context.data.records("sent", SentRecord, "offer")
        self._inbox: Records[InboxRecord] = context.data.records("inbox", InboxRecord, "offer")
        self._folder = Path(context.data.settings(Settings).folder).expanduser()
        self._gifts: Gifts = files.gifts
        self._core = c.SendCore(context.me.name)
        self._mail: MailBox | None = None
        self._wake = asyncio.Event()
        self._kept: set[str] = set()  # gifts that are there
        self._fetches: dict[str, asyncio.Task[Any] | None] = {}  # None: it has not begun yet
        self._timer: asyncio.TimerHandle | None = None
        self._watchers: dict[int, asyncio.Event] = {}
        self._always = Always(
            context,
            context.data.records("always", AlwaysRecord, "person"),
            self._folder,
            self._core,
            self.feed,
        )
        self.always, self.ask, self.always_lines = self._always.take_all, self._always.ask, self._always.lines
        self.direct = Direct(context, self._core, self.feed)
        self.strangers = Strangers(context, self, contacts)
        contacts.on_removed(self._always.forget)
        for record in self._sent:  # before `files` starts, and forgets what nobody keeps
            if not record.ended:
                self._gifts.add(record.id, _contents(record))
                self._kept.add(record.id)

    async def start(self) -> None:
        """Go on with every offer that is not over."""
        self._carry_out(self._core.load(list(self._sent), list(self._inbox), self._context.access.now))
        self._mail = self._context.mail
        loop = asyncio.get_running_loop()
        self._mail.receive(lambda mail, db: self._take(loop, mail, db))
        self._context.jobs.keep(self._post, "telling others about offers")
        self._context.net.register(PROTOCOL, self.direct.serve, strangers=True)
        self._follow()
        for got in list(self._core.inbox.values()):
            self._always.consider(got)

    async def close(self) -> None:
        """Everything is on disk; what is being fetched goes on at the next start."""
        if self._timer is not None:
            self._timer.cancel()
        running = [task for task in self._fetches.values() if task is not None]
        self._fetches.clear()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "offers made": sum(not record.ended for record in self._core.sent.values()),
            "offers got": sum(not got.ended for got in self._core.inbox.values()),
        }

    # ---- what this computer offers

    def is_known(self, text: str) -> bool:
        """Whether somebody is called so."""
        return self._context.people.is_called(text)

    def offer_to(self, record: SentRecord, person: str, *, each: bool = False) -> Sent:
        """Offer what was `read` to a person, who need not be there now.

        `each`: every computer of the person may take it, else one: the first that does.

        Raises:
            NotFound, UsageError: nobody is called so, or is known; nothing is offered then.
            LimitExceeded: too many offers are open.
        """
        try:
            peer = self._context.people.find(person)
            if not self._context.people.is_known(peer):
                raise UsageError(
                    tr(
                        "{short} is not known here: `coterie send PATH` prints a code for anybody",
                        short=peer.short,
                    )
                )
            computers = [p for p in self._context.people.computers_of(peer) if p != self._context.me.peer_id]
            if not computers:
                raise UsageError(tr("{person} has no other computer than this one", person=person))
        except CoterieError:
            self.forget(record)
            raise
        record.to, record.is_for_first = str(peer), not each
        record.parts = [Part(str(one), record.created + record.lasts_s) for one in computers]
        self.make(record)
        return sent_now(self.sent_lines(record)[0])

    async def read(
        self,
        paths: Sequence[Path | str],
        *,
        lasts_s: float = OFFER_LASTS_S,
        note: str = "",
        everything: bool = False,
        progress: Report | None = None,
    ) -> SentRecord:
        """A new offer of what is at `paths`, which stays there; nobody was told of it yet.

        Raises:
            NotFound: there is no such file.
            UsageError: it cannot be offered; says why.
        """
        if not 0 < lasts_s <= LASTS_MAX_S:
            raise UsageError(
                tr("an offer lasts up to {lasts_max_s:.0f} days", lasts_max_s=LASTS_MAX_S / 86400)
            )
        if not 0 < len(paths) <= ITEMS_MAX:
            raise UsageError(
                tr(
                    "{paths} files and folders in one offer: {items_max} at most; put them into a folder",
                    paths=len(paths),
                    items_max=ITEMS_MAX,
                )
            )
        if len(note) > NOTE_CHARS_MAX:
            raise UsageError(
                tr(
                    "a note has {note_chars_max} characters at most, not {note}",
                    note_chars_max=NOTE_CHARS_MAX,
                    note=len(note),
                )
            )
        contents = [
            await self._gifts.read(Path(path), everything=everything, progress=progress) for path in paths
        ]
        record = SentRecord(
            id=self._sent.new_id(),
            created=self._context.access.now,
            offer=os.urandom(OFFER_ID_BYTES),
            to="",
            items=[
                SentItem(**{name: getattr(content, name) for name in content.__struct_fields__})
                for content in contents
            ],
            parts=[],
            lasts_s=lasts_s,
            note=note,
        )
        self._gifts.add(record.id, contents)
        return record

    def make(self, record: SentRecord) -> None:
        """Tell the computers in its parts of an offer. Raises `LimitExceeded`."""
        self._kept.add(record.id)
        try:
            self.feed(e.Make(record))
        except LimitExceeded:
            self._follow()
            raise

    def forget(self, record: SentRecord) -> None:
        """An offer that was read and is not made after all."""
        self._context.jobs.start(self._gifts.forget(record.id), "forgetting what was not offered")

    @contextlib.contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """An event that is set with every change, while the block runs."""
        fresh = asyncio.Event()
        self._watchers[id(fresh)] = fresh
        try:
            yield fresh
        finally:
            del self._watchers[id(fresh)]

    async def follow(self, half: Callable[[], Part | InboxRecord], size: int) -> AsyncIterator[Progress]:
        """How far an offer is, until it is over or has failed."""
        with self.watching() as fresh:
            while True:
                now = half()
                word = c.word(now)
                if c.is_over(now) or word == c.Answer.FAILED:
                    return
                yield Progress(phase=word, done=size * now.percent // 100, total=size)
                await fresh.wait()
                fresh.clear()

    def cancel(self, offer: str) -> list[SentLine]:
        """Offer it no longer; what is being fetched of it ends. Raises `NotFound`, `UsageError`."""
        self.feed(e.Cancel(offer))
        return self.sent_lines(self._core.sent[offer])

    def sent(self) -> list[SentLine]:
        """All offers made, the newest last."""
        return [line for record in self._core.sent.values() for line in self.sent_lines(record)]

    def sent_lines(self, record: SentRecord) -> list[SentLine]:
        """An offer: one line for the first that takes it, else a line for each computer."""
        if record.is_for_first and record.parts:
            return [self._sent_line(record, max(record.parts, key=c.weight), record.to)]
        return [self._sent_line(record, part, part.peer) for part in record.parts]

    def _sent_line(self, record: SentRecord, part: Part, to: str) -> SentLine:
        name = part.name or self._context.people.name_of(PeerId.parse(to or part.peer))
        is_cut = c.word(part) == c.Answer.FETCHING and not self._gifts.is_given_now(
            record.id, PeerId.parse(part.peer)
        )
        return SentLine(
            id=record.id,
            state=waiting_for(name) if is_cut else c.state(part),
            to=name,
            names=[item.name for item in record.items],
            files=sum(item.files for item in record.items),
            size=c.size_of(record.items),
            percent=part.percent if c.word(part) == c.Answer.FETCHING else None,
            expires="" if c.is_over(part) else iso(part.until),
            note=self._note_of(part),
        )

    def _note_of(self, part: Part) -> str:
        """Why it was not taken, or does not arrive."""
        word = c.word(part)
        if word == c.OFFERED and not part.is_stranger and self._mail is not None:
            return UNTAKEN if self._mail.is_refused(PeerId.parse(part.peer)) else ""
        return part.reason if word in (c.Answer.FAILED, c.Answer.DECLINED) else ""

    # ---- what others offer

    def inbox(self) -> list[InboxLine]:
        """All offers got, the newest last."""
        return [self.inbox_line(got) for got in self._core.inbox.values()]

    def accept(self, offer: str, folder: Path | None = None) -> Got:
        """Take the offer with this id, the only open one of that name or person; into `folder`.

        Raises:
            NotFound: there is none.
            UsageError: it may be several, or it is over.
        """
        got = self._choose(offer)
        self.feed(e.Accept(got.id, _whole(folder) or got.folder or str(self._folder)))
        return got_now(self.inbox_line(got))

    def decline(self, offer: str) -> Got:
        """Do not take it, or take no more of it. Errors as `accept`."""
        got = self._choose(offer)
        self.feed(e.Decline(got.id))
        return got_now(self.inbox_line(got))

    def _choose(self, text: str) -> InboxRecord:
        if text in self._core.inbox:
            return self._core.inbox[text]
        is_open = [got for got in self._core.inbox.values() if not c.is_over(got)]
        found = [
            got for got in is_open if text in {item.name for item in got.items} or text == self._sender(got)
        ]
        nothing = tr("nothing is offered as '{text}'; `coterie inbox` lists what is", text=text)
        return the_one(text, [(got.id, got) for got in found], nothing)

    def _sender(self, got: InboxRecord) -> str:
        peer = PeerId.parse(got.sender)
        if got.is_stranger and not self._context.people.is_known(peer):
            return f"{got.name or peer.short} (stranger)"
        return self._context.people.name_of(peer)

    def got(self, offer: str) -> InboxRecord | None:
        """The offer of the inbox with this id."""
        return self._core.inbox.get(offer)

    def find(self, peer: PeerId, offer: bytes) -> InboxRecord | None:
        """The offer of the inbox that `peer` made under this id."""
        return self._core.find(peer, offer)

    def inbox_line(self, got: InboxRecord) -> InboxLine:
        state = c.word(got)
        paths = [item.path for item in got.items if item.path]
        fetched = next((item.transfer for item in got.items if item.transfer and not item.is_here), "")
        is_cut = state == c.Answer.FETCHING and bool(fetched) and not self._gifts.is_coming(fetched)
        sender = self._sender(got)
        return InboxLine(
            id=got.id,
            state=waiting_for(sender) if is_cut else c.state(got),
            sender=sender,
            names=[item.name for item in got.items],
            files=sum(item.files for item in got.items),
            size=c.size_of(got.items),
            percent=got.percent if state == c.Answer.FETCHING else None,
            expires="" if c.is_over(got) else iso(got.until),
            note=(got.reason if state in (c.Answer.FAILED, c.Answer.DECLINED) else "") or got.note,
            path=(paths[0] if len(paths) == 1 else got.folder) if got.folder else "",
        )

    # ---- the core

    def feed(self, event: Any) -> None:
        """Give the core an event, and do what follows. Raises what the core raises at a command, and `StorageError`."""
        self._carry_out(self._core.handle(event, self._context.access.now))

    def _carry_out(self, outputs: Sequence[Any]) -> None:
        news = []
        for output in outputs:
            match output:
                case e.Keep(SentRecord() as record):
                    self._sent.save(record)
                case e.Keep(InboxRecord() as got):
                    self._inbox.save(got)
                case e.Drop(SentRecord() as record):
                    self._sent.remove(record.id)
                case e.Drop(InboxRecord() as got):
                    self._inbox.remove(got.id)
                case e.Reply(peer, message):
                    self._context.jobs.start(self._reply(peer, message), "answering an offer")
                case SetTimer(_, at):
                    self._arm(at)
                case Emit(e.News() as told):
                    news.append(told)
        self._follow()
        for told in news:
            self._tell(told)
        for fresh in self._watchers.values():
            fresh.set()

    def _follow(self) -> None:
        """What follows from the states: whom to tell, to whom to give, what to fetch."""
        self._wake.set()
        self.direct.follow()
        given = dict(self._given())
        for id_, (known, strangers) in given.items():
            self._gifts.give(id_, known, strangers)
        for id_ in [id_ for id_ in self._kept if id_ not in given]:
            self._kept.discard(id_)
            self._context.jobs.start(self._gifts.forget(id_), "forgetting what was offered")
        if not self._context.me.addresses():
            return
        wanted = {got.id: got for got in self._core.wanted()}
        for id_, got in wanted.items():
            if id_ not in self._fetches:
                self._fetches[id_] = None
                self._context.jobs.start(self._fetch(got), f"fetching what is sent as {id_}")
        for id_, task in list(self._fetches.items()):
            found = self._core.inbox.get(id_)
            if id_ in wanted or task is None or found is None:
                continue
            if c.is_over(found) and c.word(found) != c.Answer.RECEIVED:
                self._context.jobs.start(self._stop(found, task), "ending a fetch")

    def _given(self) -> Iterator[tuple[str, tuple[list[PeerId], list[PeerId]]]]:
        for record, parts in self._core.given():
            known = [PeerId.parse(part.peer) for part in parts if not part.is_stranger]
            strangers = [PeerId.parse(part.peer) for part in parts if part.is_stranger]
            yield record.id, (known, strangers)

    async def _fetch(self, got: InboxRecord) -> None:
        if got.id not in self._fetches:
            return
        self._fetches[got.id] = asyncio.current_task()
        try:
            await fetch(got, self._gifts, self.feed, self._taken)
        finally:
            self._fetches.pop(got.id, None)

    async def _stop(self, got: InboxRecord, task: asyncio.Task[None]) -> None:
        """End a fetch, and remove what came of the item that is not whole."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for item in got.items:
            if item.transfer and not item.is_here:
                with contextlib.suppress(CoterieError):
                    await self._files.table.cancel(item.transfer)

    def _taken(self) -> set[str]:
        """Where something is being fetched to."""
        return {i.path for got in self._core.inbox.values() if not got.ended for i in got.items if i.path}

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = min(TIMER_MAX_S, max(0.0, at - self._context.access.now))
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire, at)

    def _fire(self, at: float) -> None:
        if self._context.access.now < at:
            self._arm(at)
        else:
            self.feed(TimerFired(c.DUE))

    def _tell(self, news: e.News) -> None:
        """A notice to the owner, where there is something to do or to know."""
        record, key = news.record, f"offer {news.record.id}"
        names = said_names([item.name for item in record.items])
        if isinstance(record, InboxRecord):
            who = self._sender(record)
            size = f"{count(sum(item.files for item in record.items), 'file')}, {say_bytes(c.size_of(record.items))}"
            said = {
                "delivered": f"{who} offers {names} ({size}): coterie inbox accept {record.id}",
                "received": f"received {names} from {who}: {record.folder}",
                "failed": f"{names} from {who} failed: {record.reason}; again: coterie inbox accept {record.id}",
            }
        else:
            part = news.part
            who = self._sent_line(record, part, part.peer).to if part is not None else ""
            said = {
                "received": f"{who} received {names}",
                "declined": f"{who} declined {names}",
                "failed": f"{names} failed at {who}: {part.reason if part is not None else ''}",
                "expired": f"{who} did not take {names} in time",
            }
        if news.word in said:
            self._context.tell.say(said[news.word], key=key)
        elif isinstance(record, InboxRecord):
            with contextlib.suppress(CoterieError):
                self._context.tell.withdraw(key)
        if isinstance(record, InboxRecord) and news.word == c.Answer.DELIVERED:
            self._always.consider(record)

    # ---- letters

    def _take(self, loop: asyncio.AbstractEventLoop, mail: "Mail", db: "sqlite3.Connection") -> None:
        """One letter, in a thread of the mail: it is taken when the core has it and its records are on disk."""
        try:
            message = unpack(mail.body)
        except PeerError as error:
            log.info("%s sent %s", mail.sender.short, error)
            return
        if message is None:
            return
        heard = asyncio.run_coroutine_threadsafe(self._hear(e.Heard(mail.sender, message)), loop)
        try:
            heard.result(TAKE_S)
        except TimeoutError:
            heard.cancel()
            raise

    async def _hear(self, event: e.Heard) -> None:
        if self._context.people.is_known(event.peer):
            self.feed(event)

    async def _post(self) -> None:
        """Put into the mail what others are to be told."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for unsent in list(self._core.unsent()):
                if unsent.is_stranger:
                    continue
                try:
                    for message in unsent.messages:
                        await self._letter(unsent.peer, message, unsent.lasts_s or LASTS_MAX_S)
                except CoterieError as error:
                    log.warning("what %s is to be told waits: %s", unsent.peer.short, error)
                    asyncio.get_running_loop().call_later(POST_AGAIN_S, self._wake.set)
                    continue
                self.feed(e.Told(unsent.id, unsent.peer, unsent.serial))

    async def _letter(self, peer: PeerId, message: Message, lasts_s: float) -> None:
        assert self._mail is not None  # noqa: S101  (set before anything is told)
        await self._mail.send(peer, pack(message), lasts_s=min(lasts_s, LASTS_MAX_S))

    async def _reply(self, peer: PeerId, message: Message) -> None:
        with contextlib.suppress(CoterieError):
            await self._letter(peer, message, OFFER_LASTS_S)


def _contents(record: SentRecord) -> list[Content]:
    return [
        Content(**{name: getattr(item, name) for name in Content.__struct_fields__}) for item in record.items
    ]


def _whole(folder: Path | None) -> str:
    return os.path.abspath(folder) if folder is not None else ""
