"""Policy: may this peer do this to that, now, and why. The one place that says yes; without a reason it says no.

A yes comes from a rule (this node's owner said so, for a subject) or from a grant (signed, presented by the peer).
A subject is a word for a set of peers:

    anyone                      whoever connects
    known                       a contact, or in a circle with this node, as whatever
    contact                     a contact
    circle:ID:owner|member|guest   in that circle, with that role or a higher one
    peer:ID                     that peer, while it is known, and the other computers of its person
    ticket:ID                   whoever just proved to have the ticket of that share

Work: for each subject of the peer a look into a table for the resource and each of its parents, whether or not there
is such a resource. So a refusal takes as long for what exists as for what does not.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from coterie.access.grant import LIFETIME_MAX_S, Grant, Link
from coterie.access.resource import Verb, checked_resource, covers, say_verbs, with_parents
from coterie.access.revocation import Revocations
from coterie.errors import AccessDenied, CloseCode, LimitExceeded, PeerError, UsageError
from coterie.identity import PeerId
from coterie.quantity import say_bytes
from coterie.texts import tr

CACHE_MAX = 4_096  # guess: decisions kept, about 1 kB each with their keys
GRANTS_PER_PEER_MAX = 16  # guess: presented by one peer; the oldest gives way
PEERS_WITH_GRANTS_MAX = 1_024  # guess: the peer that presented longest ago gives way, and presents again
RULES_MAX = 100_000  # guess: 10,000 shares for ten subjects each

CIRCLE_CHARS_MAX = 64  # of a circle's id as text, which has 52

ROLES = ("guest", "member", "owner")  # each may what those before it may
ANYONE, KNOWN, CONTACT = "anyone", "known", "contact"


def of_peer(peer: PeerId) -> str:
    """The subject that is one peer."""
    return f"peer:{peer}"


def of_circle(circle: str, role: str = "member") -> str:
    """The subject that is everybody in `circle` (its id as text) with at least `role`."""
    if role not in ROLES:
        raise UsageError(tr("'{role}' is no role; there are {roles}", role=role, roles=", ".join(ROLES)))
    return f"circle:{circle}:{role}"


def is_for_many(subject: str) -> bool:
    """Whether two peers who both belong to `subject` can tell that of each other: anyone, or a circle."""
    kind, _, rest = subject.partition(":")
    circle, _, role = rest.partition(":")
    is_circle = kind == "circle" and role in ROLES and circle.isascii() and circle.isalnum()
    return subject == ANYONE or (is_circle and len(circle) <= CIRCLE_CHARS_MAX)


class Standing(msgspec.Struct, frozen=True):
    """Who a peer is to this node. `circles`: id as text and role; `blocked`: why it gets nothing, or empty.

    `persons`: the first computers of the persons of whom it is a computer by their own word.
    """

    contact: bool = False
    circles: tuple[tuple[str, str], ...] = ()
    blocked: str = ""
    persons: tuple[PeerId, ...] = ()


class Reason(msgspec.Struct, frozen=True):
    """One thing that speaks for or against: a `code` for programs, `text` for people.

    Subjects and resources stand in the text as ids; who shows it puts their names there.
    """

    code: str
    text: str


class Decision(msgspec.Struct, frozen=True):
    """The answer. It holds until `until` (unix seconds) at the latest, and until the policy changes.

    `meters` are the links of the grant that it rests on which have a rate or a quota: what is used counts on each.
    `used_up`: of a no, the link whose used-up quota alone keeps a grant that `peer` presented from allowing it.
    """

    allowed: bool
    peer: PeerId
    verb: Verb
    resource: str
    reasons: tuple[Reason, ...]
    until: float = math.inf
    meters: tuple[Link, ...] = ()
    used_up: Link | None = None

    @property
    def because(self) -> str:
        """The code of the first reason."""
        return self.reasons[0].code

    def require(self) -> "Decision":
        """This decision if it is a yes. Raises `AccessDenied` otherwise, without saying why: the peer may read it."""
        if not self.allowed:
            raise AccessDenied(
                tr(
                    "{short} may not {verbs} {resource}",
                    short=self.peer.short,
                    verbs=say_verbs(self.verb),
                    resource=self.resource,
                )
            )
        return self


def spent(decision: Decision, link: Link) -> Decision:
    """The no that follows a yes, once the quota of `link`, on which it rested, is used up."""
    text = f"grant {link.id.hex()[:8]} allowed it, but {_used_up_text(link)}"
    return Decision(
        False, decision.peer, decision.verb, decision.resource, (Reason("grant_void", text),), used_up=link
    )


class QuotaUsedUp(PeerError):
    """The quota of `link` is used up. Its peer may read that: it presented the grant."""

    def __init__(self, link: Link) -> None:
        super().__init__("the quota of the grant is used up", CloseCode.REVOKED)
        self.link = link


@dataclass(slots=True)
class _Held:
    grants: list[Grant] = field(default_factory=list)


class Policy:
    """Pure: time is an argument, and who a peer is comes from `standing`.

    Every change (of rules, grants, revocations, or of what `standing` answers: `changed`) makes `generation` larger.
    """

    def __init__(
        self,
        own: PeerId,
        standing: Callable[[PeerId], Standing],
        used: Mapping[bytes, int] = MappingProxyType({}),
    ) -> None:
        """`used`: bytes used of the quotas of links, by id; call `changed` when one goes past its quota."""
        self._own = own
        self._used = used
        self._standing = standing
        self._rules: dict[str, dict[str, Verb]] = {}  # subject -> resource -> verbs
        self._count = 0
        self._below: dict[str, dict[tuple[str, str], None]] = {}  # resource -> rules about it and below it
        self._held: OrderedDict[PeerId, _Held] = OrderedDict()
        self._cache: OrderedDict[tuple[PeerId, int, str, tuple[str, ...]], Decision] = OrderedDict()
        self.revocations = Revocations(own)
        self.generation = 0

    # ---- what is said

    def is_contact(self, peer: PeerId) -> bool:
        """Whether `peer` is a contact of this node."""
        return self._standing(peer).contact

    def is_known(self, peer: PeerId) -> bool:
        """Whether `peer` is a contact, or in a circle of ours, and not blocked: no stranger."""
        return KNOWN in self.subjects(peer)

    def subjects(self, peer: PeerId) -> tuple[str, ...]:
        """Every subject that `peer` belongs to; none for one that is blocked."""
        standing = self._standing(peer)
        return () if standing.blocked else subjects_of(peer, standing)

    def permit(self, subject: str, verbs: Verb, resource: str) -> None:
        """Let `subject` do `verbs` to `resource` and what is below it, besides what it may already.

        Raises:
            LimitExceeded: there are RULES_MAX rules.
        """
        of_subject = self._rules.setdefault(subject, {})
        if checked_resource(resource) not in of_subject:
            if self._count >= RULES_MAX:
                raise LimitExceeded(
                    tr("there are {rules_max} rules already; end some shares first", rules_max=RULES_MAX)
                )
            self._count += 1
            for above in with_parents(resource):
                self._below.setdefault(above, {})[subject, resource] = None
        of_subject[resource] = of_subject.get(resource, Verb(0)) | verbs
        self.changed()

    def withdraw(self, resource: str) -> None:
        """Forget every rule about `resource` and what is below it."""
        for subject, narrow in list(self._below.get(resource, ())):
            del self._rules[subject][narrow]
            if not self._rules[subject]:
                del self._rules[subject]
            for above in with_parents(narrow):
                del self._below[above][subject, narrow]
                if not self._below[above]:
                    del self._below[above]
            self._count -= 1
        self.changed()

    def permit_only(self, subjects: Iterable[str], verbs: Verb, resource: str) -> None:
        """Let `subjects` do `verbs` to `resource` instead of what was permitted there. Raises as `permit`."""
        self.withdraw(resource)
        for subject in subjects:
            self.permit(subject, verbs, resource)

    def rules(self) -> Mapping[str, Mapping[str, Verb]]:
        """Every rule: subject, then resource."""
        return MappingProxyType(self._rules)

    def check(self, grant: Grant, presenter: PeerId, now: float) -> None:
        """Whether `presenter` may use a grant at all.

        Raises:
            AccessDenied: it is another peer's, of somebody else's things, expired, revoked or endless.
        """
        if grant.holder != presenter:
            raise AccessDenied(tr("a grant is used by the computer it was made for, and by nobody else"))
        if grant.issuer != self._own:
            raise AccessDenied(tr("this grant is for things of another computer"))
        if grant.last.terms.expires <= now:
            raise AccessDenied(tr("this grant has expired"))
        if grant.last.terms.expires > now + LIFETIME_MAX_S:
            raise AccessDenied(tr("this grant ends too far in the future"))
        if self.revocations.of(grant):
            raise AccessDenied(tr("this grant was revoked"))

    def accept(self, grant: Grant, presenter: PeerId, now: float) -> None:
        """Keep a grant that `presenter` presents, to be used by it. Errors as `check`."""
        self.check(grant, presenter, now)
        held = self._held.setdefault(presenter, _Held())
        self._held.move_to_end(presenter)
        if any(known.id == grant.id for known in held.grants):
            return
        held.grants = [*held.grants, grant][-GRANTS_PER_PEER_MAX:]
        if len(self._held) > PEERS_WITH_GRANTS_MAX:
            self._held.popitem(last=False)
        self.changed()

    def held_by(self, peer: PeerId) -> Sequence[Grant]:
        """The grants that `peer` presented."""
        held = self._held.get(peer)
        return tuple(held.grants) if held else ()

    def used_up(self, grant: Grant) -> Link | None:
        """The first link of `grant` whose quota is used up."""
        used, links = self._used, grant.links
        return next((k for k in links if 0 < k.terms.quota_bytes < used.get(k.id, 0)), None)

    def changed(self) -> None:
        """Decisions made so far are void: a rule, a grant, a contact or a circle is no longer as it was."""
        self.generation += 1
        self._cache.clear()

    # ---- what is asked

    def decide(
        self,
        peer: PeerId,
        verb: Verb,
        resource: str,
        now: float,
        *,
        utc_offset_s: int = 0,
        also: tuple[str, ...] = (),
    ) -> Decision:
        """Whether `peer` may do `verb` (one) to `resource` at `now` (unix seconds; `utc_offset_s` for times of day).

        `also`: further subjects that the peer has just proved to be, like one who has a ticket.
        """
        place = (peer, int(verb), resource, also)
        known = self._cache.get(place)
        if known is not None and now < known.until:
            return known
        decision = self._decide(peer, verb, resource, now, utc_offset_s=utc_offset_s, also=also)
        self._cache[place] = decision
        if len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)
        return decision

    def _decide(
        self,
        peer: PeerId,
        verb: Verb,
        resource: str,
        now: float,
        *,
        utc_offset_s: int,
        also: tuple[str, ...],
    ) -> Decision:
        parents = with_parents(checked_resource(resource))
        if peer == self._own:
            return Decision(True, peer, verb, resource, (Reason("own", "this node itself"),))
        standing = self._standing(peer)
        if standing.blocked:
            return Decision(False, peer, verb, resource, (Reason("blocked", standing.blocked),))
        subjects = (*subjects_of(peer, standing), *also)
        found = self._by_rule(subjects, verb, parents)
        by_grant = self._by_grant(peer, verb, resource, now, utc_offset_s)
        if found:
            return Decision(True, peer, verb, resource, found)
        if by_grant.allowed:
            return by_grant
        nothing = Reason("no_rule", f"nothing allows it to {', '.join(subjects)}")
        reasons = (nothing, *by_grant.reasons)
        return Decision(False, peer, verb, resource, reasons, by_grant.until, used_up=by_grant.used_up)

    def _by_rule(self, subjects: Sequence[str], verb: Verb, parents: Sequence[str]) -> tuple[Reason, ...]:
        found = []
        for subject in subjects:
            of_subject = self._rules.get(subject, _NO_RULES)
            for parent in parents:
                if of_subject.get(parent, 0) & verb:
                    text = f"{subject} may {say_verbs(of_subject[parent])} {parent}"
                    found.append(Reason("rule", text))
        return tuple(found)

    def _by_grant(self, peer: PeerId, verb: Verb, resource: str, now: float, utc_offset_s: int) -> Decision:
        """By one grant alone: rights of two grants never add up to a third."""
        until, against, used_up = math.inf, [], None
        for grant in self.held_by(peer):
            link = grant.last
            if not (covers(link.resource, resource) and link.verbs & verb):
                continue
            name = f"grant {link.id.hex()[:8]}"
            wrong = self._why_void(grant, now, utc_offset_s)
            if wrong is None and (empty := self.used_up(grant)):
                used_up = empty
                wrong = _used_up_text(empty)
            until = min(until, *(step.terms.until(now, utc_offset_s) for step in grant.links))
            if wrong is None:
                text = f"{name}: {say_verbs(link.verbs)} {link.resource}"
                return Decision(
                    True, peer, verb, resource, (Reason("grant", text),), until, _metered(grant.links)
                )
            against.append(Reason("grant_void", f"{name} would allow it, but {wrong}"))
        return Decision(False, peer, verb, resource, tuple(against), until, used_up=used_up)

    def _why_void(self, grant: Grant, now: float, utc_offset_s: int) -> str | None:
        if self.revocations.of(grant):
            return "it was revoked"
        for link in grant.links:
            if wrong := link.terms.why_not(now, utc_offset_s):
                return wrong
            if link.signer != self._own and (blocked := self._standing(link.signer).blocked):
                return f"{link.signer.short} passed it on, and {blocked}"
        return None


_NO_RULES: Mapping[str, Verb] = MappingProxyType({})


def subjects_of(peer: PeerId, standing: Standing) -> tuple[str, ...]:
    """Every subject that `peer` belongs to, widest first."""
    known = (KNOWN,) if standing.contact or standing.circles else ()
    contact = (CONTACT,) if standing.contact else ()
    itself = dict.fromkeys((of_peer(peer), *map(of_peer, standing.persons))) if known else ()
    return (ANYONE, *known, *contact, *_of_circles(standing.circles), *itself)


def _of_circles(circles: Iterable[tuple[str, str]]) -> Iterable[str]:
    for circle, role in circles:
        if role in ROLES:  # a role of a later version gives nothing here
            yield from (of_circle(circle, lower) for lower in ROLES[: ROLES.index(role) + 1])


def _used_up_text(link: Link) -> str:
    return f"its quota is used up: {say_bytes(link.terms.quota_bytes)}"


def _metered(links: Iterable[Link]) -> tuple[Link, ...]:
    return tuple(link for link in links if link.terms.rate_bytes_s or link.terms.quota_bytes)
