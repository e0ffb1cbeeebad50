"""Takes files off this disk that are on demand, once somebody else has shown that he has their contents.

Others are asked just before, each file with a new number, from which and the whole content they make a proof. While a
file is about to leave, this computer answers others that it does not have it: so two that let go of the same file at
the same time never take each other for the one who keeps it. Whoever last begins to let go of a file was told by one
that did not let go of it then, nor later.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from coterie.apps.folders import planner
from coterie.apps.folders.applying import Done, Failed
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.chosen_rows import ChosenRows, Leaving
from coterie.apps.folders.disk import Disk, DiskStep
from coterie.apps.folders.messages import NONCE_BYTES
from coterie.apps.folders.register import Kind
from coterie.apps.folders.rounds import Rounds
from coterie.apps.folders.steps import Agreed, Print
from coterie.apps.folders.swap import is_same
from coterie.content import no_links
from coterie.identity import PeerId

TOGETHER_MAX = 64  # files that are asked for together
TOGETHER_BYTES = 256 << 20  # of them, where it is more than one: each is read on both sides
READ_BYTES = 1 << 20
AGAIN_S = (1.0, 5.0, 15.0, 60.0, 300.0)  # after nobody had any of it; guess

T = TypeVar("T")
File = tuple[str, bytes]
"""(path, content)."""
Ask = Callable[[PeerId, Sequence[File], bytes], Awaitable[Sequence[bytes]]]

log = logging.getLogger(__name__)


class Freeing:
    """Of one folder. Belongs to the event loop."""

    def __init__(
        self,
        rows: ChosenRows,
        book: FolderBook,
        disk: Disk,
        *,
        rules: Callable[[], planner.Rules],
        peers: Callable[[], Collection[PeerId]],
        ask: Ask,
        between: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        """`peers()`: whose word that they have a file counts: who may only read could delete it, and need tell nobody.

        `ask(peer, files, nonce)`: a proof for each file, b"" where there is none.

        `between(work)`: does blocking work in a thread while nothing else is done with the disk.
        """
        self._rows = rows
        self._book = book
        self._disk = disk
        self._rules = rules
        self._peers = peers
        self._ask = ask
        self._between = between
        self._rounds = Rounds(AGAIN_S)
        self.look_again = self._rounds.look_again
        self.leaving: frozenset[str] = frozenset()
        """Local names that are about to leave: nobody is told that they are here."""

    async def run(self) -> None:
        """Work until cancelled."""
        await self._rounds.run(self._round)

    async def _round(self) -> tuple[int, int]:
        """Try all that is to leave once: (how much of it stays, how much has left)."""
        behind, tried, freed = "", 0, 0
        while True:
            part = await asyncio.to_thread(self._rows.leaving, behind, TOGETHER_MAX)
            if not part:
                return tried - freed, freed
            ready = await asyncio.to_thread(self._ready, part)
            behind = next(reversed(ready), part[-1].local)
            tried += len(ready)
            if ready and self._peers():
                freed += await self._let_go(ready)

    def _ready(self, part: Sequence[Leaving]) -> dict[str, Agreed]:
        """In a thread: those that may leave, as many as are asked for together; what stays is forgotten."""
        ready: dict[str, Agreed] = {}
        size = 0
        stay = []
        for local, content in part:
            step = self._step(local, content)
            if step is None:
                stay.append(local)
                continue
            size += step[1].value.size
            if ready and size > TOGETHER_BYTES:
                break
            ready[local] = step[1]
        self._rows.left(stay)
        return ready

    def _step(self, local: str, content: bytes) -> "tuple[DiskStep, Agreed] | None":
        tree = self._book.tree()
        step, agreed = planner.freeing(tree, self._rules(), local, content), tree.agreed(local)
        return (step, agreed) if step is not None and agreed is not None else None

    async def _let_go(self, files: Mapping[str, Agreed]) -> int:
        """Ask who has these, and take off the disk what somebody has: how many."""
        self.leaving = frozenset(files)
        nonce = os.urandom(NONCE_BYTES)
        proofs: dict[str, list[bytes]] = {}
        freed: list[str] = []
        try:
            for peer in list(self._peers()):
                missing = [local for local in files if local not in proofs]
                if not missing:
                    break
                asked = [(files[local].path, files[local].value.content) for local in missing]
                for local, proof in zip(missing, await self._ask(peer, asked, nonce), strict=True):
                    if proof:
                        proofs.setdefault(local, []).append(proof)
            if proofs:
                await self._between(lambda: freed.extend(self._take_off(files, proofs, nonce)))
        finally:
            self.leaving = frozenset()
        return len(freed)

    def _take_off(
        self, files: Mapping[str, Agreed], proofs: Mapping[str, Sequence[bytes]], nonce: bytes
    ) -> list[str]:
        """In a thread: those of the files that left."""
        steps: list[DiskStep] = []
        for local in proofs:
            step = self._step(local, files[local].value.content)
            if step is not None and proof_of(self._lies_at(local), nonce) in proofs[local]:
                steps.append(step[0])
        self._rows.mark([step.local for step in steps])
        self._book.data.sync()  # else a power cut takes the mark and keeps the disk, where a deletion is found then
        results = self._disk.apply([(step, None) for step in steps])
        done: list[tuple[DiskStep, Print | None]] = [
            (step, None) for step, result in zip(steps, results, strict=True) if isinstance(result, Done)
        ]
        self._book.did(done)
        stay = [step.local for step, result in zip(steps, results, strict=True) if isinstance(result, Failed)]
        self._rows.left([step.local for step in steps if step.local not in stay])
        self._rows.unmark()
        return [step.local for step, _ in done]

    def recover(self) -> None:
        """In a thread, before the disk is looked at: what was leaving when the program ended was not deleted.

        Raises:
            FolderGone: the folder is away.
        """
        marked = self._rows.marked()
        if not marked:
            return
        _ = self._disk.facts  # is it there?
        gone = []
        for local in marked:
            agreed = self._book.agreed(local)
            if agreed is None or not self._is_as_agreed(local, agreed.print):
                gone.append(local)
        self._book.data.save(gone=gone)
        self._rows.left(gone)
        self._rows.unmark()

    # ---- for others

    def proofs(self, files: Sequence[File], nonce: bytes) -> list[bytes]:
        """In a thread: for each file that is here, and stays for now, a proof; b"" for others.

        Without a nonce the content itself is the proof. With one, this computer may be the last to have it then; no
        more is read for it than who lets go of files asks for together.
        """
        shown: dict[str, list[tuple[str, Agreed]]] = {}
        for local, agreed in self._book.agreed_of(list(dict.fromkeys(path for path, _ in files))):
            shown.setdefault(agreed.path, []).append((local, agreed))
        proofs = []
        number = size = 0
        for path, content in files:
            proof = b""
            for local, agreed in shown.get(path, ()):
                is_it = agreed.value.kind == Kind.FILE and agreed.value.content == content
                if not is_it or local in self._book.changed or local in self.leaving:
                    continue
                if not self._is_as_agreed(local, agreed.print):
                    continue  # it was changed just now
                proof = content
                if nonce:
                    number, size = number + 1, size + agreed.value.size
                    is_much = number > TOGETHER_MAX or (number > 1 and size > TOGETHER_BYTES)
                    proof = b"" if is_much else proof_of(self._lies_at(local), nonce, lasts=True)
            proofs.append(proof)
        if nonce:
            self._rows.only_here([one for one, proof in zip(files, proofs, strict=True) if proof])
        return proofs

    def _is_as_agreed(self, local: str, seen: Print) -> bool:
        try:
            return is_same(no_links.status(self._lies_at(local)), seen)
        except OSError:
            return False

    def _lies_at(self, local: str) -> Path:
        return self._disk.path.joinpath(*local.split("/"))


def proof_of(path: Path, nonce: bytes, *, lasts: bool = False) -> bytes:
    """What only who has all of a file can say; b"": it cannot be read. `lasts`: it stays when the power goes now."""
    hasher = blake3(key=nonce)
    try:
        fd = no_links.open_file(path)
        try:
            while data := os.read(fd, READ_BYTES):
                hasher.update(data)
            if lasts:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        return b""
    return hasher.digest()
