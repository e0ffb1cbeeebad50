"""The directory of people: everybody known here, under a name that nobody else has, and what `--to` means.

Apps that know people register a `Source` each; policy, reach, relays and faces ask the directory.

A name that several peers have is followed by a beginning of their ids: anna~k3f and anna~q7z. A contact keeps the bare
name before a member of a circle who is called the same: the name of a contact was chosen here.
"""

import contextlib
import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from coterie.access.names import (
    ANYONE_WORD,
    CONTACTS_WORD,
    TICKET,
    distinct,
    fit,
    is_meant,
    is_short_id,
    key_of,
    marked,
)
from coterie.access.names import WORDS as MEANT
from coterie.access.policy import ANYONE, CONTACT, ROLES, Standing, of_circle, of_peer
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import SHORT_CHARS
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.pasted import plain

SOURCES_MAX = 16  # apps that know people; guess
WORDS = {ANYONE_WORD: ANYONE, CONTACTS_WORD: CONTACT, TICKET: TICKET}  # the subjects that are said by a word

_SHORT_ID = re.compile(rf"\b[a-z2-7]{{{SHORT_CHARS}}}\b")


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


class Named(msgspec.Struct, frozen=True):
    """Somebody, or several, whom something can be for; `what`: from where a person is known, or what the name is."""

    name: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one app knows of people. Its functions are asked each time and answer fast.

    Fields:
        of: what lists say of where a person is known from: "contact", "circle".
        names: everybody the app knows, with the name: a live view.
        is_chosen: the names were chosen on this node; they go before the names of other sources.
        standing: who a peer is for the policy; what several sources say of one peer adds up.
        addresses: where a peer was or may be, "ip:port".
        records: signed records of peers, to be kept in the address book.
        circles: the circles that this node is in.
    """

    of: str
    names: Callable[[], Mapping[PeerId, str]]
    is_chosen: bool = False
    standing: Callable[[PeerId], Standing] = lambda peer: Standing()
    addresses: Callable[[PeerId], Sequence[str]] = lambda peer: ()
    records: Callable[[], Iterable[bytes]] = tuple
    circles: Callable[[], Iterable[KnownCircle]] = tuple


class People:
    """The directory of people. Apps register what they know; the rest of the node asks here and names no app."""

    def __init__(self, own: PeerId | None = None, own_name: str = "") -> None:
        """`own`: the id of this computer, `own_name` what it calls itself."""
        self._own = own
        self._own_name = own_name
        self._sources: list[Source] = []
        self._present: Callable[[], Collection[PeerId]] | None = None
        self._heard: Callable[[], Mapping[PeerId, str]] = dict

    def watch_presence(self, present: Callable[[], Collection[PeerId]]) -> None:
        """`present()` gives everybody who is here now; without it, as on a node that is offline, nobody can say."""
        self._present = present

    def hear_names(self, heard: Callable[[], Mapping[PeerId, str]]) -> None:
        """`heard()` gives what computers call themselves, known here or not."""
        self._heard = heard

    def here(self) -> Collection[PeerId] | None:
        """Who is connected, or seen on the local network, now; None: nobody can say, the node is offline."""
        return self._present() if self._present is not None else None

    def is_here(self, peer: PeerId) -> bool | None:
        """Whether `peer` is; for a list, ask `here` once."""
        present = self.here()
        return None if present is None else peer in present

    def register(self, source: Source) -> None:
        """Ask `source` from now on; at most SOURCES_MAX, which is a mistake of the program. Raises `LimitExceeded`."""
        if len(self._sources) >= SOURCES_MAX:
            raise LimitExceeded(tr("{sources_max} apps register people already", sources_max=SOURCES_MAX))
        self._sources = sorted([*self._sources, source], key=lambda s: not s.is_chosen)

    # ---- quick questions: one look into a table for each source

    def standing(self, peer: PeerId) -> Standing:
        """Who `peer` is, by all that the sources say; blocked when one of them says so."""
        said = [source.standing(peer) for source in self._sources]
        if len(said) == 1:
            return said[0]
        return Standing(
            contact=any(one.contact for one in said),
            circles=tuple(circle for one in said for circle in one.circles),
            blocked=next((one.blocked for one in said if one.blocked), ""),
            persons=tuple(dict.fromkeys(person for one in said for person in one.persons)),
        )

    def is_known(self, peer: PeerId) -> bool:
        """Whether `peer` is a contact or in a circle of ours, and not blocked."""
        standing = self.standing(peer)
        return (standing.contact or bool(standing.circles)) and not standing.blocked

    def known(self) -> Mapping[PeerId, str]:
        """Everybody, with the name each has: chosen names first. Names may be alike; `names` tells them apart."""
        return ChainMap(*(cast(Any, source.names()) for source in self._sources))

    def computers_of(self, peer: PeerId) -> list[PeerId]:
        """All computers of the person of whom `peer` is one; `peer` first."""
        persons = {*self.standing(peer).persons} or {peer}
        found = [p for p in self.known() if persons & {*self.standing(p).persons}]
        return list(dict.fromkeys([peer, *found]))

    def contacts(self) -> Mapping[PeerId, str]:
        """Those whose names were chosen here, less the blocked: whom the node may dial, ask and relay for."""
        chosen = ChainMap(*(cast(Any, source.names()) for source in self._sources if source.is_chosen))
        return _Unblocked(chosen, lambda peer: bool(self.standing(peer).blocked))

    def addresses(self, peer: PeerId) -> list[str]:
        """Where the sources know `peer` to have been."""
        return list(dict.fromkeys(a for source in self._sources for a in source.addresses(peer)))

    def records(self) -> Iterator[bytes]:
        """The signed records of peers that the sources keep."""
        return (record for source in self._sources for record in source.records())

    # ---- names

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

    def called(self, peer: PeerId) -> str:
        """The name of `peer`; of one that is not known what it calls itself, with a mark; empty where nobody knows."""
        return self.by_short_id().get(peer.short, "")

    def _name_of_person(self, person: PeerId) -> str:
        """Whom a rule about `person` means: by the name of that computer, or by those of others of the person."""
        names = self.names()
        own = [name for name, known in names.items() if known.peer == person]
        further = [name for name, known in names.items() if known.person == person]
        return ", ".join(own or further) or person.short

    def by_short_id(self) -> Mapping[str, str]:
        """The name of everybody, by the short form of the id: of those not known what they call themselves, marked.

        The mark is the beginning of the id: nobody takes the name of a contact by calling itself so.
        """
        heard = {
            peer.short: marked(name, peer) for peer, said in self._heard().items() if (name := fit(said))
        }
        return heard | {known.peer.short: name for name, known in self.names().items()}

    def in_names(self, text: str) -> str:
        """`text` with names in the place of the short forms of ids, as `by_short_id` has them."""
        if not _SHORT_ID.search(text):
            return text
        names = self.by_short_id()
        return _SHORT_ID.sub(lambda found: names.get(found[0], found[0]), text)

    def find(self, text: str) -> PeerId:
        """The peer with this name, or whose id this is or begins with.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        names = self.names()
        wanted = key_of(text)
        for name in names:
            if key_of(name) == wanted:
                return self._unless_an_id(text, name, names)
        labels = {known.peer: name for name, known in names.items()}
        alike = [name for name, known in names.items() if key_of(known.name) == wanted]
        if not alike:  # what somebody is called in a circle, or a name with a beginning of the id behind it
            called_so = {k.peer: None for k in self._known() if _is_meant(text, k)}
            alike = [labels[peer] for peer in called_so]
        if not alike:
            alike = [name for name, known in names.items() if known.peer.matches(text)]
        if alike:
            return the_one(text, [(name, names[name].peer) for name in alike])
        try:
            return PeerId.parse(plain(text))
        except UsageError:
            if self._is_own(text):
                raise self._own_only(text) from None
            raise NotFound(
                tr(
                    "there is nobody called '{text}' here: `coterie contacts` shows who is, `coterie invite` makes a "
                    "contact of a computer",
                    text=text,
                )
            ) from None

    def is_called(self, text: str) -> bool:
        """Whether `find` knows anybody by `text`, or several."""
        try:
            self.find(text)
        except NotFound:
            return False
        except UsageError:
            return True
        return True

    def _unless_an_id(self, text: str, name: str, names: Mapping[str, Known]) -> PeerId:
        """Who has this name. Raises `UsageError` when it reads as the id of somebody else: that is a trap."""
        meant = names[name].peer
        other = next((n for n, k in names.items() if k.peer != meant and is_short_id(text, k.peer)), None)
        if other is not None:
            raise UsageError(
                tr(
                    "'{text}' is the name of one and the id of another ({other}); give more of the id",
                    text=text,
                    other=other,
                )
            )
        return meant

    def subject(self, text: str) -> str:
        """The subject that a person means by `text`: "anyone", "contacts", "ticket", a circle, a circle:role, a name.

        A name stands for all computers of a person.

        Raises:
            NotFound: there is none.
            UsageError: it may be several.
        """
        if key_of(text) in WORDS:
            return WORDS[key_of(text)]
        name, colon, role = text.rpartition(":")
        if colon and role not in ROLES and self._circles_called(name):
            raise UsageError(
                tr(
                    "'{role}' is no role: say {name}:{roles}",
                    role=role,
                    name=name,
                    roles=f", {name}:".join(ROLES),
                )
            )
        if not colon or role not in ROLES:
            name, role = text, "member"
        circles = self._circles_called(name)
        if len(circles) > 1:
            shown = " or ".join(distinct([(c.id, c.name, False) for c in circles]))
            raise UsageError(
                tr(
                    "there are {circles} circles called '{name}': say {shown}, or rename one",
                    circles=len(circles),
                    name=name,
                    shown=shown,
                )
            )
        if circles:
            if not colon and any(_is_meant(name, k) for k in self._known()):
                raise UsageError(
                    tr(
                        "'{text}' is a circle and a person: say {text}:member for the circle, or the id of the "
                        "computer",
                        text=text,
                    )
                )
            return of_circle(circles[0].id, role)
        alike = {k.person or k.peer for k in self._known() if key_of(k.name) == key_of(text)}
        alike = alike or {k.person or k.peer for k in self._known() if _is_meant(text, k)}
        if len(alike) == 1:
            return of_peer(alike.pop())
        if self._is_own(text):
            raise self._own_only(text)
        try:
            peer = self.find(text)
        except NotFound:
            raise NotFound(
                tr(
                    "'{text}' is no circle and nobody known here: `coterie people` lists who is; "
                    "there are also {words}",
                    text=text,
                    words=", ".join(WORDS),
                )
            ) from None
        found = next((known for known in self._known() if known.peer == peer), None)
        if found is None:
            raise UsageError(
                tr("{short} is not known here: meet it first, or give it a grant", short=peer.short)
            )
        return of_peer(found.person or peer)

    def _is_own(self, text: str) -> bool:
        """Whether `text` means this computer itself, where nobody else is called so."""
        own = self._own
        return own is not None and (is_meant(text, self._own_name, str(own)) or is_short_id(text, own))

    def _own_only(self, text: str) -> NotFound:
        """What to say to somebody who names this computer where another one is meant."""
        assert self._own is not None  # noqa: S101  (`_is_own` asked before)
        further = ", ".join(self.name_of(peer) for peer in self.computers_of(self._own)[1:])
        if further:
            return NotFound(
                tr(
                    "'{text}' is this computer itself; your other computers are {further}",
                    text=text,
                    further=further,
                )
            )
        return NotFound(
            tr(
                "'{text}' is this computer itself: what is here is yours already. `coterie people` lists whom else "
                "it can be for; `coterie devices add` makes another computer yours",
                text=text,
            )
        )

    def _circles_called(self, text: str) -> list[KnownCircle]:
        return [c for c in self._circles() if is_meant(text, c.name, c.id) or c.id == text]

    def subjects(self) -> list[Named]:
        """Everything that `subject` understands, as it is said here."""
        circles = [(c.id, c.name, False) for c in self._circles()]
        return [
            *(Named(name, known.of) for name, known in self.names().items()),
            *(Named(label, "circle") for label in distinct(circles)),
            *(Named(word, MEANT[word]) for word in WORDS),
        ]

    def circles(self) -> list[KnownCircle]:
        """The circles that this node is in."""
        return list(self._circles())

    def _known(self) -> list[Known]:
        return [
            Known(
                peer,
                fit(name) or peer.short,
                contact=source.is_chosen,
                of=source.of,
                person=next(iter(self.standing(peer).persons), None),
            )
            for source in self._sources
            for peer, name in source.names().items()
        ]

    def _circles(self) -> Iterator[KnownCircle]:
        return (circle for source in self._sources for circle in source.circles())

    def say(self, subject: str) -> str:
        """What a person calls `subject`."""
        kind, _, rest = subject.partition(":")
        if kind == "peer":
            with contextlib.suppress(UsageError):  # the id of no computer, in an old rule
                return self._name_of_person(PeerId.parse(rest))
            return rest
        if kind == "circle":
            circle, _, role = rest.rpartition(":")
            known = [(c.id, c.name, False) for c in self._circles()]
            labels = {one: label for (one, _, _), label in zip(known, distinct(known), strict=True)}
            name = labels.get(circle, circle[:SHORT_CHARS])
            return name if role == "member" else f"{name}:{role}"
        return next((word for word, meant in WORDS.items() if meant == subject), subject)


class _Unblocked(Mapping[PeerId, str]):
    """A view of `names` without the blocked."""

    def __init__(self, names: Mapping[PeerId, str], is_blocked: Callable[[PeerId], bool]) -> None:
        self._names = names
        self._is_blocked = is_blocked

    def __getitem__(self, peer: PeerId) -> str:
        if self._is_blocked(peer):
            raise KeyError(peer)
        return self._names[peer]

    def __iter__(self) -> Iterator[PeerId]:
        return (peer for peer in self._names if not self._is_blocked(peer))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_meant(text: str, known: Known) -> bool:
    """By the id of the computer, or by that of the person, which lists of a circle show."""
    return any(is_meant(text, known.name, str(one)) for one in (known.peer, known.person) if one)
