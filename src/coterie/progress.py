"""What long work tells while it goes on: the same events for commands, jobs and streams of the API."""

from typing import Literal

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far some work is: an event that command lines draw as a bar.

    Fields:
        phase: what is being done, for people: "importing", "receiving".
        done: bytes, files or seconds done so far, of `total` (None while it is not known).
        unit: what `done` and `total` count.
        rate: per second, recently; None when not known.
        eta_s: seconds to go; None when not known.
        note: anything else worth a few words, e.g. the file at hand.
    """

    phase: str
    done: int
    total: int | None = None
    unit: Literal["bytes", "files", "seconds"] = "bytes"
    rate: float | None = None
    eta_s: float | None = None
    note: str = ""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The kind of what a command tells for as long as somebody listens: passed on at once, never the result."""
