"""People under readable names: everybody known here, each name for one peer only, and what `--to` means.

A name that several peers have is followed by a beginning of their ids: anna~k3f and anna~q7z. A contact keeps the bare
name before a member of a circle who is called the same: the name of a contact was chosen here.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from coterie.access.policy import ANYONE, CONTACT, ROLES, of_circle, of_peer
from coterie.errors import NotFound, UsageError
from coterie.identity import PeerId

MARK = "~"
MARK_CHARS_MIN = 3  # of an id behind a name; more where three do not tell them apart
TICKET = "ticket"  # the subject of those who have a share's ticket
WORDS = {"anyone": ANYONE, "contacts": CONTACT, TICKET: TICKET}


class Known(msgspec.Struct, frozen=True):
    """A peer with the name it is known by; `contact`: the name was chosen here. `of`: where it is known from.

    `person`: the first computer of the person of whom it is one; None: unknown, or itself.
    """

    peer: PeerId
    name: str
    contact: bool = True
    of: str = ""
    person: PeerId | None = None


class KnownCircle(msgspec.Struct, frozen=True):
    """A circle of this node: its id as text and its name here."""

    id: str
    name: str


class People:
    """Asks `known` and `circles` each time: what they say may change."""

    def __init__(
        self, known: Callable[[], Iterable[Known]], circles: Callable[[], Iterable[KnownCircle]]
    ) -> None:
        self._known = known
        self._circles = circles

    def names(self) -> Mapping[str, Known]:
        """Everybody, by a name that nobody else has."""
        first: dict[PeerId, Known] = {}
        for known in sorted(self._known(), key=lambda k: not k.contact):
            first.setdefault(known.peer, known)
        labels = distinct([(str(k.peer), k.name, k.contact) for k in first.values()])
        return dict(zip(labels, first.values(), strict=True))

    def name_of(self, peer: PeerId) -> str:
        """The name of `peer`, or the short form of its id."""
        return next((name for name, known in self.names().items() if known.peer == peer), peer.short)

    def find(self, text: str) -> PeerId:
        """The peer with this name, or whose id this is or begins with.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        names = self.names()
        wanted = _key(text)
        for name, known in names.items():
            if _key(name) == wanted:
                return known.peer
        alike = [name for name, known in names.items() if _key(known.name) == wanted]
        if not alike:
            called_so = {known.peer for known in self._known() if _key(known.name) == wanted}
            alike = [name for name, known in names.items() if known.peer in called_so]
        if not alike:
            alike = [name for name, known in names.items() if known.peer.matches(text)]
        if len(alike) == 1:
            return names[alike[0]].peer
        if alike:
            raise UsageError(f"'{text}' may be any of {', '.join(sorted(alike)[:5])}; say which")
        try:
            return PeerId.parse(text)
        except UsageError:
            raise NotFound(f"there is nobody called '{text}' here; `coterie ls` shows who is") from None

    def subject(self, text: str) -> str:
        """The subject that a person means by `text`: "anyone", "contacts", "ticket", a circle, a circle:role, a name.

        A name stands for all computers of a person.

        Raises:
            NotFound: there is none.
            UsageError: it may be several.
        """
        if text in WORDS:
            return WORDS[text]
        name, colon, role = text.rpartition(":")
        if not colon or role not in ROLES:
            name, role = text, "member"
        circles = [c for c in self._circles() if _key(c.name) == _key(name) or c.id == name]
        if len(circles) > 1:
            raise UsageError(f"there are {len(circles)} circles called '{name}': use an id, or rename one")
        if circles:
            if not colon and any(_key(k.name) == _key(name) for k in self._known()):
                raise UsageError(
                    f"'{text}' is a circle and a person: say {text}:member for the circle, or the peer's id"
                )
            return of_circle(circles[0].id, role)
        alike = {known.person or known.peer for known in self._known() if _key(known.name) == _key(text)}
        if len(alike) == 1:
            return of_peer(alike.pop())
        try:
            peer = self.find(text)
        except NotFound:
            raise NotFound(
                f"'{text}' is no circle and nobody known here; there are also {', '.join(WORDS)}"
            ) from None
        found = next((known for known in self._known() if known.peer == peer), None)
        if found is None:
            raise UsageError(f"{peer.short} is not known here: meet it first, or give it a grant")
        return of_peer(found.person or peer)

    def say(self, subject: str) -> str:
        """What a person calls `subject`."""
        kind, _, rest = subject.partition(":")
        if kind == "peer":
            return self.name_of(PeerId.parse(rest))
        if kind == "circle":
            circle, _, role = rest.rpartition(":")
            name = next((c.name for c in self._circles() if c.id == circle), circle[:10])
            return name if role == "member" else f"{name}:{role}"
        return next((word for word, meant in WORDS.items() if meant == subject), subject)


def distinct(items: Sequence[tuple[str, str, bool]]) -> list[str]:
    """A label for each (id, name, whether it keeps a bare name before the others), no two alike but for case.

    One that alone has a name, or alone keeps it, has it bare; the others get a beginning of their ids behind it.
    """
    alike: dict[str, list[tuple[str, bool]]] = {}
    for identity, name, first in items:
        alike.setdefault(_key(name), []).append((identity, first))
    labels = []
    for identity, name, first in items:
        others = [other for other in alike[_key(name)] if other[0] != identity]
        rivals = [other for other in others if other[1]] if first else others
        labels.append(name + MARK + _mark(identity, [o for o, _ in others]) if rivals else name)
    return labels


def _mark(identity: str, others: Sequence[str]) -> str:
    """The beginning of `identity` that none of `others` has."""
    length = MARK_CHARS_MIN
    while length < len(identity) and any(other.startswith(identity[:length]) for other in others):
        length += 1
    return identity[:length]


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
