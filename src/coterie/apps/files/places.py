"""Places: the shares of this node as each peer sees them, under readable paths."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
from blake3 import blake3

from coterie.access.enforcer import Enforcer
from coterie.access.names import TICKET, distinct
from coterie.access.policy import QuotaUsedUp, is_for_many
from coterie.access.resource import PARTS_MAX, RESOURCE_BYTES_MAX, Verb
from coterie.apps.files.offer import Offer
from coterie.apps.files.places_messages import (
    ENTRIES_MAX,
    FILE,
    FOLDER,
    FORMS,
    LINK,
    PATH_BYTES_MAX,
    Entry,
    Listed,
)
from coterie.apps.files.records import ShareRecord, SpotRecord
from coterie.apps.files.tree import Found, entries_after, entry_at
from coterie.content import Store
from coterie.content import manifest as m
from coterie.content.names import name_fault
from coterie.errors import NotFound
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.services.directory.core import Offered
from coterie.texts import tr
from coterie.transfer.messages import Moved
from coterie.transfer.proof import Shown
from coterie.wire.ticket import SECRET_BYTES

KIND = "files"
SPOTS_MAX = 1_000  # guess: parts of shares that somebody may still be fetching; the oldest gives way
NO_SHARE = "-"  # no id of a share: what is not here takes as long to refuse as what is
_CONTEXT = b"coterie place\x00"


class Spot(msgspec.Struct, frozen=True):
    """A place in one of our shares that a peer asked for and may see."""

    share: ShareRecord
    parts: tuple[str, ...]

    @property
    def resource(self) -> str:
        """What the policy is asked about it."""
        return resource_of(self.share.id, self.parts)


def resource_of(share: str, parts: Sequence[str]) -> str:
    """The resource that stands for a place: it, or where its name is too long, what is above it."""
    path = f"{KIND}/{share}"
    for part in parts[: PARTS_MAX - 2]:
        longer = f"{path}/{part}"
        if len(longer.encode()) > RESOURCE_BYTES_MAX:
            break
        path = longer
    return path


def ticket_subject(share: str) -> str:
    """The subject of whoever proved to have the ticket of this share."""
    return f"{TICKET}:{share}"


class Places:
    """Belongs to the event loop but for `found`, `entries` and what an `Offer` does."""

    def __init__(
        self,
        store: Store,
        access: Enforcer,
        *,
        shares: Callable[[], Iterable[ShareRecord]],
        spots: Records[SpotRecord],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._access = access
        self._shares = shares
        self._spots = spots
        self._clock = clock

    def permit(self, share: ShareRecord) -> None:
        """Make the policy's rules about a share those that it was shared by."""
        resource = resource_of(share.id, ())
        self._access.policy.withdraw(resource)
        for subject in share.to:
            who = ticket_subject(share.id) if subject == TICKET else subject
            verbs = Verb.LIST | Verb.READ | (Verb.WRITE if subject in share.writers else Verb(0))
            self._access.policy.permit(who, verbs, resource)
        self._access.review()

    def withdraw(self, share: ShareRecord) -> None:
        """The share is over: whatever is being fetched of it ends."""
        self._access.policy.withdraw(resource_of(share.id, ()))
        self._access.review()

    # ---- what a peer sees

    def shares_of(self, peer: PeerId) -> list[tuple[str, ShareRecord]]:
        """The shares of which `peer` may list or read anything, under labels that are unique among these."""
        nested = {part for path in self._granted(peer) for part in [path.split("/")[1]]}
        seen = [
            share
            for share in self._shares()
            if self._may_see(peer, resource_of(share.id, ())) or share.id in nested
        ]
        labels = distinct([(share.id, share.name, False) for share in seen])
        return list(zip(labels, seen, strict=True))

    def offered(self, peer: PeerId) -> list[Offered]:
        """The shares that `peer` may list; of a share of which it was granted a part only, that part's path.

        What it may read and not list is not in it: that is for who knows its name.
        """
        offered = []
        granted = [p for p in self._granted(peer) if self._access.explain(peer, Verb.LIST, p).allowed]
        for label, share in self.shares_of(peer):
            whole = resource_of(share.id, ())
            if self._access.explain(peer, Verb.LIST, whole).allowed:
                form = FORMS[FOLDER if share.kind == m.Kind.TREE else FILE]
                offered.append(
                    Offered(
                        resource=whole,
                        name=label,
                        form=form,
                        files=share.files,
                        size=share.size,
                        mtime_ns=share.mtime_ns,
                    )
                )
            else:
                below = [path.removeprefix(whole) for path in granted if path.startswith(whole + "/")]
                offered += [
                    Offered(resource=whole + rest, name=label + rest, form=FORMS[FOLDER])
                    for rest in sorted(set(below))
                ]
        return sorted(offered, key=lambda one: one.name)

    def top(self, peer: PeerId) -> list[Entry]:
        """What is `offered` to `peer`, as `places` lists it."""
        kinds = {form: kind for kind, form in FORMS.items()}
        return [
            Entry(one.name, kinds[one.form], one.files or 0, one.size or 0, one.mtime_ns)
            for one in self.offered(peer)
        ]

    def choose(self, peer: PeerId, verb: Verb, path: str) -> Spot:
        """The place that `peer` calls `path`, if it may do `verb` there; the answer goes into the log.

        Raises:
            NotFound: no such place, or none for this peer: the same words for both.
            QuotaUsedUp: the amount of the grant that the peer presented for it is used up; of what is not there, too.
        """
        label, *parts = path.split("/")
        share = next((share for known, share in self.shares_of(peer) if known == label), None)
        is_path = len(path.encode(errors="replace")) <= PATH_BYTES_MAX and not any(map(name_fault, parts))
        named = share or next((share for share in self._shares() if share.name == label), None)
        resource = resource_of(named.id if named else NO_SHARE, parts if is_path else ())
        is_known = named is not None and is_path  # the log does not fill with whatever somebody asks for
        decision = self._access.decide(peer, verb, resource, logged_as="" if is_known else KIND)
        if decision.used_up is not None:
            raise QuotaUsedUp(decision.used_up)
        if not decision.allowed or share is None or not is_path:
            raise NotFound(tr("there is no {path}", path=path[:200]))
        return Spot(share, tuple(parts))

    def entries(self, spot: Spot, after: str) -> Listed:
        """What is in a place. Blocking; from any thread. Raises `NotFound`."""
        tree = spot.share.root
        if spot.parts or spot.share.kind != m.Kind.TREE:
            found = self.found(spot)
            if found.kind is not m.Kind.TREE:
                entry = Entry(found.name, FILE, 1, found.size, found.mtime_ns)
                return Listed([entry] if not after else [])
            tree = found.id
        entries = entries_after(self._store.manifest, tree, after, ENTRIES_MAX + 1)
        return Listed([_entry(e) for e in entries[:ENTRIES_MAX]], len(entries) > ENTRIES_MAX)

    def found(self, spot: Spot) -> Found:
        """What is at a place. Blocking; from any thread. Raises `NotFound`."""
        share = spot.share
        if not spot.parts:
            return Found(
                m.Kind(share.kind),
                share.root,
                share.name,
                share.files,
                share.size,
                share.mtime_ns,
                share.executable,
            )
        if share.kind != m.Kind.TREE:
            raise NotFound(tr("there is nothing below a file"))
        return entry_at(self._store.manifest, share.root, spot.parts)

    # ---- what a peer fetches

    def secret_for(self, peer: PeerId, spot: Spot, found: Found) -> bytes:
        """What `peer` opens this place with; whether it may is asked at each use.

        Those who may read the share by one subject, like a circle, get the same, and can give it to each other; any
        other one is of no use to anybody else.
        """
        if spot.parts and not any(s.share == spot.share.id and s.root == found.id for s in self._spots):
            record = SpotRecord(
                self._spots.new_id(), self._clock(), spot.share.id, list(spot.parts), found.id
            )
            self._spots.save(record)
            for old in list(self._spots)[:-SPOTS_MAX]:
                self._spots.remove(old.id)
        held = self._access.policy.subjects(peer)
        of = next((subject for subject in _swarms(spot.share) if subject in held), "")
        return _secret(spot.share, peer, found.id, of)

    def offer(self, shown: Shown) -> Offer | None:
        """What a peer opens with what it showed, or None; the policy is still to be asked.

        Blocking where the place is within a share. The work is about the same whatever is wrong.
        """
        root = shown.root
        shares = {share.id: share for share in self._shares()}
        offers = [self._by_ticket(share, root) for share in shares.values() if _holds(shown, share)]
        if offers:
            return min(offers, key=lambda offer: offer.moved is not None)
        spots = [Spot(v, ()) for share in shares.values() for v in share.versions() if v.root == root]
        spots += [
            Spot(shares[s.share], tuple(s.parts)) for s in self._spots if s.root == root and s.share in shares
        ]
        if not spots:
            shown.proves(None)
        matching = [
            (spot, of)
            for spot in spots
            for of in ("", *_swarms(spot.share))
            if shown.proves(_secret(spot.share, shown.asker, root, of))
        ]
        return self._offer_of(shown.asker, root, matching)

    def _by_ticket(self, share: ShareRecord, root: bytes) -> Offer:
        """What a ticket of the share opens that names its version `root`: a ticket is good as long as the share is."""
        versions = {version.root: version for version in reversed(share.versions())}
        also = (ticket_subject(share.id),)
        offer = Offer(self._store, versions.get(root, share), resource_of(share.id, ()), also=also, of=TICKET)
        offer.moved = None if root == share.root else Moved(share.kind, share.root)
        offer.is_gone = root not in versions
        return offer

    def _offer_of(self, peer: PeerId, root: bytes, spots: Sequence[tuple[Spot, str]]) -> Offer | None:
        """The first of these places that the peer may read now; its whole share where it may read that.

        Without such: one that the policy will refuse, by preference for a used-up amount: the log says of what.
        """
        refused: Offer | None = None
        for spot, of in spots:
            whole = resource_of(spot.share.id, ())
            is_whole = self._access.explain(peer, Verb.READ, whole).allowed
            resource = whole if is_whole else resource_of(spot.share.id, spot.parts)
            decision = self._access.explain(peer, Verb.READ, resource)
            if not decision.allowed:
                if refused is None or decision.used_up is not None:
                    refused = Offer(self._store, spot.share, resource, is_narrow=True)
                continue
            found = self.found(spot) if spot.parts else None
            if found is None or found.id == root:
                many = of if of in self._access.policy.subjects(peer) else ""
                return Offer(
                    self._store,
                    spot.share,
                    resource,
                    found=found,
                    is_narrow=not is_whole,
                    of=many,
                    parts=spot.parts,
                )
        return refused

    def _granted(self, peer: PeerId) -> list[str]:
        """The resources within shares that `peer` has grants for."""
        granted = [grant.last.resource for grant in self._access.policy.held_by(peer)]
        return [path for path in granted if path.startswith(KIND + "/") and self._may_see(peer, path)]

    def _may_see(self, peer: PeerId, resource: str) -> bool:
        """Whether `peer` may list or read this: the one without the other opens what is known by name.

        Or might, were the amount of its grant not used up: it goes on to know of it.
        """
        asked = [self._access.explain(peer, verb, resource) for verb in (Verb.LIST, Verb.READ)]
        return any([decision.allowed or decision.used_up is not None for decision in asked])


def _holds(shown: Shown, share: ShareRecord) -> bool:
    """Whether the asker has a ticket of the share, of whatever version."""
    return any([shown.proves(secret) for secret in (share.secret, *share.more_secrets)])


def _swarms(share: ShareRecord) -> list[str]:
    """The subjects of a share whose members give it to each other."""
    return [subject for subject in share.to if is_for_many(subject)]


def _secret(share: ShareRecord, peer: PeerId, root: bytes, of: str = "") -> bytes:
    """What `peer`, or everybody of the subject `of`, opens `root` within a share with."""
    return blake3(_CONTEXT + share.secret + (of.encode() or bytes(peer)) + root).digest(SECRET_BYTES)


def _entry(entry: m.Entry) -> Entry:
    match entry:
        case m.DirectoryEntry():
            return Entry(entry.name, FOLDER, entry.files, entry.size, entry.mtime_ns)
        case m.FileEntry():
            return Entry(entry.name, FILE, 1, entry.size, entry.mtime_ns)
        case m.LinkEntry():
            return Entry(entry.name, LINK, 0, 0)
