"""Mass deletions and encryptions of one folder wait here, in both directions, until the owner has said what is right.

Blocking where the rows are read. After a restart it is known that something waits, and what passed in the last minutes;
what waits is found again.
"""

import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.brake import is_loss
from coterie.apps.folders.holding import Holding, KeptHolding, text
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.steps import Agree, Agreed, Hash, Put, Record, Remove, RemoveFolder, Step
from coterie.apps.folders.store import FolderData
from coterie.decoding import decoder
from coterie.errors import StorageError

GO_ON, KEEP = "go on", "keep"
_Kept = tuple[float, KeptHolding, KeptHolding]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Kept)


class Asking:
    """Of one folder. `here`: what this disk says, by local name; `there`: what others say, by path."""

    def __init__(self, settings: Settings) -> None:
        self.here = Holding(settings)
        self.there = Holding(settings)
        self._saved: tuple[KeptHolding, KeptHolding] | None = None
        self.answer = ""
        """GO_ON or KEEP, once the owner has said so; whoever works on the disk does it."""

    @property
    def is_again(self) -> bool:
        """Whether what waited is to be weighed as a whole."""
        return self.here.is_again or self.there.is_again

    @property
    def is_waiting(self) -> bool:
        """Whether something waits."""
        return self.here.hold is not None or self.there.hold is not None

    def text(self, name: str) -> str:
        """What the owner of the folder `name` is asked; "" when nothing waits."""
        return text(name, self.here.hold, self.there.hold)

    # ---- in threads

    def restore(self, data: FolderData) -> None:
        """Go on as before the restart: no clock that goes back makes what passed count less."""
        raw = data.kept_asking()
        if raw is None:
            return
        at, here, there = _read_kept(raw)
        now = time.monotonic() - max(time.time() - at, 0.0)
        self.here.restore(here, now)
        self.there.restore(there, now)
        self._saved = self._kept()

    def save(self, data: FolderData) -> None:
        """Keep what is to be known after a restart, if it is news."""
        kept = self._kept()
        if kept != self._saved:
            self._saved = kept
            now = time.monotonic()
            data.keep_asking(_ENCODER.encode((time.time(), self.here.kept(now), self.there.kept(now))))

    def _kept(self) -> tuple[KeptHolding, KeptHolding]:
        return self.here.kept(0.0), self.there.kept(0.0)

    def weigh(
        self, book: FolderBook, rules: Rules, local: Sequence[str] | None, paths: Sequence[str] | None
    ) -> None:
        """All that is to be planned is known now: hold, or hold no longer, before a part of it is done.

        `local`, `paths`: None where not all is known yet.
        """
        if local is not None:
            steps = book.plan(rules, local, [])
            is_unread = any(isinstance(step, Hash) and book.agreed(step.local) is not None for step in steps)
            if not (is_unread and self.here.is_again):  # what is in them comes first
                notes = [step for step in steps if isinstance(step, Record | Agree)]
                self.here.weigh(
                    notes,
                    time.monotonic(),
                    files=lambda: book.data.totals()[0],
                    elsewhere=lambda: _coming_or_staying(book, notes),
                )
        if paths is not None:
            self.there.weigh(
                [step for step in book.plan(rules, [], paths) if isinstance(step, Put | Remove)],
                time.monotonic(),
                files=book.data.files_here,
                elsewhere=lambda: set(book.data.living_contents()),
            )

    def stops_here(self, book: FolderBook, notes: Sequence[Step]) -> bool:
        """Whether these are not to be recorded now."""

        return self.here.holds(
            notes,
            time.monotonic(),
            files=lambda: book.data.totals()[0],
            elsewhere=lambda: _coming_or_staying(book, notes),
        )

    def stops_there(self, book: FolderBook, steps: Sequence[Step]) -> bool:
        """Whether these are not to be done now."""
        return self.there.holds(
            steps,
            time.monotonic(),
            files=book.data.files_here,
            elsewhere=lambda: set(book.data.living_contents()),
        )

    def passed_here(self, book: FolderBook, notes: Sequence[Step]) -> None:
        """These were recorded."""
        self.here.passed(
            notes, time.monotonic(), elsewhere=lambda: {*book.data.living_contents(), *book.coming_contents()}
        )

    def passed_there(self, book: FolderBook, steps: Sequence[Step]) -> None:
        """These were done."""
        self.there.passed(steps, time.monotonic(), elsewhere=lambda: set(book.data.living_contents()))

    def keep(self, book: FolderBook, rules: Rules, by: bytes) -> tuple[dict[str, None], dict[str, None]]:
        """Undo what waits; the local names and paths that are to be planned then.

        What went here comes back from the registers, and what became another there is a version then; what others
        removed or changed is written anew as it is here.
        """
        local, paths = self.here.answered(), self.there.answered()
        now = time.monotonic()
        self.there.let_go(now)  # what comes back here replaces what was changed
        at_ms = int(time.time() * 1000)
        lost = [
            step
            for step in book.plan(rules, list(local), [])
            if isinstance(step, Record) and (step.value.kind == Kind.GONE or is_loss(step))
        ]
        book.note([_as_found(step) for step in lost], by, at_ms)
        values: dict[str, Value] = {}
        for step in book.plan(rules, [], list(paths)):
            agreed = book.agreed(step.local) if is_loss(step) or isinstance(step, RemoveFolder) else None
            if agreed is not None and not agreed.is_copy:
                values[agreed.path] = msgspec.structs.replace(agreed.value, by=by, at_ms=at_ms)
        book.settle(values)
        paths.update(dict.fromkeys(step.path for step in lost))
        return local, paths

    def go_on(self) -> tuple[dict[str, None], dict[str, None]]:
        """What waits may happen; the local names and paths that are to be planned then."""
        now = time.monotonic()
        self.here.let_go(now)
        self.there.let_go(now)
        return self.here.answered(), self.there.answered()


@decoder(StorageError, "what waits for the owner of a live folder")
def _read_kept(raw: bytes) -> _Kept:
    kept: _Kept = _DECODER.decode(raw)
    return kept


def _coming_or_staying(book: FolderBook, notes: Sequence[Step]) -> set[bytes]:
    """Contents that are at other places, too, once these are recorded."""
    gone = Counter(step.was for step in notes if isinstance(step, Record) and step.value.kind != Kind.FILE)
    living = Counter(book.data.living_contents())
    return {content for content in gone if living[content] > gone[content]} | book.coming_contents()


def _as_found(step: Record) -> Agree:
    """What is here counts as shown by others, who have replaced it since."""
    if step.print is None:
        return Agree(step.local, None)
    return Agree(step.local, Agreed(step.path, (), step.value, step.print, step.is_copy))
