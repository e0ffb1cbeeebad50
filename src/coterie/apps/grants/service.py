"""The grants service of a node: what it gave, what it holds, what was taken back, and telling others."""

import logging
import os
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from coterie.access.grant import (
    LIFETIME_MAX_S,
    NONCE_BYTES,
    Grant,
    GrantRefused,
    Link,
    attenuate,
    issue,
    open_grant,
)
from coterie.access.grant_text import GrantText
from coterie.access.limits import read_limits
from coterie.access.names import BEARER, key_of
from coterie.access.resource import Verb, checked_resource, say_verbs
from coterie.access.revocation import REVOCATION_BYTES, Revocation, open_revocation, revoke
from coterie.access.terms import Terms
from coterie.apps.circles.api import CirclesService
from coterie.apps.context import Context
from coterie.apps.grants.carried import Carried
from coterie.apps.grants.messages import (
    GRANTS_PER_MESSAGE_MAX,
    PROTOCOL,
    REVOCATIONS_PER_MESSAGE_MAX,
    Gave,
    Present,
    Revoked,
    Taken,
    check,
)
from coterie.apps.grants.records import (
    ID_CHARS,
    NOUN,
    AcceptedRecord,
    GivenRecord,
    HeldRecord,
    record_id,
)
from coterie.apps.grants.results import GrantGiven, GrantLine, GrantSaid, Wanted
from coterie.apps.grants.table import GrantTable
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    PeerError,
    TransportError,
    UsageError,
)
from coterie.identity import PeerId, SecretKey
from coterie.moments import exactly, iso
from coterie.net import Stream
from coterie.private_file import write_private
from coterie.quantity import say_bytes
from coterie.rate import Rate, RateTable
from coterie.services.mail.events import Ended
from coterie.services.mail.limits import LIFETIME_MAX_S as LETTER_MAX_S
from coterie.services.mail.protocol_letters import ProtocolLetters
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.frames import Bulk, Message

ANSWER_S = 10.0
ACCEPTED_PER_S = (
    0.5  # kept of those made from one grant, each a write to the disk; guess: a village by one link
)
ACCEPTED_BURST = 256
ROOTS_TRACKED_MAX = 1_024  # guess: grants of which is remembered how many were made from them

log = logging.getLogger(__name__)


class _Node:
    """This node's key as a signer: it stays where it is."""

    def __init__(self, context: Context) -> None:
        self.peer_id = context.me.peer_id
        self.sign = context.me.sign


