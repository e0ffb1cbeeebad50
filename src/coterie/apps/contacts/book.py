"""The list of contacts: who is one, under which name. Kept on disk through `coterie.services.data.records`."""

import logging
from collections.abc import Sequence
from types import MappingProxyType

import msgspec

from coterie.access.names import NAME_CHARS_MAX, checked, distinct, fit, is_meant, is_short_id, key_of
from coterie.apps.contacts.messages import ADDRESSES_MAX
from coterie.errors import LimitExceeded, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.record import is_relay
from coterie.wire.ticket import pack_addresses

CONTACTS_MAX = 10_000  # guess: far above anybody's; 10,000 small files load in about a second
_SUFFIX_CHARS_MAX = len(f" ({CONTACTS_MAX})")

log = logging.getLogger(__name__)


class Contact(msgspec.Struct, frozen=True):
    """A peer we know and who knows us. `added` in seconds since 1970; `record` is its signed record, if it gave one."""

    name: str
    peer: PeerId
    addresses: tuple[str, ...]
    added: float
    record: bytes = b""


class ContactRecord(msgspec.Struct):
    """A contact on disk. `id` is the peer id as text."""

    id: str
    created: float
    name: str
    addresses: list[str]
    record: bytes = b""


class ContactBook:
    """All contacts of this node, by peer."""

    def __init__(self, records: Records[ContactRecord]) -> None:
        self._records = records
        self._contacts: dict[PeerId, Contact] = {}
        self._names: dict[PeerId, str] = {}
        self._by_name: dict[str, PeerId] = {}
        self.names = MappingProxyType(self._names)  # a live view
        for contact in filter(None, map(_contact, records)):
            self._put(
                msgspec.structs.replace(contact, name=self._free_name(_fit(contact.name, contact.peer)))
            )

    def __len__(self) -> int:
        return len(self._contacts)

    def is_contact(self, peer: PeerId) -> bool:
        """Whether `peer` is one: one look into a table."""
        return peer in self._contacts

    def all(self) -> list[Contact]:
        """Every contact, oldest first."""
        return list(self._contacts.values())

    def get(self, peer: PeerId) -> Contact | None:
        """The contact `peer`."""
        return self._contacts.get(peer)

    def by_name(self, name: str) -> Contact | None:
        """The contact of this name; case and Unicode form do not matter."""
        peer = self._by_name.get(key_of(name))
        return self._contacts[peer] if peer is not None else None

    def find(self, text: str) -> Contact:
        """The contact with this name, also with a mark behind it, or whose peer id this is or begins with.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        named = self.by_name(text)
        if named is None:
            found = [c for c in self._contacts.values() if is_meant(text, c.name, str(c.peer))]
            found = found or [c for c in self._contacts.values() if c.peer.matches(text)]
        else:
            found = [named, *(c for c in self._contacts.values() if c != named and is_short_id(text, c.peer))]
        nothing = tr("there is no contact '{text}'; `coterie contacts` lists them", text=text)
        labels = distinct([(str(c.peer), c.name, True) for c in found])
        return the_one(text, list(zip(labels, found, strict=True)), nothing)

    def add(self, peer: PeerId, name: str, addresses: Sequence[str], record: bytes, now: float) -> Contact:
        """Store a contact as it calls itself; one that is known keeps the name it has here.

        A name that another contact has gets a number: "anna (2)". Addresses that are none are left out.

        Raises:
            LimitExceeded: there are CONTACTS_MAX.
            StorageError: it cannot be written.
        """
        known = self._contacts.get(peer)
        if known is None and len(self._contacts) >= CONTACTS_MAX:
            raise LimitExceeded(
                tr("there are {contacts_max} contacts already; remove one first", contacts_max=CONTACTS_MAX)
            )
        own_name = known.name if known else self._free_name(_fit(name, peer))
        added = known.added if known else now
        usable = tuple(address for address in addresses if _is_address(address))[:ADDRESSES_MAX]
        return self._save(Contact(own_name, peer, usable, added, record))

    def succeed(self, lost: PeerId, heir: PeerId) -> Contact:
        """The contact `lost` is the computer `heir` of the same person now: under the same name, at no address yet."""
        contact = self._contacts[lost]
        self.remove(str(lost))
        return self._save(Contact(contact.name, heir, (), contact.added))

    def rename(self, text: str, name: str) -> Contact:
        """Call the contact that `find` finds by another name. Raises `UsageError` when that cannot be."""
        contact = self.find(text)
        wanted = checked(name)
        taken = self.by_name(wanted)
        if taken is not None and taken.peer != contact.peer:
            raise UsageError(
                tr(
                    "'{taken}' is another contact: {short}; choose another name",
                    taken=taken.name,
                    short=taken.peer.short,
                )
            )
        return self._save(Contact(wanted, contact.peer, contact.addresses, contact.added, contact.record))

    def remove(self, text: str) -> Contact:
        """Forget the contact that `find` finds."""
        contact = self.find(text)
        self._records.remove(str(contact.peer))
        del self._contacts[contact.peer], self._names[contact.peer], self._by_name[key_of(contact.name)]
        return contact

    def _save(self, contact: Contact) -> Contact:
        self._records.save(
            ContactRecord(
                id=str(contact.peer),
                created=contact.added,
                name=contact.name,
                addresses=list(contact.addresses),
                record=contact.record,
            )
        )
        return self._put(contact)

    def _put(self, contact: Contact) -> Contact:
        before = self._names.get(contact.peer)
        if before is not None:
            del self._by_name[key_of(before)]
        self._contacts[contact.peer] = contact
        self._names[contact.peer] = contact.name
        self._by_name[key_of(contact.name)] = contact.peer
        return contact

    def _free_name(self, name: str) -> str:
        if key_of(name) not in self._by_name:
            return name
        stem = name[: NAME_CHARS_MAX - _SUFFIX_CHARS_MAX].rstrip()
        numbered = (f"{stem} ({number})" for number in range(2, CONTACTS_MAX + 2))
        return next(made for made in numbered if key_of(made) not in self._by_name)


def _fit(name: str, peer: PeerId) -> str:
    return fit(name) or peer.short


def _is_address(text: str) -> bool:
    try:
        return not is_relay(text) and bool(pack_addresses((text,)))
    except UsageError:
        return False


def _contact(record: ContactRecord) -> Contact | None:
    try:
        peer = PeerId.parse(record.id)
    except UsageError as error:
        log.warning("the contact '%s' is left out: %s", record.name, error)
        return None
    return Contact(record.name, peer, tuple(record.addresses), record.created, record.record)
