"""The records of live folders at work: rules for the policy, changes by the owner, what others tell."""

import time
from collections.abc import Callable

import msgspec

from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders.key_ring import KeyRing
from coterie.apps.folders.membership import (
    FolderRecord,
    Role,
    is_newer,
    member_of,
    open_record,
    resource_of,
    rules_of,
    to_sign,
    with_member,
    without_member,
)
from coterie.apps.folders.signed_body import packed
from coterie.apps.folders.store import FoldersStore
from coterie.errors import AccessDenied, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.texts import tr

OFFERS_MAX = 256  # folders that could be joined; guess
OFFERS_OF_ONE_MAX = 64  # of one owner


class Members:
    """What the records of all folders of this computer say. Belongs to the event loop."""

    def __init__(
        self, context: Context, store: FoldersStore, changed: Callable[[bytes, list[PeerId]], None]
    ) -> None:
        """`changed(folder, before)`: its record is another now, rules are in force already; who followed `before`."""
        self.keys = KeyRing(context)
        self._context = context
        self._store = store
        self._changed = changed
        self._records: dict[bytes, tuple[FolderRecord, bytes]] = {}
        self._offers: dict[bytes, tuple[FolderRecord, PeerId]] = {}

    def load(self) -> None:
        """What is on disk. Rules of all folders are in force afterwards."""
        for row in self._store.folders():
            self._records[row.id] = open_record(row.record), row.record
            self._permit(row.id)
            self.keys.read(row.id, self._records[row.id][0])
        for raw, peer in self._store.offers():
            record = open_record(raw)
            self._offers[record.id] = record, PeerId(peer)
            self.keys.read(record.id, record)
        self._context.access.changed()

    def record(self, folder: bytes) -> FolderRecord:
        """What the owner says of a folder of this computer."""
        return self._records[folder][0]

    def known(self, folder: bytes) -> FolderRecord | None:
        """What the owner says of a folder of this computer, or of one that is offered."""
        found = self._records.get(folder) or self._offers.get(folder)
        return found[0] if found is not None else None

    def raw(self, folder: bytes) -> bytes:
        """As `record`, signed."""
        return self._records[folder][1]

    def offers(self) -> list[tuple[FolderRecord, PeerId]]:
        """Folders that could be joined, and who told of each."""
        return list(self._offers.values())

    def is_owner(self, folder: bytes) -> bool:
        """Whether this very computer made the folder."""
        return self.record(folder).owner == bytes(self._context.me.peer_id)

    def role_here(self, folder: bytes) -> str:
        """What this computer may, in a word: owner, write, read, keep; "" where its owner took it out."""
        return self.role_in(self.record(folder))

    def role_in(self, record: FolderRecord) -> str:
        """As `role_here`, by a record of a folder that may be offered only."""
        if record.owner == bytes(self._context.me.peer_id):
            return "owner"
        if record.is_over:
            return ""
        me = self._context.me
        mine = {of_peer(me.peer_id), of_peer(me.person)}
        if of_peer(PeerId(record.owner)) in mine:
            return Role.WRITE.name.lower()
        in_circles = {circle.id for circle in self._context.people.circles()}
        roles = [
            Role(role)
            for subject, role in record.members
            if subject in mine or (subject.startswith("circle:") and subject.split(":")[1] in in_circles)
        ]
        best = next((role for role in (Role.WRITE, Role.READ, Role.KEEP) if role in roles), None)
        return best.name.lower() if best else ""

    def may(self, peer: PeerId, verb: Verb, folder: bytes) -> bool:
        """Whether `peer` may do this to a folder of this computer now."""
        if folder not in self._records:
            return False
        return self._context.access.explain(peer, verb, resource_of(folder)).allowed

    def with_folder(self, folder: bytes) -> list[PeerId]:
        """Everybody known here who may follow the folder, or keeps it."""
        return [
            peer for peer in self._others() if self.may(peer, Verb.LIST, folder) or self.keeps(peer, folder)
        ]

    def keeps(self, peer: PeerId, folder: bytes) -> bool:
        """Whether `peer` is to have a copy of a folder of here that it cannot read."""
        return self.may(peer, Verb.USE, folder) and not self.may(peer, Verb.LIST, folder)

    def writers(self, folder: bytes) -> frozenset[bytes]:
        """All computers known here whose changes count, this one, too."""
        own = {bytes(self._context.me.peer_id)} if self.role_here(folder) in ("owner", "write") else set()
        return frozenset(own | {bytes(peer) for peer in self._others() if self.may(peer, Verb.WRITE, folder)})

    def _others(self) -> list[PeerId]:
        own = self._context.me.peer_id
        return [peer for peer in self._context.people.known() if peer != own]

    # ---- by the owner

    def begin(self, folder: bytes, name: str, whom: list[str]) -> tuple[FolderRecord, bytes]:
        """The first record of a folder of ours. Raises as `people.subject`, and UsageError."""
        record = FolderRecord(folder, name, bytes(self._context.me.peer_id), 1, _now_ms())
        if fault := _name_fault(name):
            raise UsageError(
                tr("'{name}' cannot be the name of a folder: {fault}", name=name[:80], fault=fault)
            )
        for text in whom:
            subject, role = self._meant(text)
            record = msgspec.structs.replace(with_member(record, subject, role, record.at_ms), seq=1)
        raw = self._signed(record)
        self.keys.follow(record, record)
        return record, raw

    def add(self, folder: bytes, text: str) -> tuple[str, Role]:
        """Let somebody in, or give another role. Raises AccessDenied for a folder of somebody else."""
        subject, role = self._meant(text)
        self._change(with_member(self._own(folder), subject, role, _now_ms()))
        return self._context.people.say(subject), role

    def remove(self, folder: bytes, text: str) -> str:
        """Take somebody out. Raises as `add`."""
        subject, _ = self._meant(text)
        record = self._own(folder)
        if all(member[0] != subject for member in record.members):
            raise UsageError(tr("{whom} is no member of {name}", whom=text, name=record.name))
        self._change(without_member(record, subject, _now_ms()))
        return self._context.people.say(subject)

    def _change(self, record: FolderRecord) -> None:
        """Sign and take a record of ours, with the keys that go with it."""
        raw = self._signed(record)
        self.keys.follow(self.record(record.id), record)
        self.take(raw)

    def said(self, record: FolderRecord) -> list[str]:
        """Members as people call them, with the roles that are not to write."""
        named = []
        for subject, role in record.members:
            word = "" if role == Role.WRITE else f":{Role(role).name.lower()}"
            named.append(f"{self._context.people.say(subject)}{word}")
        return named

    # ---- by others

    def heard(self, peer: PeerId, raw: bytes) -> FolderRecord | None:
        """A record that `peer` passed on; what it is when it is news of a folder here, or a new offer.

        Raises:
            PeerError: it is none.
        """
        record = open_record(raw)
        if record.id in self._records:
            return self.take(raw)
        known = self._offers.get(record.id)
        if known is not None and not is_newer(record, known[0]):
            return None
        if record.is_over:
            self.forget_offer(record.id)
            self.keys.forget(record.id)
            return None
        if known is None and (bytes(peer) != record.owner or self._is_full(record.owner)):
            return None
        self._offers[record.id] = record, peer
        self._store.offer(record.id, raw, bytes(peer), time.time())
        return record if known is None else None

    def take(self, raw: bytes) -> FolderRecord | None:
        """The record of a folder here, if it is newer than what is known. Rules are in force when this returns."""
        record = open_record(raw)
        if not is_newer(record, self._records[record.id][0]):
            return None
        before = [peer for peer in self._others() if self.may(peer, Verb.LIST, record.id)]
        row = next(row for row in self._store.folders() if row.id == record.id)
        row.record = raw
        self._store.change(row)
        self._records[record.id] = record, raw
        self._permit(record.id)
        self._context.access.changed()
        self._changed(record.id, before)
        return record

    def joined(self, folder: bytes, raw: bytes) -> None:
        """A folder is here from now on."""
        self._records[folder] = open_record(raw), raw
        self.forget_offer(folder)
        self._permit(folder)
        self._context.access.changed()

    def left(self, folder: bytes) -> None:
        """A folder is here no longer; its record stays as an offer, unless it is of this computer."""
        record, raw = self._records.pop(folder)
        self._context.access.policy.withdraw(resource_of(folder))
        self._context.access.changed()
        if record.owner != bytes(self._context.me.peer_id) and not record.is_over:
            self._offers[folder] = record, PeerId(record.owner)
            self._store.offer(folder, raw, record.owner, time.time())
        else:
            self.keys.forget(folder)

    def offered_raw(self, folder: bytes) -> bytes:
        """The signed record of an offer."""
        return next(raw for raw, _ in self._store.offers() if open_record(raw).id == folder)

    def forget_offer(self, folder: bytes) -> None:
        """It is joined, or offered no longer."""
        if self._offers.pop(folder, None) is not None:
            self._store.forget_offer(folder)

    def _permit(self, folder: bytes) -> None:
        policy, resource = self._context.access.policy, resource_of(folder)
        policy.withdraw(resource)
        for subject, verbs in rules_of(self.record(folder)):
            policy.permit(subject, verbs, resource)

    def _is_full(self, owner: bytes) -> bool:
        of_owner = sum(record.owner == owner for record, _ in self._offers.values())
        return len(self._offers) >= OFFERS_MAX or of_owner >= OFFERS_OF_ONE_MAX

    def _own(self, folder: bytes) -> FolderRecord:
        record = self.record(folder)
        if not self.is_owner(folder):
            owner = self._context.people.name_of(PeerId(record.owner))
            raise AccessDenied(
                tr(
                    "{name} is a folder of {owner}: who is in it, only {owner} says",
                    name=record.name,
                    owner=owner,
                )
            )
        return record

    def _meant(self, text: str) -> tuple[str, Role]:
        whom, role = member_of(text)
        try:
            return self._context.people.subject(whom), role
        except NotFound:
            name, colon, word = whom.rpartition(":")
            if not colon:
                raise
            self._context.people.subject(name)  # nobody either: that is said
            roles = f", {name}:".join(one.name.lower() for one in Role)
            raise UsageError(
                tr("'{role}' is no role: say {name}:{roles}", role=word, name=name, roles=roles)
            ) from None

    def _signed(self, record: FolderRecord) -> bytes:
        raw = packed(record, self._context.me.sign(to_sign(record)))
        try:
            open_record(raw)
        except PeerError as error:
            raise UsageError(str(error)) from None
        return raw


def _name_fault(name: str) -> str:
    if not 0 < len(name) <= 64:
        return tr("1 to 64 characters")
    return tr("no / and nothing invisible") if "/" in name or not name.isprintable() else ""


def _now_ms() -> int:
    return int(time.time() * 1000)
