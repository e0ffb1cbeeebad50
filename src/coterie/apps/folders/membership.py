"""Who is in a live folder: a record that its owner signs; the one with the highest number counts. Pure.

    signed = "coterie folder" | 0 | body           body: msgpack of `FolderRecord`

Every computer with the folder derives its own rules from the record: a change of a member who may read only is refused
by each of them, whatever the member's own computer says.
"""

from collections.abc import Collection
from enum import IntEnum

import msgspec

from coterie.access.policy import is_for_many, of_peer
from coterie.access.resource import Verb
from coterie.apps.folders import signed_body
from coterie.decoding import decoder
from coterie.errors import LimitExceeded, PeerError, UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES, is_key
from coterie.texts import tr

CONTEXT = b"coterie folder\x00"
KEYS_CONTEXT = b"coterie folder keys\x00"  # see `folder_keys`
ENTRY_CONTEXT = b"coterie folder entry\x00"  # see `kept`
FOLDER_ID_BYTES = 16
NAME_CHARS_MAX = 64  # as of a share
MEMBERS_MAX = 256  # persons and circles in one record; guess: a circle stands for as many as it has
SUBJECT_CHARS_MAX = 128  # "circle:", 52 characters and a role
RECORD_BYTES_MAX = 48 << 10  # above MEMBERS_MAX of the longest
SEQ_MAX = 1 << 53  # exact in every language's numbers
KIND = "folders"


class Role(IntEnum):
    """What a member may. The numbers are on the wire."""

    READ = 1  # gets what others change
    WRITE = 2  # and changes it
    KEEP = 3  # keeps a copy that it cannot read


ROLE_VERBS = {
    Role.READ: Verb.LIST | Verb.READ,
    Role.WRITE: Verb.LIST | Verb.READ | Verb.WRITE,
    Role.KEEP: Verb.USE,  # nothing of the folder itself: it has an id of its own for keepers (`folder_keys`)
}


class FolderRecord(msgspec.Struct, frozen=True, array_like=True):
    """A live folder as its owner says that it is.

    Fields:
        id: 16 bytes, for ever. `name`: what it is called.
        owner: the computer that made it, whose key signs. Its person may everything.
        seq: from 1; the highest counts. `at_ms`: when it was written, for people.
        members: subject of the policy (a person's computer, or a circle) and `Role`.
        is_over: the owner ended it: nobody follows any more; files stay where they are.
    """

    id: bytes
    name: str
    owner: bytes
    seq: int
    at_ms: int
    members: tuple[tuple[str, int], ...] = ()
    is_over: bool = False


def resource_of(folder: bytes) -> str:
    """What the policy is asked about a folder."""
    return f"{KIND}/{folder.hex()}"


def to_sign(record: FolderRecord) -> bytes:
    """The bytes that the owner signs."""
    return signed_body.to_sign(CONTEXT, record)


@decoder(PeerError, "the record of a folder")
def open_record(raw: bytes) -> FolderRecord:
    """Read and verify what `signed_body.packed` made of a record.

    Raises:
        PeerError: it is none, is forged, or over a bound.
    """
    noun = "the record of a folder"
    record = msgspec.msgpack.decode(signed_body.body_of(raw, noun, RECORD_BYTES_MAX), type=FolderRecord)
    if fault := _fault(record):
        raise PeerError(f"{noun} with {fault}")
    signed_body.check_signed(raw, record, CONTEXT, record.owner, noun)
    return record


def _fault(record: FolderRecord) -> str | None:
    if len(record.id) != FOLDER_ID_BYTES or len(record.owner) != KEY_BYTES or not is_key(record.owner):
        return "an id that is none"
    if not 0 < len(record.name) <= NAME_CHARS_MAX or not record.name.isprintable() or "/" in record.name:
        return "a name that cannot be one"
    if not 1 <= record.seq <= SEQ_MAX or not 0 <= record.at_ms <= SEQ_MAX:
        return "a number that cannot be"
    if len(record.members) > MEMBERS_MAX:
        return f"over {MEMBERS_MAX} members"
    if any(role not in set(Role) or not is_member(subject) for subject, role in record.members):
        return "a member that cannot be one"
    return None


def is_member(subject: str) -> bool:
    """Whether `subject` means the same on every computer: one person, or a circle; not "contacts", not "anyone"."""
    if len(subject) > SUBJECT_CHARS_MAX:
        return False
    kind, _, rest = subject.partition(":")
    if kind == "circle":
        return is_for_many(subject)
    try:
        return kind == "peer" and of_peer(PeerId.parse(rest)) == subject
    except UsageError:
        return False


def member_of(text: str, default: Role = Role.WRITE) -> tuple[str, Role]:
    """WHOM and the role in "WHOM" or "WHOM:ROLE"; a role of a circle stays part of WHOM.

    Raises:
        UsageError: nobody is named.
    """
    whom, colon, word = text.rpartition(":")
    role = {r.name.lower(): r for r in Role}.get(word.strip().lower())
    if not colon or role is None:
        whom, role = text, default
    if not whom.strip():
        raise UsageError(tr("say with whom: a person, a computer or a circle"))
    return whom.strip(), role


def with_member(record: FolderRecord, subject: str, role: Role, at_ms: int) -> FolderRecord:
    """The next record: `subject` is a member with this role.

    Raises:
        UsageError: the subject means something else on each computer.
        LimitExceeded: MEMBERS_MAX are there.
    """
    if not is_member(subject):
        raise UsageError(
            tr(
                "name persons, computers or circles: 'contacts' and 'anyone' would mean others on each computer"
            )
        )
    others = tuple(member for member in record.members if member[0] != subject)
    if len(others) >= MEMBERS_MAX:
        raise LimitExceeded(
            tr("a folder has {members_max} members at most: make a circle of them", members_max=MEMBERS_MAX)
        )
    return _next(record, (*others, (subject, int(role))), at_ms)


def without_member(record: FolderRecord, subject: str, at_ms: int) -> FolderRecord:
    """The next record: `subject` is a member no longer. Raises UsageError: it was none."""
    others = tuple(member for member in record.members if member[0] != subject)
    if len(others) == len(record.members):
        raise UsageError(tr("'{subject}' is no member of {name}", subject=subject, name=record.name))
    return _next(record, others, at_ms)


def ended(record: FolderRecord, at_ms: int) -> FolderRecord:
    """The last record: nobody follows any more."""
    return msgspec.structs.replace(record, seq=record.seq + 1, at_ms=at_ms, is_over=True)


def is_newer(record: FolderRecord, known: FolderRecord | None) -> bool:
    """Whether `record` takes the place of `known`: of the same folder and owner, with a higher number."""
    if known is None:
        return True
    return (record.id, record.owner) == (known.id, known.owner) and record.seq > known.seq


def rules_of(record: FolderRecord) -> Collection[tuple[str, Verb]]:
    """Which subject may do what: what each computer with the folder permits."""
    if record.is_over:
        return []
    owner = (of_peer(PeerId(record.owner)), ROLE_VERBS[Role.WRITE])
    return [owner, *((subject, ROLE_VERBS[Role(role)]) for subject, role in record.members)]


def _next(record: FolderRecord, members: tuple[tuple[str, int], ...], at_ms: int) -> FolderRecord:
    return msgspec.structs.replace(record, seq=record.seq + 1, at_ms=at_ms, members=members)
