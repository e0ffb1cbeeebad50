"""Who is let in: rights, keys of one use, guesses. Pure; times are seconds of one clock that the caller has."""

from collections.abc import Mapping, Sequence

import msgspec

from coterie.crowd import Crowd
from coterie.errors import LimitExceeded, UsageError
from coterie.rate import Rate, RateTable
from coterie.texts import tr

RIGHTS: Mapping[str, str] = {
    "look": "see people, places, transfers and notices",
    "get": "get what others share",
    "upload": "keep its own files and pictures on this computer",
    "send": "send what is in its folders to people",
    "answer": "take or decline what people send",
    "play": "play films and music",
    "share": "share what is in its folders, and end that",
    "people": "invite, join and remove people, change circles and permissions",
    "settings": "change settings and ports",
    "devices": "change your devices, the recovery phrase, browsers and phones",
}
"""What a phone may be allowed. A part of the page that none of these opens is closed to every phone."""

USUAL = ("look", "get", "upload", "send", "answer", "play")
KEY_LASTS_S = 15 * 60.0  # guess: finding the phone, and installing the certificate
KEYS_MAX = 8  # at once; the oldest leaves
PHONES_MAX = 32  # guess: every phone and tablet of a large household
GUESS_PER_S, GUESS_BURST = (
    1 / 6,
    10,
)  # of one address: keys have 128 bits, so this is for quiet logs and processors
GUESS_ALL_PER_S, GUESS_ALL_BURST = 5.0, 100  # of all addresses together
ADDRESSES_MAX = 1_024  # whose guesses are counted; guess: more than a local network has
LINES_MAX = 256  # connections of phones whose owner is remembered


class Key(msgspec.Struct, frozen=True):
    """What one phone is let in by: until when, as whom, with which rights, over "https" or "http"."""

    until: float
    name: str
    may: tuple[str, ...]
    over: str


class Keys:
    """Keys of one use, by their digests."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def add(self, digest: str, key: Key) -> None:
        """Let in who shows this key once."""
        while len(self._keys) >= KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        self._keys[digest] = key

    def take(self, digest: str, over: str, now: float) -> Key | None:
        """The key, which is of no use from now on; None: it is unknown, used, too old, or for another way."""
        found = self._keys.get(digest)
        if found is None or found.over != over:
            return None
        del self._keys[digest]
        return found if now <= found.until else None

    def forget(self, digest: str) -> None:
        """Nobody is let in by it any more."""
        self._keys.pop(digest, None)

    def waits(self, digest: str, now: float) -> bool:
        """Whether it can still be shown."""
        found = self._keys.get(digest)
        return found is not None and now <= found.until


class Guesses:
    """How often keys may be tried: of one address, and of all."""

    def __init__(self) -> None:
        self._of = RateTable[str, Rate](ADDRESSES_MAX, lambda _: Rate(GUESS_PER_S, GUESS_BURST))
        self._all = Rate(GUESS_ALL_PER_S, GUESS_ALL_BURST)

    def may(self, address: str, now: float) -> bool:
        """Whether `address` may try once more; it is counted."""
        return self._of.of(address).take(now) and self._all.take(now)


class Lines:
    """Which connections, by the address and port of the other end, are those of which phone."""

    def __init__(self) -> None:
        self._lines = Crowd[tuple[str, int], str]()

    def add(self, line: tuple[str, int], phone: str) -> None:
        """A request of this phone came over it."""
        if line in self._lines:
            self._lines.remove(line)
        if len(self._lines) >= LINES_MAX:
            self._lines.remove(self._lines.next_to_go())
        self._lines.add(line, phone)

    def of(self, phone: str) -> set[tuple[str, int]]:
        """Those of one phone."""
        return {line for line in self._lines if self._lines.owner_of(line) == phone}


def read_rights(words: Sequence[str]) -> tuple[str, ...]:
    """Rights as a person writes them, "look,get" or one after the other; the usual ones for none.

    Raises:
        UsageError: there is no such right.
    """
    said = [word.strip() for text in words for word in text.split(",") if word.strip()]
    for word in said:
        if word not in RIGHTS:
            raise UsageError(
                tr(
                    "a phone cannot be allowed '{word}'; there are: {known}",
                    word=word,
                    known=", ".join(RIGHTS),
                )
            )
    return tuple(right for right in RIGHTS if right in (said or USUAL))


def check_room(phones: int) -> None:
    """Raises `LimitExceeded` where one more phone is too many."""
    if phones >= PHONES_MAX:
        raise LimitExceeded(
            tr(
                "{phones_max} phones are known already: `coterie phone remove` one first",
                phones_max=PHONES_MAX,
            )
        )
