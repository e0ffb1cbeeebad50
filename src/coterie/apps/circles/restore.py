"""Back from paper: a phrase is made, what comes back with it lies sealed at others, and a fresh home asks for it."""

import asyncio
import contextlib
import logging
import os
import time
from itertools import islice

import msgspec

from coterie.access.circle import Author, Circle
from coterie.access.circle_ops import Kind, OpId, consent
from coterie.apps.circles.book import CircleBook
from coterie.apps.circles.core import Expect, Trust
from coterie.apps.circles.deposits import PER_PAPER_MAX, Deposited, Deposits
from coterie.apps.circles.devices import Devices
from coterie.apps.circles.keepsakes import Recovered, add_up
from coterie.apps.circles.messages import KEEPSAKE_BYTES_MAX, Deposit, Prove, Recall, Recalled
from coterie.apps.circles.peers import Peers
from coterie.apps.circles.recovery import (
    CARDS_MAX,
    CIRCLES_MAX,
    ENTROPY_BYTES,
    HOSTS_MAX,
    NONCE_BYTES,
    Keepsake,
    Membership,
    PhraseKeys,
    is_proof,
    keys_of,
    phrase_of,
    proof_text,
    seal,
)
from coterie.apps.circles.results import Phrase, RecoveryLine, Restored
from coterie.apps.circles.writer import Writer
from coterie.apps.contacts.api import ContactsService
from coterie.apps.context import Context
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES, is_key
from coterie.texts import tr
from coterie.wire.frames import Message

DEPOSIT_AFTER_S = 1.0  # several changes make one deposit; guess
ANSWER_S = 10.0  # for each deposit; guess: a slow connection and half a megabyte
LOG_S = 15.0  # for the log of one circle
FETCHES_MAX = 16  # logs of circles fetched at once; guess
_POLL_S = 0.05

log = logging.getLogger(__name__)


class _Answers:
    """What one holder answers to a recall: up to PER_PAPER_MAX deposits, one message each."""

    def __init__(self) -> None:
        self.said: list[Recalled] = []
        self._news: asyncio.Queue[Recalled | None] = asyncio.Queue(PER_PAPER_MAX + 1)

    def take(self, message: Recalled) -> None:
        """One more; what is over the bound is passed over."""
        with contextlib.suppress(asyncio.QueueFull):
            self._news.put_nowait(message)

    def end(self) -> None:
        """No more comes."""
        with contextlib.suppress(asyncio.QueueFull):
            self._news.put_nowait(None)

    async def whole(self) -> None:
        """Wait for the last one, or until none comes for ANSWER_S."""
        with contextlib.suppress(TimeoutError):
            while len(self.said) < PER_PAPER_MAX:
                async with asyncio.timeout(ANSWER_S):
                    message = await self._news.get()
                if message is None:
                    return
                self.said.append(message)
                if not message.more:
                    return


