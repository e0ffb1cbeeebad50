"""Names of people, computers and circles: what may be one, wherever a name enters, and how names are told apart.

A place is NAME/PATH; whom something is for is a word, NAME, NAME~MARK, CIRCLE or CIRCLE:ROLE. So no name has a
character that means something there, is one of the words, or reads as an id. What a person here types is refused when
it is no name (`checked`); what others claim, and what old homes hold, is made one (`fit`).
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import SHORT_CHARS
from coterie.texts import tr

NAME_CHARS_MAX = 64  # guess; as long on the wire (wire/record.py, apps/contacts/messages.py)
MARK = "~"
MARK_CHARS_MIN = 3  # of an id behind a name; more where three do not tell them apart
MEANINGS: Mapping[str, str] = {
    "/": "stands between a name and a path",
    "\\": "stands between a name and a path",
    MARK: "stands between a name and the beginning of an id",
    ":": "stands between a circle and a role",
    ",": "stands between the members of a list",
}
ANYONE_WORD, CONTACTS_WORD, TICKET, BEARER = "anyone", "contacts", "ticket", "bearer"
WORDS: Mapping[str, str] = {
    ANYONE_WORD: "everybody who asks",
    CONTACTS_WORD: "everybody whom this computer knows",
    TICKET: "whoever has the ticket",
    BEARER: "whoever has the text of a grant",
}
_LEADING = "-. "  # an option of the command line, or a path
_FITTED_MAX = 4_096  # names whose fit form is remembered; guess: 1 MB


@lru_cache(maxsize=_FITTED_MAX)
def fit(text: str) -> str:
    """`text` as a name: what has a meaning or is invisible is replaced; empty when nothing is left that could be one.

    A name stays as it is: `fit(fit(text)) == fit(text)`.
    """
    visible = "".join(_visible(char) for char in text)
    name = unicodedata.normalize("NFC", " ".join(visible.split())).lstrip(_LEADING)[:NAME_CHARS_MAX].strip()
    if _is_id(name):
        return ""
    return f"{name}_" if key_of(name) in WORDS else name


def checked(text: str) -> str:
    """`text` if it is a name as it stands. Raises `UsageError` that says what is wrong with it."""
    wanted = unicodedata.normalize("NFC", text.strip())
    if wanted and fit(wanted) == wanted:
        return wanted
    if key_of(wanted) in WORDS:
        raise UsageError(
            tr(
                "'{wanted}' cannot be a name: it means {words}; choose another",
                wanted=wanted,
                words=WORDS[key_of(wanted)],
            )
        )
    for char in wanted:
        meaning = next((MEANINGS[c] for c in unicodedata.normalize("NFKC", char) if c in MEANINGS), None)
        if meaning is not None:
            raise UsageError(
                tr(
                    "'{wanted}' cannot be a name: '{char}' {meaning}; choose another",
                    wanted=wanted,
                    char=char,
                    meaning=meaning,
                )
            )
    if _is_id(wanted):
        raise UsageError(tr("an id cannot be a name: choose another"))
    if wanted.startswith(tuple(_LEADING)):
        raise UsageError(
            tr(
                "'{wanted}' cannot be a name: it begins like an option or a path; choose another",
                wanted=wanted,
            )
        )
    raise UsageError(
        tr(
            "a name has 1 to {name_chars_max} printable characters, single blanks between them",
            name_chars_max=NAME_CHARS_MAX,
        )
    )


def key_of(name: str) -> str:
    """What two names that count as the same have in common: case and Unicode form do not matter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def is_meant(text: str, name: str, identity: str) -> bool:
    """Whether `text` means who is called `name` and has this id: the name, or "name~" and a beginning of the id."""
    if key_of(text) == key_of(name):
        return True
    stem, mark, beginning = text.rpartition(MARK)
    is_mark = bool(mark) and len(beginning) >= MARK_CHARS_MIN and identity.startswith(beginning.lower())
    return is_mark and key_of(stem) == key_of(name)


def is_short_id(text: str, peer: PeerId) -> bool:
    """Whether `text` reads as the id of `peer`: a beginning that is long enough to be shown instead of a name."""
    return len(text.strip()) >= SHORT_CHARS and peer.matches(text)


def marked(name: str, peer: PeerId) -> str:
    """`name` with the mark of the computer that has it: for one that chose it itself, or has none of its own."""
    return f"{name}{MARK}{str(peer)[:MARK_CHARS_MIN]}"


def distinct(items: Sequence[tuple[str, str, bool]]) -> list[str]:
    """A label for each (id, name, whether it keeps a bare name before the others), no two alike but for case.

    One that alone has a name, or alone keeps it, has it bare; the others get a beginning of their ids behind it. A name
    that looks like another with its mark gets a mark of its own.
    """
    alike: dict[str, list[tuple[str, bool]]] = {}
    for identity, name, first in items:
        alike.setdefault(key_of(name), []).append((identity, first))
    labels = []
    for identity, name, first in items:
        others = [other for other in alike[key_of(name)] if other[0] != identity]
        rivals = [other for other in others if other[1]] if first else others
        labels.append(name + MARK + _mark(identity, [o for o, _ in others]) if rivals else name)
    if any(MARK in name for _, name, _ in items):
        _mark_imitations(items, labels)
    return labels


def _mark_imitations(items: Sequence[tuple[str, str, bool]], labels: list[str]) -> None:
    identities = [identity for identity, _, _ in items]
    while True:
        bearers = Counter(map(key_of, labels))
        bare = [
            at for at, (_, name, _) in enumerate(items) if labels[at] == name and bearers[key_of(name)] > 1
        ]
        if not bare:
            return
        for at in bare:
            others = [other for other in identities if other != identities[at]]
            labels[at] += MARK + _mark(identities[at], others)


def _mark(identity: str, others: Sequence[str]) -> str:
    """The beginning of `identity` that none of `others` has."""
    length = MARK_CHARS_MIN
    while length < len(identity) and any(other.startswith(identity[:length]) for other in others):
        length += 1
    return identity[:length]


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":  # among them those that turn the direction of the text around them
        return ""
    if category[0] in "CZ":
        return " "
    return "-" if not MEANINGS.keys().isdisjoint(unicodedata.normalize("NFKC", char)) else char


def _is_id(name: str) -> bool:
    try:
        PeerId.parse(name)
    except UsageError:
        return False
    return True
