"""What is said about transfers: plain values that faces render."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from coterie.moments import said
from coterie.quantity import count, duration, say_bytes
from coterie.texts import tr

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
                tr(
                    "  {old_files} can be had back for 30 days: `coterie trash`",
                    old_files=count(self.replaced + self.removed, "old file"),
                )
            )
        lines += _some(self.back, lambda path: tr("  was deleted here, fetched again: {path}", path=path))
        lines += _some(self.beside, lambda p: tr("  changed here and there, yours is {path}", path=p.path))
        lines += _some(self.changed_here, lambda path: tr("  changed here, left as it is: {path}", path=path))
        lines += _some(
            self.gone, lambda path: tr("  gone at the giver, kept here: {path}", path=path), self.gone_count
        )
        if self.reused:
            lines.append(tr("  {reused} of it were on this computer already", reused=say_bytes(self.reused)))
        if self.sources > 1:
            lines.append(tr("  from {sources} computers", sources=self.sources))
        lines += [
            tr("  {path} is asked no more: {reason}", path=p.path, reason=p.reason) for p in self.dropped
        ]
        lines += [tr("  renamed {path}: {reason}", path=p.path, reason=p.reason) for p in self.changed_names]
        lines += [tr("  NOT received {path}: {reason}", path=p.path, reason=p.reason) for p in self.failed]
        if self.missing > len(self.failed):
            lines.append(tr("  NOT received {missing:,} more", missing=self.missing - len(self.failed)))
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
        if self.is_update and not changes:
            if not self.failed:
                return tr("{path} is up to date: {files}", path=self.path, files=files)
            return tr("{path} is up to date but for what did not come: {files}", path=self.path, files=files)
        took = tr("in {seconds:.1f} s{rate}, verified", seconds=self.seconds, rate=self._rate())
        if not self.is_update:
            return tr("Received {path}: {files} {took}", path=self.path, files=files, took=took)
        news = [tr("{number:,} new", number=self.new)] * bool(self.new)
        news += [tr("{number:,} changed", number=changed)] * bool(changed)
        news += [tr("{number:,} fetched again", number=len(self.back))] * bool(self.back)
        news += [tr("{number:,} removed", number=self.removed)] * bool(self.removed)
        return tr(
            "Updated {path}: {what} of {files} {took}",
            path=self.path,
            what=", ".join(news),
            files=files,
            took=took,
        )


def _some(items: Sequence[T], say: Callable[[T], str], number: int = 0) -> list[str]:
    """A line for each of the first `SHOWN_MAX`, and how many more there are."""
    more = max(number, len(items)) - SHOWN_MAX
    return [say(item) for item in items[:SHOWN_MAX]] + [tr("  and {more:,} more like that", more=more)] * (
        more > 0
    )


def percent(done: int, size: int, state: str = "") -> str:
    """How much of a transfer is here, for people. What is not all here is never 100 %."""
    return f"{100 * done // size if size and state != 'done' else 100 * (state == 'done')} %"


def _so_far(done: int, size: int, state: str = "") -> str:
    """How much of how much is here; the size is not known before the giver has said it."""
    if not size and state != "done":
        return tr("size not known yet")
    return tr("{percent} of {size}", percent=percent(done, size, state), size=say_bytes(size))


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
        left = tr(", {eta_s} left", eta_s=duration(self.eta_s)) if self.eta_s is not None else ""
        whence = tr(", from {peer}", peer=self.peer) if self.peer else ""
        ways = ", ".join(self._said_way(way, number) for way, number in self.ways.items())
        health = tr("; health {health}", health=self.health) if self.health is not None else ""
        asked = f" ({ways}{health})" if ways else ""
        head = f"{self.id}  {self.state:<10}  {_so_far(self.done, self.size, self.state)}"
        lines = [head + rate + left + whence + asked, f"    {self.path}"]
        return "\n".join([*lines, f"    {self.note}"] if self.note else lines)

    def _said_way(self, way: str, number: int) -> str:
        """How many computers are asked by this way, in words; what they are named by is not said twice."""
        computers = count(number, "computer")
        return computers if way == self.peer else f"{computers} {way}"


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
    """All about one transfer. `health`: how often the rarest missing part is there; below 1 it cannot complete now.

    `pieces`: percent that is here of each of at most 200 equal stretches of it, empty while that is not known.
    `rates`: bytes a second of the last seconds, one number each, the newest last.
    """

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
    pieces: list[int] = []
    rates: list[int] = []

    def text(self) -> str:
        """For people."""
        eta = tr(", {eta_s} left", eta_s=duration(self.eta_s)) if self.eta_s is not None else ""
        lines = [
            f"{self.path}  ({self.state})",
            tr(
                "{done} of {size}, {rate}/s{eta}",
                done=say_bytes(self.done),
                size=say_bytes(self.size),
                rate=say_bytes(self.rate),
                eta=eta,
            ),
            tr("started {started}", started=said(self.started))
            + (tr(", finished {finished}", finished=said(self.finished)) if self.finished else ""),
        ]
        lines += (
            [tr("health {health}: the rarest missing part is there so often", health=self.health)]
            if self.sources
            else []
        )
        for s in self.sources:
            has = "all" if s.has_all else count(s.parts, "part")
            rate = tr("{rate}/s, {received} so far", rate=say_bytes(s.rate), received=say_bytes(s.received))
            lines.append(
                tr(
                    "  from {peer}  {way}, {rtt_ms:.0f} ms, has {has}, {rate} {state}",
                    peer=s.peer,
                    way=s.way,
                    rtt_ms=s.rtt_ms,
                    has=has,
                    rate=rate,
                    state=s.state,
                ).rstrip()
            )
        lines += [
            tr("  to {peer}, {sent} so far", peer=asker.peer, sent=say_bytes(asker.sent))
            for asker in self.askers
        ]
        lines += [tr("  asked no more: {dropped}", dropped=dropped) for dropped in self.dropped]
        lines += [tr("  NOT received {missing}", missing=missing) for missing in self.missing]
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
            rate = f"{say_bytes(now)}/s" if now else tr("no limit")
            lines.append(f"{word:<5} {rate}" + (tr("  (hours: {hours})", hours=hours) if hours else ""))
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
                    tr(
                        "Waiting for the other computer: as soon as it is there and a node runs here (`coterie "
                        "up`), it is fetched into {path}",
                        path=self.path,
                    ),
                    tr("`coterie transfers cancel {id}` ends that", id=self.id),
                ]
                return "\n".join([*lines, tr("Now: {note}", note=self.note)] if self.note else lines)
            case "paused":
                return tr(
                    "Paused at {so_far}: `coterie transfers resume {id}` goes on", so_far=so_far, id=self.id
                )
            case "cancelled":
                return tr("Cancelled; what had arrived of {path} is removed", path=self.path)
            case "ended":
                return tr(
                    "Given by BitTorrent no more; {path} stays, and is shared as before", path=self.path
                )
            case "forgotten":
                return tr("Off the list; {path} stays", path=self.path)
            case "started" if not self.done:
                size = f", {say_bytes(self.size)}" if self.size else ""
                return tr(
                    "Begun{size}: it goes on while a node runs here, into {path}\n`coterie transfers` shows "
                    "how far it is (transfer {id})",
                    size=size,
                    path=self.path,
                    id=self.id,
                )
            case _:
                return tr("Goes on from {so_far}: {path}", so_far=so_far, path=self.path)
