"""Where a transfer of any kind stands, and what an order of its owner makes of that: the one table of states."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from coterie.errors import UsageError
from coterie.texts import tr

WEIGHTS = {"high": 4.0, "normal": 2.0, "low": 1.0}  # of the download limit and of links; guess


class TransferState(StrEnum):
    """Where a transfer stands."""

    RUNNING = "running"
    WAITING = "waiting"  # for the other computer to come back
    SEEDING = "seeding"  # all of it is here, and others get it
    PAUSED = "paused"
    FAILED = "failed"
    DONE = "done"


class Order(StrEnum):
    """What an owner has a transfer do. To cancel works in every state, and takes it off the list."""

    PAUSE = "pause"
    RESUME = "resume"


S = TransferState
UNDER_WAY = (S.RUNNING, S.WAITING, S.SEEDING)
_NEXT: Mapping[Order, Mapping[TransferState, TransferState | None]] = {  # None: as its kind begins
    Order.PAUSE: {
        S.RUNNING: S.PAUSED,
        S.WAITING: S.PAUSED,
        S.SEEDING: S.PAUSED,
        S.PAUSED: S.PAUSED,
        S.FAILED: S.FAILED,
    },
    Order.RESUME: {
        S.RUNNING: S.RUNNING,
        S.WAITING: S.WAITING,
        S.SEEDING: S.SEEDING,
        S.PAUSED: None,
        S.FAILED: None,
    },
}


def after(order: Order, state: str, begins_as: TransferState) -> TransferState:
    """The state after an order; `begins_as`: that in which transfers of the kind begin.

    Raises:
        UsageError: there is nothing to pause or to resume.
    """
    row = _NEXT[order]
    if state not in row:
        raise UsageError(tr("there is nothing to {order}: it is {state}", order=order, state=state))
    return row[S(state)] or begins_as


class Stands(Protocol):
    """What the record of every kind of transfer says of how far it is. `size` and `done` in bytes."""

    state: str
    missing: int
    size: int
    done: int


def state_of(record: Stands) -> str:
    """Where a transfer stands, for people: one that ended without everything is not done."""
    return "incomplete" if record.state == TransferState.DONE and record.missing else record.state


def bytes_done(record: Stands) -> int:
    """How many bytes of a transfer are here."""
    whole = record.state == TransferState.DONE and not record.missing
    return record.size if whole else record.done
