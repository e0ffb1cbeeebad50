"""What arrives: letters for one app, each given to it once, in order where that is wanted. Pure.

Of each stream is remembered what became of every number from the sender's floor on. A letter is never kept here for
long: what cannot be given to the app now is dropped and comes again, for its sender keeps it until the receipt.
"""

from dataclasses import dataclass, field
from typing import Any

from coterie.identity import PeerId
from coterie.machine import SetTimer
from coterie.services.mail.events import (
    Answer,
    Arrived,
    Deliver,
    ForgetStream,
    Handled,
    KeepFinished,
    StreamKey,
)
from coterie.services.mail.limits import (
    EPOCHS_MAX,
    FINISHED_MAX,
    HANDLER_RETRY_S,
    HELD_BYTES_MAX,
    HELD_MAX,
    RANGE_MAX,
    RETRY_MAX_S,
    RUN_MAX,
)
from coterie.services.mail.messages import Outcome

Outputs = list[Any]
StreamId = tuple[StreamKey, bytes]  # with the epoch


@dataclass(slots=True)
class Finished:
    """What one stream has behind it.

    Fields:
        floor: everything below is finished.
        until: unix seconds; then every letter of it that was seen has expired.
        ids: of the rest, by number: the id of the letter that was taken; empty for one that was let past.
    """

    floor: int = 1
    until: float = 0.0
    ids: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    finished: Finished
    held: dict[int, Arrived] = field(default_factory=dict)
    giving: tuple[Arrived, ...] = ()
    failures: int = 0
    again_at: float = 0.0


