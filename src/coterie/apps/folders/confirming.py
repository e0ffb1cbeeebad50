"""Asks others whether they have what was changed here: until one does, it is not safe to switch this computer off."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.chosen_rows import ChosenRows
from coterie.apps.folders.messages import HAVE_BYTES_MAX, HAVE_MAX
from coterie.apps.folders.rounds import Rounds
from coterie.identity import PeerId

AGAIN_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)  # while somebody has the folder; guess: they fetch meanwhile
File = tuple[str, bytes]
Ask = Callable[[PeerId, Sequence[File], bytes], Awaitable[Sequence[bytes]]]


class Confirming:
    """Of one folder. Belongs to the event loop."""

    def __init__(
        self, rows: ChosenRows, book: FolderBook, *, peers: Callable[[], Collection[PeerId]], ask: Ask
    ) -> None:
        """`ask`: as of `freeing.Freeing`."""
        self._rows = rows
        self._book = book
        self._peers = peers
        self._ask = ask
        self._rounds = Rounds(AGAIN_S)
        self.look_again = self._rounds.look_again

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._rounds.run(self._round)

    async def _round(self) -> tuple[int, int]:
        """Ask everybody for everything once: (how much is left that somebody may have, how much somebody has)."""
        behind: File = "", b""
        left = confirmed = 0
        while True:
            rows = await asyncio.to_thread(self._rows.alone, behind, HAVE_MAX)
            part: list[File] = []
            size = 0
            for path, content in rows:
                size += len(path.encode()) + len(content) + 8
                if size > HAVE_BYTES_MAX:
                    break
                part.append((path, content))
            if not part:
                return (left if self._peers() else 0), confirmed
            behind = part[-1]
            stands = await asyncio.to_thread(self._book.stands, part)
            had = [one for one in part if one not in stands]
            missing = [one for one in part if one in stands]
            for peer in list(self._peers()):
                if missing:
                    proofs = await self._ask(peer, missing, b"")
                    found = {one for one, proof in zip(missing, proofs, strict=True) if proof}
                    missing = [one for one in missing if one not in found]
                    had += found
                    confirmed += len(found)
            if had:
                await asyncio.to_thread(self._rows.shared, had)
            left += len(missing)