class GrantsService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, circles: CirclesService) -> None:
        self._context = context
        self._signer = _Node(context)
        self._given: GrantTable[GivenRecord] = GrantTable(context.data.records("given", GivenRecord, NOUN))
        self._held: GrantTable[HeldRecord] = GrantTable(context.data.records("held", HeldRecord, NOUN))
        self._accepted: GrantTable[AcceptedRecord] = GrantTable(
            context.data.records("accepted", AcceptedRecord, NOUN), makes_room=True
        )
        self._taken: RateTable[bytes, Rate] = RateTable(
            ROOTS_TRACKED_MAX, lambda _: Rate(ACCEPTED_PER_S, ACCEPTED_BURST)
        )
        self._revocations_file = context.data.folder / "revocations"
        self._up: dict[PeerId, None] = {}
        self._carried = Carried(context, circles)

    async def start(self) -> None:
        """Honour what was given before; hear from anybody who presents a grant, for a bearer may be a stranger."""
        self._load()
        self._letters = ProtocolLetters(self._context.mail, PROTOCOL, self._heard)
        self._context.mail.watch(self._ended)
        self._context.mail.watch_refused(self._tell_kin_of_version_0_1)
        self._carried.start(self._write_all_given)
        self._context.net.register(PROTOCOL, self._serve, strangers=True)
        self._context.net.watch(self._peer_up, lambda peer: self._up.pop(peer, None))
        self._context.access.watch_quotas(self._used_up)

    async def close(self) -> None:
        """Everything is on disk already."""

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {"given": len(self._given), "held": len(self._held)}

    # ---- giving

    async def settled(self) -> None:
        """Wait, for a short time, until it is known which addresses a grant's text is to name."""
        await self._context.me.settled()

    def give(self, peer: str, verbs: str, resource: str, wanted: Wanted) -> GrantGiven:
        """A grant of this node's things. Errors: `UsageError` for what cannot be, `NotFound` for who is nobody."""
        access = self._context.access
        audience, key = self._audience(peer)
        grant = issue(
            self._signer,
            audience,
            access.resource_of(resource),
            access.parse_verbs(verbs, checked_resource(resource)),
            terms=self._terms(wanted, Terms()),
            nonce=os.urandom(NONCE_BYTES),
            passes=max(wanted.pass_on, 1 if key else 0),
        )
        self._keep_given(grant, bearer=key is not None)
        if key is None:
            self._honour(grant, audience)
        return self._describe(grant, key, access.say_resource(grant.last.resource), key is not None)

    def pass_on(
        self, grant: str, peer: str, wanted: Wanted, *, verbs: str = "", resource: str = ""
    ) -> GrantGiven:
        """What this node holds, passed on: the same or less. Errors as `give`."""
        record = self._find_held(grant)
        held = open_grant(record.grant)
        audience, key = self._audience(peer)
        made = attenuate(
            held,
            self._signer,
            audience,
            nonce=os.urandom(NONCE_BYTES),
            resource=resource or None,
            verbs=self._context.access.parse_verbs(verbs, held.last.resource) if verbs else None,
            terms=self._terms(wanted, held.last.terms),
            passes=max(wanted.pass_on, 1 if key else 0),
        )
        self._keep_given(made, bearer=key is not None)
        return self._describe(made, key, made.last.resource, True)

    def revoke(self, grant: str) -> GrantSaid:
        """Take back a link that this node made, or another computer of this person.

        It is told to everybody who is connected, and who will be; circles with somebody whom it concerns carry it, too.
        """
        record = self._find_given(grant)
        chain = open_grant(record.grant)
        told = self._carried.spread(chain)
        if chain.last.signer != self._context.me.peer_id:
            if not told:
                raise AccessDenied(
                    tr("that computer is no longer yours: `coterie devices` lists those that are")
                )
            return GrantSaid(
                record.id,
                f"Revoked: {self._say_grant(chain)}. Your other computer learns of it when it meets one that knows",
            )
        revocation = revoke(self._signer, chain.id, chain.last.terms.expires)
        self._learn([revocation])
        self._spread([revocation], besides=None)
        if chain.issuer != self._context.me.peer_id and chain.issuer not in self._up:
            self._context.jobs.start(self._write_to(chain.issuer, revocation), "writing of a revocation")
        return GrantSaid(record.id, f"Revoked: {self._say_grant(chain)}")

    # ---- holding

    async def accept(self, text: str) -> GrantSaid:
        """Keep a grant that was handed over, and present it to its issuer.

        Raises:
            UsageError: it is none, or not for this node.
            AccessDenied: the issuer does not honour it.
            TransportError, PeerError: the issuer is not reached; the grant is kept and presented when it is.
        """
        parsed = GrantText.parse(text)
        grant = parsed.grant
        if parsed.key is not None:
            grant = attenuate(
                grant, parsed.key, self._context.me.peer_id, nonce=os.urandom(NONCE_BYTES), passes=2
            )
        if grant.issuer == self._context.me.peer_id:
            raise UsageError(tr("this grant is of this very computer"))
        if grant.holder != self._context.me.peer_id:
            raise UsageError(
                tr(
                    "this grant is for {name_of}, not for this computer",
                    name_of=self._context.people.name_of(grant.holder),
                )
            )
        record = HeldRecord(record_id(grant), time.time(), grant.raw, list(parsed.addresses))
        self._held.save(record, grant, self._context.access.now)
        if not await self._present(record):
            raise AccessDenied(tr("the issuer does not honour this grant: it expired, or was revoked"))
        issuer = self._context.people.name_of(grant.issuer)
        said = f"{issuer} lets this computer {self._say_grant(grant)}"
        if not grant.last.verbs & Verb.LIST:
            return GrantSaid(record.id, said)
        place = (
            grant.issuer if issuer == grant.issuer.short else issuer
        )  # nobody is found by a short id alone
        return GrantSaid(record.id, f"{said}; `coterie ls {place}` shows it")

    async def _present(self, record: HeldRecord) -> bool:
        grant = open_grant(record.grant)
        connection = await self._context.net.connect(grant.issuer, record.addresses)
        try:
            async with await connection.open_stream(PROTOCOL) as stream:
                await stream.send(Present(grant.raw))
                answer = await stream.receive(ANSWER_S)
        except TimeoutError:
            raise TransportError(
                tr("{short} is connected but does not answer", short=grant.issuer.short)
            ) from None
        return isinstance(answer, Taken) and answer.accepted

    # ---- the lists

    def lines(self) -> list[GrantLine]:
        """Everything given and held, oldest first."""
        lines = []
        listed = (("given", self._given), ("given elsewhere", self._carried.theirs), ("held", self._held))
        for role, records in listed:
            for record in records:
                grant = open_grant(record.grant)
                other = grant.issuer if role == "held" else grant.holder
                own = grant.issuer == self._context.me.peer_id
                resource = grant.last.resource
                lines.append(
                    GrantLine(
                        id=record.id,
                        role=role,
                        peer=BEARER if _is_bearer(record) else self._context.people.name_of(other),
                        verbs=say_verbs(grant.last.verbs),
                        resource=self._context.access.say_resource(resource) if own else resource,
                        expires=iso(grant.last.terms.expires),
                        limits=", ".join(grant.last.terms.say()),
                        state=self._state(grant),
                        used=self._say_used(grant.links) if own else "",
                    )
                )
        return lines

    def _state(self, grant: Grant) -> str:
        if self._context.access.policy.revocations.of(grant):
            return "revoked"
        if grant.last.terms.expires <= self._context.access.now:
            return "expired"
        return "used up" if self._context.access.policy.used_up(grant) else "valid"

    def _say_used(self, links: Sequence[Link]) -> str:
        """How much of how much, by the link with the least left; empty without an amount."""
        used_of = self._context.access.used_of
        metered = [link for link in links if link.terms.quota_bytes]
        least = min(metered, key=lambda link: link.terms.quota_bytes - used_of(link), default=None)
        return f"{say_bytes(used_of(least))} of {say_bytes(least.terms.quota_bytes)}" if least else ""

    def _used_up(self, link: Link, peer: PeerId) -> None:
        """Tell the owner, once."""
        who = self._context.people.name_of(peer)
        what = f"{say_verbs(link.verbs)} {self._context.access.say_resource(link.resource)}"
        grant = link.id.hex()[:ID_CHARS]
        self._context.tell.say(
            tr(
                "{who} used up the {quota_bytes} granted to {what} (grant {grant}): `coterie grant` "
                "gives more",
                who=who,
                quota_bytes=say_bytes(link.terms.quota_bytes),
                what=what,
                grant=grant,
            ),
            key=grant,
        )

    def _find_given(self, text: str) -> GivenRecord:
        known: list[GivenRecord] = [*self._given, *self._carried.theirs]
        found = [r for r in known if r.id.startswith(text.lower())]
        nothing = tr("this computer gave no grant '{text}'; `coterie grants` lists them", text=text)
        return the_one(text, [(r.id, r) for r in found], nothing)

    def _find_held(self, text: str) -> HeldRecord:
        found = [r for r in self._held if r.id.startswith(text.lower())]
        nothing = tr("this computer holds no grant '{text}'; `coterie grants` lists them", text=text)
        return the_one(text, [(r.id, r) for r in found], nothing)

    def _keep_given(self, grant: Grant, *, bearer: bool) -> None:
        record = GivenRecord(record_id(grant), time.time(), grant.raw, bearer)
        self._given.save(record, grant, self._context.access.now)
        self._write_one(grant)

    def _describe(self, grant: Grant, key: SecretKey | None, resource: str, hand_over: bool) -> GrantGiven:
        addresses = self._context.me.ticket_addresses() if len(grant.links) == 1 else ()
        return GrantGiven(
            id=record_id(grant),
            holder="whoever has it" if key else self._context.people.name_of(grant.holder),
            verbs=say_verbs(grant.last.verbs),
            resource=resource,
            expires=iso(grant.last.terms.expires),
            grant=str(GrantText(grant, addresses, key)),
            needs_handing_over=hand_over,
            passes=grant.last.passes,
        )

    def _audience(self, peer: str) -> tuple[PeerId, SecretKey | None]:
        if key_of(peer) == BEARER:
            key = SecretKey(os.urandom(32))
            return key.peer_id, key
        return self._context.people.find(peer), None

    def _terms(self, wanted: Wanted, held: Terms) -> Terms:
        """What is said, and where nothing is, what is held."""
        now = int(self._context.access.now)
        if wanted.lasting_s is not None and wanted.lasting_s < 1:
            raise UsageError(tr("a grant lasts a second at least"))
        expires = held.expires if wanted.lasting_s is None else now + int(wanted.lasting_s)
        if expires > now + LIFETIME_MAX_S:
            raise UsageError(
                tr("a grant lasts {lifetime_max_s} days at most", lifetime_max_s=LIFETIME_MAX_S // 86400)
            )
        hours, rate, quota = read_limits(wanted.limits)
        begin, end = hours or (held.from_minute, held.to_minute)
        return Terms(
            starts=held.starts,
            expires=expires,
            from_minute=begin,
            to_minute=end,
            rate_bytes_s=rate or held.rate_bytes_s,
            quota_bytes=quota or held.quota_bytes,
        )

    def _say_grant(self, grant: Grant) -> str:
        own = grant.issuer == self._context.me.peer_id
        resource = self._context.access.say_resource(grant.last.resource) if own else grant.last.resource
        return f"{say_verbs(grant.last.verbs)} {resource} {_until(grant.last.terms.expires)}"

    # ---- hearing

    async def _serve(self, stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            if isinstance(message, Bulk):
                raise PeerError("grants has no bulk messages")
            check(message)
            match message:
                case Present(raw):
                    await stream.send(Taken(self._take(raw, stream.peer)))
                case Revoked(raws):
                    self._hear(raws, stream.peer)
                case Gave(raws):
                    self._carried.take(raws, stream.peer)

    def _take(self, raw: bytes, peer: PeerId) -> bool:
        try:
            self._honour(open_grant(raw), peer)
        except (GrantRefused, AccessDenied) as error:
            log.info("a grant from %s is refused: %s", peer.short, error)
            return False
        return True

    def _honour(self, grant: Grant, peer: PeerId) -> None:
        access, now = self._context.access, self._context.access.now
        access.policy.check(grant, peer, now)
        if not self._accepted.has(record_id(grant), grant.raw):
            root = grant.links[0].id
            if len(grant.links) > 1 and not self._taken.of(root).take(now):
                raise LimitExceeded(
                    tr("too many have presented what was made from this grant: try again later")
                )
            self._accepted.save(AcceptedRecord(record_id(grant), time.time(), grant.raw), grant, now)
        before = access.policy.generation
        access.policy.accept(grant, peer, now)
        if access.policy.generation != before:
            access.review()

    def _hear(self, raws: list[bytes], peer: PeerId) -> None:
        """News from somebody who matters here; it is passed on to the others once."""
        if not self._matters(peer):
            return
        opened = [open_revocation(raw) for raw in raws]
        news = self._learn([r for r in opened if self._matters(r.signer)])
        if news:
            self._spread(news, besides=peer)

    def _learn(self, revocations: list[Revocation]) -> list[Revocation]:
        """Keep revocations; returns those that are news, and makes them count at once."""
        known, now = self._context.access.policy.revocations, self._context.access.now
        news = []
        for revocation in revocations:
            try:
                if known.add(revocation, now):
                    news.append(revocation)
            except LimitExceeded as error:
                if revocation.signer == self._context.me.peer_id:
                    raise
                log.warning("%s", error)
        if news:
            write_private(self._revocations_file, b"".join(r.raw for r in known.all()))
            self._context.access.changed()
        return news

    def _load(self) -> None:
        access = self._context.access
        try:
            raw = self._revocations_file.read_bytes()
        except FileNotFoundError:
            raw = b""
        parts = [raw[at : at + REVOCATION_BYTES] for at in range(0, len(raw), REVOCATION_BYTES)]
        for damaged in access.policy.revocations.load(parts, access.now):
            log.info("a revocation of %d bytes is over or damaged", len(damaged))
        for record in self._accepted:
            try:
                grant = open_grant(record.grant)
                access.policy.accept(grant, grant.holder, access.now)
            except (GrantRefused, AccessDenied):
                self._accepted.remove(record.id)

    def _matters(self, peer: PeerId) -> bool:
        """Whether `peer` is known, or is in the chain of a grant of ours: nobody else fills the list."""
        return peer == self._context.me.peer_id or self._is_known(peer) or self._accepted.concerns(peer)

    # ---- telling

    def _is_known(self, peer: PeerId) -> bool:
        return self._context.people.is_known(peer)

    def _peer_up(self, peer: PeerId) -> None:
        self._up[peer] = None
        for record in self._held.of_issuer(peer):
            self._context.jobs.start(self._quietly(self._present(record)), "presenting a grant")
        revocations = self._context.access.policy.revocations.all()
        if revocations and (self._is_known(peer) or self._concerns(peer)):
            self._tell_later(peer, revocations)

    # ---- what other computers of this person are to know

    def _write_all_given(self, peer: PeerId) -> None:
        """An own computer that is new, or missed a letter."""

        async def write() -> None:
            self._carried.finish(peer, is_told=await self._write_given([peer], self._valid()))

        self._context.jobs.start(write(), "writing of grants")

    def _write_one(self, grant: Grant) -> None:
        """Who hears of everything else has to hear of this, too: until the letter is kept, it was not told."""
        kin = self._carried.kin()
        told = [peer for peer in kin if self._carried.miss(peer)]

        async def write() -> None:
            if await self._write_given(kin, [grant.raw]):
                for peer in told:
                    self._carried.finish(peer, is_told=True)

        self._context.jobs.start(write(), "writing of a grant")

    async def _write_given(self, peers: list[PeerId], raws: list[bytes]) -> bool:
        refused: list[PeerId] = []
        for some in _slices(raws, GRANTS_PER_MESSAGE_MAX):
            refused += await self._letters.send(peers, Gave(some), stream="given")
        for peer in refused:
            self._carried.miss(peer)
        return not refused

    def _ended(self, ended: Ended) -> None:
        """When the last letter to an own computer has ended, and one did not arrive, it is told everything anew."""
        if not ended.is_taken:
            self._carried.miss(ended.addressee)
        if not self._context.mail.is_writing_to(ended.addressee):
            self._carried.settle(self._write_all_given)

    def _tell_kin_of_version_0_1(self, peer: PeerId) -> None:
        """It has no mail: it hears everything at each meeting."""
        valid = self._valid()
        if valid and self._carried.is_kin(peer):
            self._send_later(peer, [Gave(some) for some in _slices(valid, GRANTS_PER_MESSAGE_MAX)])

    def _valid(self) -> list[bytes]:
        return [record.grant for record in self._given.valid(self._context.access.now)]

    # ---- revocations

    def _concerns(self, peer: PeerId) -> bool:
        """Whether `peer` issued something that this node passed on: it is to hear what was taken back of it."""
        return bool(self._given.of_issuer(peer))

    def _spread(self, news: list[Revocation], besides: PeerId | None) -> None:
        for peer in self._up:
            if peer != besides and (self._is_known(peer) or self._concerns(peer)):
                self._tell_later(peer, news)

    def _tell_later(self, peer: PeerId, revocations: list[Revocation]) -> None:
        raws = [revocation.raw for revocation in revocations]
        self._send_later(peer, [Revoked(some) for some in _slices(raws, REVOCATIONS_PER_MESSAGE_MAX)])

    async def _write_to(self, issuer: PeerId, revocation: Revocation) -> None:
        """The issuer has to know, and is looked for: a letter, where it has mail and knows us, else at a meeting."""
        lasts_s = min(LETTER_MAX_S, max(1.0, revocation.expires - self._context.access.now))
        news = Revoked([revocation.raw])
        await self._letters.send([issuer], news, stream="revocations", lasts_s=lasts_s)

    def _heard(self, peer: PeerId, message: Message) -> None:
        """A letter."""
        check(message)
        match message:
            case Revoked(raws):
                self._hear(raws, peer)
            case Gave(raws):
                self._carried.take(raws, peer)

    def _send_later(self, peer: PeerId, messages: Sequence[Message]) -> None:
        self._context.jobs.start(self._quietly(self._send(peer, messages)), "telling of grants")

    async def _send(self, peer: PeerId, messages: Sequence[Message]) -> None:
        connection = await self._context.net.connect(peer)
        async with await connection.open_stream(PROTOCOL) as stream:
            for message in messages:
                await stream.send(message)

    async def _quietly(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except (CoterieError, TimeoutError) as error:
            log.debug("grants: %s", error)


def _slices(raws: list[bytes], most: int) -> Iterator[list[bytes]]:
    for at in range(0, len(raws), most):
        yield raws[at : at + most]


def _until(unix_s: int) -> str:
    return f"until {exactly(iso(unix_s))}" if iso(unix_s) else "for ever"


def _is_bearer(record: object) -> bool:
    return isinstance(record, GivenRecord) and record.bearer