class Inbox:
    """The incoming half of one app's mail."""

    def __init__(self) -> None:
        self._streams: dict[StreamId, _Stream] = {}
        self._held: dict[PeerId, int] = {}
        self._held_bytes = 0

    def load(self, streams: dict[StreamId, Finished]) -> None:
        """Go on from what is on disk."""
        self._streams = {key: _Stream(finished) for key, finished in streams.items()}

    def arrived(self, event: Arrived, now: float) -> Outputs:
        """A letter, verified: answered at once when it is finished, else held for the app."""
        opened, letter = event.opened, event.opened.letter
        id_ = StreamKey(opened.sender, letter.stream, letter.is_ordered), letter.epoch
        outputs: Outputs = []
        stream = self._streams.get(id_)
        if stream is None:
            if opened.expires <= now:
                return [Answer(event.bringer, opened, Outcome.LATE)]
            made = self._make(id_, opened.expires, now)
            if made is None:
                return []
            outputs += made
            stream = self._streams[id_]
        outputs += self._raise_floor(id_, stream, letter.floor)
        finished = stream.finished
        if letter.number < finished.floor:
            return [*outputs, Answer(event.bringer, opened, Outcome.LATE)]
        if letter.number in finished.ids:  # another id: the sender lost its count, and counts anew
            was_taken = finished.ids[letter.number] == opened.id
            return [
                *outputs,
                Answer(event.bringer, opened, Outcome.TAKEN if was_taken else Outcome.LATE),
            ]
        if letter.number >= finished.floor + RANGE_MAX or self._remembers_enough(opened.sender):
            return outputs
        finished.until = max(finished.until, opened.expires)
        self._hold(stream, event)
        return [*outputs, *self._advance(id_, stream, now)]

    def handled(self, event: Handled, now: float) -> Outputs:
        """The app has had its turn; what it took is on disk."""
        id_ = event.key, event.epoch
        stream = self._streams[id_]
        giving, stream.giving = stream.giving, ()
        outputs: Outputs = []
        has_failed = False
        for arrived, is_done in zip(giving, event.done, strict=False):
            if not is_done:
                has_failed = event.key.is_ordered
                if not has_failed:  # it comes again, and keeps no other back
                    self._drop(stream, arrived.opened.letter.number)
                continue
            number = arrived.opened.letter.number
            self._drop(stream, number)
            if number >= stream.finished.floor:
                stream.finished.ids[number] = arrived.opened.id
            outputs.append(Answer(arrived.bringer, arrived.opened, Outcome.TAKEN))
        stream.failures = stream.failures + 1 if has_failed else 0
        if has_failed:
            pause_s = min(RETRY_MAX_S, HANDLER_RETRY_S * 2.0 ** min(stream.failures - 1, 20))
            stream.again_at = now + pause_s
            outputs.append(SetTimer(("again", *id_), stream.again_at))
        return [*outputs, *self._advance(id_, stream, now)]

    def look(self, id_: StreamId, now: float) -> Outputs:
        """A time for which a stream waited has come."""
        stream = self._streams.get(id_)
        return self._advance(id_, stream, now) if stream is not None else []

    # ---- parts

    def _make(self, id_: StreamId, until: float, now: float) -> Outputs | None:
        """A new stream; None where its sender has enough of them. Those of which nothing can come again give way."""
        theirs = [key for key in self._streams if key[0].peer == id_[0].peer]
        over = [k for k in theirs if self._streams[k].finished.until <= now and not self._streams[k].held]
        if len(theirs) - len(over) >= EPOCHS_MAX:
            return None
        for key in over:
            del self._streams[key]
        self._streams[id_] = _Stream(Finished(until=until))
        return [*(ForgetStream(*key) for key in over), KeepFinished(*id_, 1, until=until)]

    def _remembers_enough(self, sender: PeerId) -> bool:
        """Whether so many ids of `sender` are remembered that no more fit."""
        if len(self._streams) < FINISHED_MAX // RANGE_MAX:
            return False
        theirs = (stream for key, stream in self._streams.items() if key[0].peer == sender)
        return sum(len(stream.finished.ids) for stream in theirs) >= FINISHED_MAX

    def _raise_floor(self, id_: StreamId, stream: _Stream, floor: int) -> Outputs:
        finished = stream.finished
        if floor <= finished.floor:
            return []
        finished.floor = floor
        finished.ids = {n: taken for n, taken in finished.ids.items() if n >= floor}
        given = {arrived.opened.letter.number for arrived in stream.giving}
        for number in [n for n in stream.held if n < floor and n not in given]:
            self._drop(stream, number)
        return [KeepFinished(*id_, floor, until=finished.until)]

    def _hold(self, stream: _Stream, event: Arrived) -> None:
        opened = event.opened
        if any(event.opened.letter.number == one.opened.letter.number for one in stream.giving):
            return
        self._drop(stream, opened.letter.number)
        stream.held[opened.letter.number] = event
        self._held[opened.sender] = self._held.get(opened.sender, 0) + 1
        self._held_bytes += len(opened.letter.body)
        while self._held[opened.sender] > HELD_MAX or self._held_bytes > HELD_BYTES_MAX:
            given = {arrived.opened.letter.number for arrived in stream.giving}
            last = max(number for number in stream.held if number not in given)
            if last == min(stream.held):  # the next of a stream is never kept out by those that wait
                return
            self._drop(stream, last)

    def _drop(self, stream: _Stream, number: int) -> None:
        arrived = stream.held.pop(number, None)
        if arrived is None:
            return
        sender = arrived.opened.sender
        self._held_bytes -= len(arrived.opened.letter.body)
        self._held[sender] -= 1
        if not self._held[sender]:
            del self._held[sender]

    def _advance(self, id_: StreamId, stream: _Stream, now: float) -> Outputs:
        """Let past what is over, and give the app what it may have."""
        if stream.giving:
            return []
        outputs: Outputs = []
        for number, arrived in sorted(stream.held.items()):
            if arrived.opened.expires <= now:
                self._drop(stream, number)
                stream.finished.ids[number] = b""
                outputs += [
                    KeepFinished(*id_, stream.finished.floor, (number,), stream.finished.until),
                    Answer(arrived.bringer, arrived.opened, Outcome.LATE),
                ]
        if now < stream.again_at or not stream.held:
            return outputs
        run = self._in_order(id_, stream, now, outputs) if id_[0].is_ordered else list(stream.held.values())
        if run:
            stream.giving = tuple(run[:RUN_MAX])
            outputs.append(Deliver(id_[0], tuple(arrived.opened for arrived in stream.giving)))
        return outputs

    def _in_order(self, id_: StreamId, stream: _Stream, now: float, outputs: Outputs) -> list[Arrived]:
        """The letters that come next, with nothing missing between them but what has expired."""
        run: list[Arrived] = []
        ids = stream.finished.ids
        number = stream.finished.floor
        for following in sorted(stream.held):
            missing = [n for n in range(number, following) if n not in ids]
            if missing and run:
                break
            if missing:
                gap_until = stream.held[following].opened.letter.gap_until
                if gap_until > now:
                    outputs.append(SetTimer(("gap", *id_), float(gap_until)))
                    break
                ids.update(dict.fromkeys(missing, b""))
                outputs.append(
                    KeepFinished(*id_, stream.finished.floor, tuple(missing), stream.finished.until)
                )
            run.append(stream.held[following])
            number = following + 1
        return run