class RecoveryDesk:
    """Part of the circles service."""

    def __init__(
        self,
        context: Context,
        book: CircleBook,
        contacts: ContactsService,
        peers: Peers,
        *,
        writer: Writer,
        devices: Devices,
    ) -> None:
        self._context = context
        self._book = book
        self._contacts = contacts
        self._peers = peers
        self._writer = writer
        self._devices = devices
        self._deposits = Deposits(context.data.folder / "deposits", self._is_theirs)
        self._holders: dict[PeerId, int] = {}  # the version each got on this connection
        self._answers: dict[PeerId, _Answers] = {}
        self._is_due = False

    def status(self) -> RecoveryLine:
        """What there is to come back with."""
        return RecoveryLine(bool(self._book.identity.paper), len(self._holders))

    # ---- making a phrase

    def make(self, replaces: str = "") -> Phrase:
        """A new phrase. `replaces`: the old one, when there is one; its words stop working.

        Raises:
            UsageError: there is one already, or `replaces` is not it.
        """
        own = self._writer.own_circle(self._context.me.name)
        person = self._book.person
        me = own.state.member(person)
        old = keys_of(replaces) if replaces else None
        if me is not None and me.papers and (old is None or old.paper.peer_id not in me.papers):
            raise UsageError(tr("there is a recovery phrase already: to replace it, give its words"))
        phrase = phrase_of(os.urandom(ENTROPY_BYTES))
        keys = keys_of(phrase)
        author = _paper_author(old, person) if old is not None else None
        self._book.save(
            msgspec.structs.replace(
                self._book.identity, paper=bytes(keys.paper.peer_id), sealing_key=keys.sealing
            )
        )
        agreed = consent(person, keys.paper.peer_id, keys.paper.sign)
        for circle in (own, *self._book.joined()) if old is not None else (own,):
            self._writer.write(
                circle, Kind.ADD_DEVICE, author, device=keys.paper.peer_id, consent=agreed, is_paper=True
            )
            if old is not None:
                self._writer.write(
                    circle, Kind.REMOVE_DEVICE, author, subject=person, device=old.paper.peer_id
                )
        self._devices.settle()
        self._devices.share_contacts()  # the other computers seal with the same key
        return Phrase(phrase.split())

    # ---- depositing

    def peer_up(self, peer: PeerId) -> None:
        """A peer is connected: perhaps one to deposit at."""
        if self._book.identity.paper:
            self.contacts_changed()

    def peer_down(self, peer: PeerId) -> None:
        """It no longer is."""
        if (answers := self._answers.get(peer)) is not None:
            answers.end()

    def changed(self, circle: OpId) -> None:
        """A circle is not as it was."""
        self.contacts_changed()

    def contacts_changed(self) -> None:
        """What would come back is not what it was: deposit it anew, soon."""
        if self._book.identity.paper and not self._is_due:
            self._is_due = True
            self._context.jobs.start(self._deposit(), "depositing what a recovery phrase brings back")

    async def _deposit(self) -> None:
        await asyncio.sleep(DEPOSIT_AFTER_S)
        self._is_due = False
        identity = self._book.identity
        sealed = seal(self._keepsake(), identity.sealing_key, os.urandom(NONCE_BYTES))
        if len(sealed) > KEEPSAKE_BYTES_MAX:
            log.warning("what a recovery phrase would bring back is too large to deposit")
            return
        version = max(identity.version + 1, time.time_ns() // 1_000_000)  # later than other devices' too
        self._book.save(msgspec.structs.replace(identity, version=version))
        message = Deposit(identity.paper, version, sealed)
        contacts = self._contacts
        holders = [p for p in self._peers.up if self._book.roles_of(p) or contacts.is_contact(p)][:HOSTS_MAX]
        for peer in holders:
            if await self._peers.say(peer, message):
                self._holders[peer] = version

    def _keepsake(self) -> Keepsake:
        own = self._writer.own_circle(self._context.me.name)
        memberships = [
            Membership(circle.id, circle.state.name, [bytes(d) for d in circle.state.devices()[:HOSTS_MAX]])
            for circle in self._book.joined()[:CIRCLES_MAX]
        ]
        ops = [signed.raw for signed in own.log.ops]
        cards = self._devices.cards()[:CARDS_MAX]
        return Keepsake(bytes(self._book.person), own.id, ops, memberships, cards)

    # ---- keeping for others

    async def take(self, peer: PeerId, message: Message) -> None:
        """A message about deposits. A stranger gets the answer that there is nothing, whatever there is."""
        match message:
            case Deposit(paper, version, sealed):
                self._keep(peer, paper, version, sealed)
            case Recall(paper, proof):
                knows = is_proof(
                    paper, proof, self._context.me.peer_id, peer
                )  # first, and always: the same time
                kept = self._deposits.of(paper) if knows else []
                for left, one in zip(range(len(kept) - 1, -1, -1), kept, strict=True):
                    await self._peers.say(peer, Recalled(one.version, one.sealed, left > 0))
                if not kept:
                    await self._peers.say(peer, Recalled(0, b""))
            case Recalled() if (answers := self._answers.get(peer)) is not None:
                answers.take(message)
            case Prove(circle, paper, proof):
                knows = is_proof(paper, proof, self._context.me.peer_id, peer, circle)
                known = self._book.circles.get(circle)
                if knows and known is not None and any(paper in m.papers for m in known.state.members()):
                    self._peers.feed(Trust(circle, peer))

    def _keep(self, peer: PeerId, paper: bytes, version: int, sealed: bytes) -> None:
        """From a computer of the person whose paper it is, and from contacts, who say so of any."""
        if self._is_theirs(paper, peer) or self._contacts.is_contact(peer):
            self._deposits.keep(paper, Deposited(bytes(peer), version, sealed))

    def _is_theirs(self, paper: bytes, by: bytes) -> bool:
        """Whether `by` is a computer of the person who lists `paper`, by that person's own word."""
        persons = {by, *self._book.persons_of(PeerId(by))}
        members = (circle.state.member_of(PeerId(by)) for circle in self._book.circles.values())
        return any(m is not None and paper in m.papers and m.person in persons for m in members)

    # ---- coming back

    async def restore(
        self, phrase: str, *, invitation: str = "", at: str = "", lost: bool = False
    ) -> Restored:
        """Bring a person back to this home.

        Args:
            phrase: the words.
            invitation: of anybody who holds the deposit, when this home knows nobody yet; `at` as in `join`.
            lost: remove every earlier device of the person.

        Raises:
            UsageError: the words cannot be, or this computer belongs to somebody else.
            NotFound: nobody reached has anything for this phrase.
        """
        keys = keys_of(phrase)
        paper = keys.paper.peer_id
        if (self._book.joined() or self._book.own_circle()) and self._book.identity.paper != paper:
            raise UsageError(tr("this computer belongs to somebody already: restore into a fresh home"))
        if invitation:
            await self._contacts.join(invitation, at=at)
        recovered = await self._recall(keys)
        own = self._take_own_circle(recovered, keys)
        removed = self._come_in(own, keys, lost)
        count = self._devices.adopt_cards(recovered.cards)
        places = asyncio.Semaphore(FETCHES_MAX)
        came = await asyncio.gather(*(self._fetch(one, keys, lost, places) for one in recovered.memberships))
        missing = [one.title for one, circle in zip(recovered.memberships, came, strict=True) if not circle]
        circles = [circle.state.name for circle in came if circle]  # a deposit may know an older name
        return Restored(circles, count, removed, missing)

    async def _recall(self, keys: PhraseKeys) -> Recovered:
        """What all deposits for these words bring back together."""
        contacts = [contact.peer for contact in self._contacts.contacts()]
        answers = await asyncio.gather(*(self._ask(peer, keys) for peer in contacts))
        deposits = [(one.version, one.sealed) for said in answers for one in said if one.version]
        recovered = add_up(deposits, keys)
        if recovered is None:
            raise NotFound(
                tr(
                    "nobody reachable holds anything for this phrase: are the words right? Join somebody who "
                    "was in a circle with you (`coterie join`, or --invitation), then try again"
                )
            )
        if recovered.is_replaced(keys.paper.peer_id):
            raise UsageError(tr("these words were replaced by newer ones: only the newest bring you back"))
        return recovered

    async def _ask(self, peer: PeerId, keys: PhraseKeys) -> list[Recalled]:
        answers = self._answers[peer] = _Answers()
        proof = keys.paper.sign(proof_text(peer, self._context.me.peer_id))
        try:
            if await self._peers.say(peer, Recall(bytes(keys.paper.peer_id), proof)):
                await answers.whole()
        except CoterieError:
            log.info("%s did not answer a recall to the end", peer.short)
        finally:
            del self._answers[peer]
        return answers.said

    def _take_own_circle(self, recovered: Recovered, keys: PhraseKeys) -> Circle:
        """The log of the person's computers, or a new one where a thief took the person out of its own."""
        paper = keys.paper.peer_id
        identity = msgspec.structs.replace(
            self._book.identity, person=recovered.person, paper=bytes(paper), sealing_key=keys.sealing
        )
        if not recovered.is_in(paper):
            self._book.save(identity)
            own = self._writer.own_circle(self._context.me.name)
            agreed = consent(recovered.person, paper, keys.paper.sign)
            if not own.log.is_paper(recovered.person, paper):
                self._writer.write(own, Kind.ADD_DEVICE, device=paper, consent=agreed, is_paper=True)
            return own
        own = self._book.circles.get(recovered.own.id) or Circle(recovered.own.log.first)
        for signed in islice(recovered.own.log.ops, 1, None):
            own.add(signed)
        self._book.keep(own)
        self._book.save(msgspec.structs.replace(identity, own_circle=own.id))
        self._book.refresh()
        return own

    def _come_in(self, circle: Circle, keys: PhraseKeys, lost: bool) -> int:
        """By the paper key: this computer is a device; `lost`: no earlier one is. How many were removed."""
        author = _paper_author(keys, self._book.person)
        here = self._context.me.peer_id
        member = circle.state.member(self._book.person)
        earlier = [d for d in member.devices if d != here] if member is not None and lost else []
        for device in earlier:
            self._writer.write(circle, Kind.REMOVE_DEVICE, author, subject=self._book.person, device=device)
        if circle.state.role(here) is None:
            self._writer.write(
                circle, Kind.ADD_DEVICE, author, device=here, consent=self._book.consent(self._book.person)
            )
        return len(earlier)

    async def _fetch(
        self, membership: Membership, keys: PhraseKeys, lost: bool, places: asyncio.Semaphore
    ) -> Circle | None:
        """The log of one circle from whoever has it, and this computer in it."""
        async with places:
            return await self._fetch_now(membership, keys, lost)

    async def _fetch_now(self, membership: Membership, keys: PhraseKeys, lost: bool) -> Circle | None:
        contacts = {contact.peer: None for contact in self._contacts.contacts()}
        hosts = dict.fromkeys([PeerId(h) for h in membership.hosts if len(h) == KEY_BYTES and is_key(h)])
        asked = [peer for peer in {**contacts, **hosts} if peer != self._context.me.peer_id]
        await asyncio.gather(*(self._prove(membership.circle, peer, keys) for peer in asked))
        deadline = asyncio.get_running_loop().time() + LOG_S
        while asyncio.get_running_loop().time() < deadline:
            circle = self._book.circles.get(membership.circle)
            if circle is not None and any(keys.paper.peer_id in m.papers for m in circle.state.members()):
                self._come_in(circle, keys, lost)
                return circle
            await asyncio.sleep(_POLL_S)
        return None

    async def _prove(self, circle: OpId, peer: PeerId, keys: PhraseKeys) -> None:
        proof = keys.paper.sign(proof_text(peer, self._context.me.peer_id, circle))
        if await self._peers.say(peer, Prove(circle, bytes(keys.paper.peer_id), proof)):
            self._peers.feed(Expect(circle, peer))


def _paper_author(keys: PhraseKeys, person: PeerId) -> Author:
    return Author(keys.paper.peer_id, person, keys.paper.sign)
