"""The list of contacts: who is one, under which name. Kept on disk through `coterie.apps.records`."""

import unicodedata
from collections.abc import Sequence
from types import MappingProxyType

import msgspec

from coterie.apps.contacts.messages import ADDRESSES_MAX, NAME_CHARS_MAX
from coterie.apps.records import Records
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.wire.ticket import pack_addresses

CONTACTS_MAX = 10_000  # guess: far above anybody's; 10,000 small files load in about a second
_SUFFIX_CHARS_MAX = len(f" ({CONTACTS_MAX})")


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
        self._contacts = {contact.peer: contact for contact in map(_contact, records)}
        self._names = {contact.peer: contact.name for contact in self._contacts.values()}
        self.names = MappingProxyType(self._names)  # a live view

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
        wanted = _key(name)
        return next((c for c in self._contacts.values() if _key(c.name) == wanted), None)

    def find(self, text: str) -> Contact:
        """The contact with this name, or whose peer id this is or begins with.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        named = self.by_name(text)
        if named is not None:
            return named
        found = [c for c in self._contacts.values() if c.peer.matches(text)]
        if not found:
            raise NotFound(f"there is no contact '{text}'; `coterie contacts` lists them")
        if len(found) > 1:
            names = ", ".join(c.name for c in found)
            raise UsageError(f"'{text}' is the beginning of {len(found)} contacts ({names}); use a name")
        return found[0]

    def add(self, peer: PeerId, name: str, addresses: Sequence[str], record: bytes, now: float) -> Contact:
        """Store a contact as it calls itself; one that is known keeps the name it has here.

        A name that another contact has gets a number: "anna (2)". Addresses that are none are left out.

        Raises:
            LimitExceeded: there are CONTACTS_MAX.
            StorageError: it cannot be written.
        """
        known = self._contacts.get(peer)
        if known is None and len(self._contacts) >= CONTACTS_MAX:
            raise LimitExceeded(f"there are {CONTACTS_MAX} contacts already; remove one first")
        own_name = known.name if known else self._free_name(clean_name(name) or peer.short)
        added = known.added if known else now
        usable = tuple(address for address in addresses if _is_address(address))[:ADDRESSES_MAX]
        return self._save(Contact(own_name, peer, usable, added, record))

    def rename(self, text: str, name: str) -> Contact:
        """Call the contact that `find` finds by another name. Raises `UsageError` when that cannot be."""
        contact = self.find(text)
        wanted = clean_name(name)
        if not wanted or wanted != unicodedata.normalize("NFC", name):
            raise UsageError(f"a name has 1 to {NAME_CHARS_MAX} printable characters")
        taken = self.by_name(wanted)
        if taken is not None and taken.peer != contact.peer:
            raise UsageError(f"'{taken.name}' is another contact: {taken.peer.short}; choose another name")
        return self._save(Contact(wanted, contact.peer, contact.addresses, contact.added, contact.record))

    def remove(self, text: str) -> Contact:
        """Forget the contact that `find` finds."""
        contact = self.find(text)
        self._records.remove(str(contact.peer))
        del self._contacts[contact.peer], self._names[contact.peer]
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
        self._contacts[contact.peer] = contact
        self._names[contact.peer] = contact.name
        return contact

    def _free_name(self, name: str) -> str:
        taken = {_key(contact.name) for contact in self._contacts.values()}
        if _key(name) not in taken:
            return name
        stem = name[: NAME_CHARS_MAX - _SUFFIX_CHARS_MAX].rstrip()
        numbered = (f"{stem} ({number})" for number in range(2, CONTACTS_MAX + 2))
        return next(made for made in numbered if _key(made) not in taken)


def clean_name(text: str) -> str:
    """A name that a peer gave, fit for screens: no control or invisible characters, single blanks, not too long."""
    visible = "".join(
        c if unicodedata.category(c)[0] not in "CZ" else " " for c in text if not _is_invisible(c)
    )
    return unicodedata.normalize("NFC", " ".join(visible.split()))[:NAME_CHARS_MAX].strip()


def _is_invisible(char: str) -> bool:
    """Format characters: among them those that turn the direction of the text around them."""
    return unicodedata.category(char) == "Cf"


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _is_address(text: str) -> bool:
    try:
        pack_addresses((text,))
    except UsageError:
        return False
    return True


def _contact(record: ContactRecord) -> Contact:
    return Contact(
        record.name, PeerId.parse(record.id), tuple(record.addresses), record.created, record.record
    )
