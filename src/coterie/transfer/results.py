"""What is said about transfers: plain values that faces render."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from coterie.moments import said
from coterie.quantity import count, duration, say_bytes

SHOWN_MAX = 20  # lines of one kind for people; --json has them all
RATE_SECONDS_MIN, RATE_BYTES_MIN = 1.0, 1_000_000  # what is below either has no rate
T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True):
    """One entry that was left out, and why. `is_lost`: it should not have been."""

    path: str
    reason: str
    is_lost: bool = True


class Received(msgspec.Struct, frozen=True):
    """A finished transfer. `size` in bytes, `seconds` of the last run; `failed` did not arrive, `missing` is how many.

    In the last run `fetched` bytes came from other computers and `reused` were on this one already. Where something
    was at the target: files `new` there, `back` (deleted here before, and fetched again), `replaced` and `removed` (by
    --mirror), which are in the trash,
    `changed_here` (only here, left alone), `beside` (changed here and there: where the one from here is now),
    `gone` (at the giver; they stay here; `gone_count` of them).
    """

    id: str
    path: str
    files: int
    size: int
    fetched: int
    seconds: float
    failed: list[Problem] = []
    changed_names: list[Problem] = []
    reused: int = 0
    sources: int = 1
    dropped: list[Problem] = []
    missing: int = 0
    is_update: bool = False
    new: int = 0
    back: list[str] = []
    replaced: int = 0
    removed: int = 0
    changed_here: list[str] = []
    beside: list[Problem] = []
    gone: list[str] = []
    gone_count: int = 0

    def is_incomplete(self) -> bool:
        """Whether something did not arrive."""
        return bool(self.missing or self.failed)

    def text(self) -> str:
        """For people."""
        lines = [self._head()]
        if self.replaced or self.removed:
            lines.append(
                f"  {count(self.replaced + self.removed, 'old file')} can be had back for 30 days: `coterie trash`"
            )
        lines += _some(self.back, lambda path: f"  was deleted here, fetched again: {path}")
        lines += _some(self.beside, lambda p: f"  changed here and there, yours is {p.path}")
        lines += _some(self.changed_here, lambda path: f"  changed here, left as it is: {path}")
        lines += _some(self.gone, lambda path: f"  gone at the giver, kept here: {path}", self.gone_count)
        if self.reused:
            lines.append(f"  {say_bytes(self.reused)} of it were on this computer already")
        if self.sources > 1:
            lines.append(f"  from {self.sources} computers")
        lines += [f"  {p.path} is asked no more: {p.reason}" for p in self.dropped]
        lines += [f"  renamed {p.path}: {p.reason}" for p in self.changed_names]
        lines += [f"  NOT received {p.path}: {p.reason}" for p in self.failed]
        if self.missing > len(self.failed):
            lines.append(f"  NOT received {self.missing - len(self.failed):,} more")
        return "\n".join(lines)

    def _rate(self) -> str:
        """How fast it came, where that says something of the line: what is short or small says nothing."""
        if self.seconds < RATE_SECONDS_MIN or self.fetched < RATE_BYTES_MIN:
            return ""
        return f", {say_bytes(self.fetched / self.seconds)}/s"

    def _head(self) -> str:
        files = f"{count(self.files, 'file')}, {say_bytes(self.size)}"
        changed = self.replaced + len(self.beside)
        changes = self.new + len(self.back) + changed + self.removed
        if self.is_update and not (changes or self.failed):
            return f"{self.path} is up to date: {files}"
        took = f"in {self.seconds:.1f} s{self._rate()}, verified"
        if not self.is_update:
            return f"Received {self.path}: {files} {took}"
        news = [f"{self.new:,} new"] * bool(self.new) + [f"{changed:,} changed"] * bool(changed)
        news += [f"{len(self.back):,} fetched again"] * bool(self.back)
        news += [f"{self.removed:,} removed"] * bool(self.removed)
        return f"Updated {self.path}: {', '.join(news) or 'nothing'} of {files} {took}"


def _some(items: Sequence[T], say: Callable[[T], str], number: int = 0) -> list[str]:
    """A line for each of the first `SHOWN_MAX`, and how many more there are."""
    more = max(number, len(items)) - SHOWN_MAX
    return [say(item) for item in items[:SHOWN_MAX]] + [f"  and {more:,} more like that"] * (more > 0)


def percent(done: int, size: int, state: str = "") -> str:
    """How much of a transfer is here, for people. What is not all here is never 100 %."""
    return f"{100 * done // size if size and state != 'done' else 100 * (state == 'done')} %"


def _so_far(done: int, size: int, state: str = "") -> str:
    """How much of how much is here; the size is not known before the giver has said it."""
    if not size and state != "done":
        return "size not known yet"
    return f"{percent(done, size, state)} of {say_bytes(size)}"


class TransferLine(msgspec.Struct, frozen=True):
    """One line of the list of transfers: `done` of `size` bytes, `rate` in bytes a second, `eta_s` seconds to go.

    `peer`: the giver, by name; `ways`: how many computers are asked, by how they are reached. `health`: how often the
    rarest missing part is there. None where it is not known.
    """

    id: str
    state: str
    done: int
    size: int
    path: str
    peer: str = ""
    rate: int = 0
    eta_s: float | None = None
    ways: dict[str, int] = {}
    health: int | None = None
    note: str = ""

    def text(self) -> str:
        """For people: how far it is, and below it where."""
        rate = f", {say_bytes(self.rate)}/s" if self.rate else ""
        left = f", {duration(self.eta_s)} left" if self.eta_s is not None else ""
        whence = f", from {self.peer}" if self.peer else ""
        ways = ", ".join(f"{number} {way}" for way, number in self.ways.items())
        health = f"; health {self.health}" if self.health is not None else ""
        asked = f" ({ways}{health})" if ways else ""
        head = f"{self.id}  {self.state:<10}  {_so_far(self.done, self.size, self.state)}"
        lines = [head + rate + left + whence + asked, f"    {self.path}"]
        return "\n".join([*lines, f"    {self.note}"] if self.note else lines)


class SourceLine(msgspec.Struct, frozen=True):
    """One computer that a transfer asks: `way` is how it is reached, `parts` how many of the
    missing parts it has where it does not have all; `received` bytes, `rate` in bytes a second.
    """

    peer: str
    way: str
    has_all: bool
    parts: int
    received: int
    rate: float
    rtt_ms: float
    state: str = ""


class AskerLine(msgspec.Struct, frozen=True):
    """One computer that has parts from here; `sent` in bytes."""

    peer: str
    sent: int


class TransferDetail(msgspec.Struct, frozen=True):
    """All about one transfer. `health`: how often the rarest missing part is there; below 1 it cannot complete now."""

    id: str
    state: str
    path: str
    size: int
    done: int
    rate: float
    eta_s: float | None
    health: int
    started: str
    finished: str
    seconds: float
    sources: list[SourceLine] = []
    askers: list["AskerLine"] = []
    dropped: list[str] = []
    note: str = ""
    priority: str = "normal"
    missing: list[str] = []

    def text(self) -> str:
        """For people."""
        eta = f", {duration(self.eta_s)} left" if self.eta_s is not None else ""
        lines = [
            f"{self.path}  ({self.state})",
            f"{say_bytes(self.done)} of {say_bytes(self.size)}, {say_bytes(self.rate)}/s{eta}",
            f"started {said(self.started)}" + (f", finished {said(self.finished)}" if self.finished else ""),
        ]
        lines += [f"health {self.health}: the rarest missing part is there so often"] if self.sources else []
        for s in self.sources:
            has = "all" if s.has_all else count(s.parts, "part")
            rate = f"{say_bytes(s.rate)}/s, {say_bytes(s.received)} so far"
            lines.append(f"  from {s.peer}  {s.way}, {s.rtt_ms:.0f} ms, has {has}, {rate} {s.state}".rstrip())
        lines += [f"  to {asker.peer}, {say_bytes(asker.sent)} so far" for asker in self.askers]
        lines += [f"  asked no more: {dropped}" for dropped in self.dropped]
        lines += [f"  NOT received {missing}" for missing in self.missing]
        return "\n".join([*lines, self.note] if self.note else lines)


class LimitsNow(msgspec.Struct, frozen=True):
    """Limits in bytes a second, 0: none: `up` and `down` now, the usual ones, and those of hours of the day."""

    up: int
    down: int
    usual_up: int
    usual_down: int
    up_hours: str = ""
    down_hours: str = ""

    def text(self) -> str:
        """For people."""
        lines = []
        for word, now, hours in (("up", self.up, self.up_hours), ("down", self.down, self.down_hours)):
            rate = f"{say_bytes(now)}/s" if now else "no limit"
            lines.append(f"{word:<5} {rate}" + (f"  (hours: {hours})" if hours else ""))
        return "\n".join(lines)


class TransferChange(msgspec.Struct, frozen=True):
    """What a command did to a transfer: `did` is started, waiting, paused, resumed, cancelled, ended or forgotten.

    `done` of `size` bytes are here.
    """

    id: str
    did: str
    done: int
    size: int
    path: str
    note: str = ""

    def text(self) -> str:
        """For people: what is now, and how to go on."""
        so_far = _so_far(self.done, self.size)
        match self.did:
            case "waiting":
                lines = [
                    f"Waiting for the other computer: as soon as it is there and a node runs here (`coterie up`), it "
                    f"is fetched into {self.path}",
                    f"`coterie transfers cancel {self.id}` ends that",
                ]
                return "\n".join([*lines, f"Now: {self.note}"] if self.note else lines)
            case "paused":
                return f"Paused at {so_far}: `coterie transfers resume {self.id}` goes on"
            case "cancelled":
                return f"Cancelled; what had arrived of {self.path} is removed"
            case "ended":
                return f"Given by BitTorrent no more; {self.path} stays, and is shared as before"
            case "forgotten":
                return f"Off the list; {self.path} stays"
            case "started" if not self.done:
                size = f", {say_bytes(self.size)}" if self.size else ""
                return (
                    f"Begun{size}: it goes on while a node runs here, into {self.path}\n"
                    f"`coterie transfers` shows how far it is (transfer {self.id})"
                )
            case _:
                return f"Goes on from {so_far}: {self.path}"
