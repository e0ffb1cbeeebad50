"""What `printers` keeps on disk, and its settings."""

from typing import Literal

import msgspec

from coterie.apps.printers.operations import JobState


class Settings(msgspec.Struct, frozen=True):
    """The section [app.printers] of config.toml.

    Fields:
        document_bytes_max: of one document, printed here or from here.
        jobs_of_peer_max: of one other computer that wait here.
        jobs_max: of everybody that wait here.
        lasts_days: a job that was not printed until then is given up.
        cups: where the print system of this computer listens.
    """

    document_bytes_max: int = 500_000_000
    jobs_of_peer_max: int = 100
    jobs_max: int = 1_000
    lasts_days: float = 7.0
    cups: str = "ipp://localhost:631/"


class SharedPrinter(msgspec.Struct, kw_only=True):
    """A printer of this computer that others use. `uri`: where it is; `to`: subjects of the policy.

    `attributes`: what it last said of itself, as IPP groups. `pages_max`: sides in a month for each person; 0: any.
    `page`: its own web page, HOST:PORT, that they may open, too; "": they may not.
    """

    id: str
    created: float
    name: str
    uri: str
    to: list[str] = []
    pages_max: int = 0
    is_asking: bool = False
    lan: bool = False
    attributes: bytes = b""
    page: str = ""


class KnownPrinter(msgspec.Struct, kw_only=True):
    """A printer that is for us: of somebody else, or of this computer. `peer`: its id as text; `printer`: the id there.

    `label`: its name in addresses here; `queue`: that of its queue in the print system.
    `is_gone`: it was not for us any more when that computer was asked last.
    """

    id: str
    created: float
    peer: str
    printer: str
    name: str
    label: str
    model: str = ""
    lan: bool = False
    is_gone: bool = False
    queue: str = ""
    state: str = ""
    is_asking: bool = False
    pages_max: int = 0
    pages_used: int = 0
    attributes: bytes = b""
    has_page: bool = False


Step = Literal["new", "asking", "wanted", "ready", "created", "sent", "over"]


class TakenJob(msgspec.Struct, kw_only=True):
    """A job of somebody for a printer of this computer.

    `step`: new, asking (for the owner's word), wanted (its document is to come), ready (it is here), created (the
    printer knows of it), sent (the printer may have all of it), over. `printer_job`, `printer_uuid`: its own there.
    """

    id: str
    created: float
    job: str
    sender: str
    person: str
    printer: str
    title: str
    user: str
    format: str
    size: int
    content: bytes
    attributes: bytes
    sides: int
    expires: float
    step: Step = "new"
    state: int = JobState.PENDING
    reasons: list[str] = []
    note: str = ""
    is_held: bool = False
    is_canceling: bool = False
    printer_job: int = 0
    printer_uuid: str = ""
    sides_done: int = 0
    told: tuple[int, str] = (0, "")  # state and note that were written to the sender


class SentJob(msgspec.Struct, kw_only=True):
    """A job of ours for a printer, of somebody else or of this computer.

    `number`: job-id of our IPP endpoint; `via`: the name of the open port it came by, "" from this computer.
    `is_incoming`: its document is not whole yet; `is_posted`: the letter was written.
    """

    id: str
    created: float
    number: int
    peer: str
    printer: str
    name: str
    title: str
    user: str
    format: str
    attributes: bytes
    expires: float
    via: str = ""
    size: int = 0
    content: bytes = b""
    sides: int = 0
    state: int = JobState.PENDING
    reasons: list[str] = []
    note: str = ""
    is_incoming: bool = True
    is_posted: bool = False
    is_held: bool = False
    sides_done: int = 0
    processing: float = 0.0
    completed: float = 0.0


class UsedPages(msgspec.Struct, kw_only=True):
    """Sides that a person printed on a printer in a month (of this computer's calendar, "2026-11")."""

    id: str
    created: float
    printer: str
    person: str
    month: str
    sides: int = 0
