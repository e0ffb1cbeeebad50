"""The short code of an invitation: a public number and two secret words, "7-planet-velvet".

The words are of the BIP-39 list: 2,048 of them, told apart by their first four letters. Two are 22 bits: with three
tries a guesser comes in once in 1.4 million invitations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr
from coterie.wire.pasted import words

WORDS = 2
NUMBER_MAX = 99  # short to say; a network has few invitations at a time
WORD_CHARS_MIN = 4  # enough to tell the words apart (BIP-39)
TEXT_CHARS_MAX = 64  # guess: the longest code has 20
_BEFORE = ("coterie", "circle", "devices", "join")  # the whole command was pasted


@cache
def word_list() -> tuple[str, ...]:
    """The 2,048 words, in alphabetical order."""
    from mnemonic import Mnemonic

    return tuple(Mnemonic("english").wordlist)


@dataclass(frozen=True)
class Code:
    """`number` finds the invitation and is no secret; `words` are."""

    number: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join((str(self.number), *self.words))

    def __repr__(self) -> str:
        return f"Code({self.number}, words hidden)"

    @property
    def secret(self) -> bytes:
        """The words as both sides put them into the key exchange."""
        return "-".join(self.words).encode()

    @classmethod
    def make(cls, number: int, entropy: Callable[[int], bytes]) -> "Code":
        """A code with words drawn from `entropy`, all alike probable."""
        known = word_list()
        drawn = int.from_bytes(entropy(2 * WORDS), "big")
        return cls(number, tuple(known[(drawn >> 16 * place) % len(known)] for place in range(WORDS)))

    @classmethod
    @decoder(UsageError, "this code")
    def parse(cls, text: str) -> "Code":
        """Read a code: case, blanks, hyphens and what was pasted around it do not matter; four letters of a word
        are enough.

        Raises:
            UsageError: says which part cannot be.
        """
        parts = [part.lower() for part in words(text[: TEXT_CHARS_MAX + 1])]
        while parts and parts[0] in _BEFORE:
            del parts[0]
        number = parts[0] if parts else ""
        if (
            len(text) > TEXT_CHARS_MAX
            or len(parts) != 1 + WORDS
            or not (number.isascii() and number.isdigit())
        ):
            raise UsageError(tr("a code is a number and two words, like 7-planet-velvet"))
        if not 1 <= int(number) <= NUMBER_MAX:
            raise UsageError(
                tr(
                    "the number of a code is 1 to {number_max}, not {number}",
                    number_max=NUMBER_MAX,
                    number=number,
                )
            )
        return cls(int(number), tuple(map(_word, parts[1:])))


def _word(text: str) -> str:
    known = word_list()
    if text in known:
        return text
    begun = [word for word in known if word.startswith(text)] if len(text) >= WORD_CHARS_MIN else []
    if len(begun) == 1:
        return begun[0]
    import difflib

    close = difflib.get_close_matches(text, known, n=3)
    advice = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(tr("'{text}' is not one of the words of a code{advice}", text=text, advice=advice))
