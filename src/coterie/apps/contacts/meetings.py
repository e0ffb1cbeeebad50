"""Invitations that make no contacts: two computers meet over a code for the purpose of one command, and know each other
no longer than that lasts.

Such an invitation says so in its purpose: "\\0meet ", the word of the command that takes the code, 0, and what the
command is to know. A computer of version 0.1 that joins by `coterie join` takes the other for a contact, as ever;
the other does not.
"""

from coterie.errors import UsageError
from coterie.texts import tr

_MARK = b"\0meet "
TRIES = 1  # of a code: one wrong guess burns it, as those of magic-wormhole


def meeting_purpose(word: str, data: bytes) -> bytes:
    """The purpose of an invitation for the command `coterie WORD CODE`."""
    return _MARK + word.encode("ascii") + b"\0" + data


def meeting_word(purpose: bytes) -> str:
    """For which command an invitation with this purpose is; empty: it makes contacts."""
    if not purpose.startswith(_MARK):
        return ""
    word = purpose.removeprefix(_MARK).partition(b"\0")[0]
    return word.decode("ascii", errors="replace") or "?"


def meeting_data(purpose: bytes) -> bytes:
    """What that command is to know."""
    return purpose.removeprefix(_MARK).partition(b"\0")[2]


def check_word(purpose: bytes, word: str) -> None:
    """Raise `UsageError` unless an invitation with this purpose is for `coterie WORD`; "": to make contacts."""
    meant = meeting_word(purpose)
    if meant != word:
        raise UsageError(tr("this code is for another command: coterie {meant} CODE", meant=meant or "join"))
