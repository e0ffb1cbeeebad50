"""Keeps apart, within one download, what strangers could count and what lies on this computer."""

import threading

from coterie.errors import AccessDenied

SAYS = (
    "this download took something from files of this computer, so it has to do with contacts and circles only"
)


class Discretion:
    """Whether a download may take chunks from files of this computer, and with whom it has to do.

    What is not asked for tells a giver what lies here, and what is never given on tells an asker. So a download uses
    this computer's own files only while it deals with nobody but those who are known here (contacts, members of common
    circles); from then on it deals with nobody else. Safe from several threads.
    """

    def __init__(self, *, is_giver_known: bool, has_reused: bool = False) -> None:
        """`is_giver_known`: the giver that the ticket names is no stranger. `has_reused`: an earlier run did."""
        self._lock = threading.Lock()
        self._may_reuse = is_giver_known
        self.has_reused = is_giver_known and has_reused

    def may_reuse(self) -> bool:
        """Whether files of this computer may be looked at."""
        with self._lock:
            return self._may_reuse

    def claim_reuse(self) -> bool:
        """Something of this computer is about to be used; False: it must not be. From now on strangers are refused."""
        with self._lock:
            self.has_reused |= self._may_reuse
            return self._may_reuse

    def meet(self, *, is_known: bool) -> None:
        """A giver or an asker is about to take part.

        Raises:
            AccessDenied: it is a stranger, and this download has used files of this computer.
        """
        with self._lock:
            if is_known:
                return
            if self.has_reused:
                raise AccessDenied(SAYS)
            self._may_reuse = False
