"""The commands of `printers`: the command line and the HTTP API are rendered from these."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Person, Place, Values, command
from coterie.apps.printers.results import (
    JobLine,
    Printed,
    PrinterAdded,
    PrinterLine,
    PrinterSaid,
    PrinterShared,
    PrintStep,
)

if TYPE_CHECKING:
    from coterie.apps.printers.service import PrintersService

PURPOSE = "Services"

PrinterName = Annotated[str, Values("printers", "printer")]
JobId = Annotated[str, Values("printer jobs", "id")]


@command(
    needs="running",
    empty_text="No printer is known here: coterie printer share NAME --to WHOM",
    title="Printers",
)
async def printers(printers: "PrintersService") -> list[PrinterLine]:
    """List the printers of this computer, and those of others that are for you."""
    return await printers.lines()


@command("name", path="printer share", needs="running", kind="printer", title="Let others print")
async def printer_share(
    printers: "PrintersService",
    name: str,
    *,
    to: list[Person],
    as_: str = "",
    pages: str = "",
    ask: bool = False,
    lan: bool = False,
    page: str = "",
) -> PrinterShared:
    """Let others print on a printer of this computer. Shared again, it is changed.

    name: The printer as `coterie printers` or the print system calls it, or its address: ipp://HOST/ipp/print.
    to: For whom: a circle, CIRCLE:guest, a person or contacts; may be given several times.
    as_: What others call it: small letters, digits and hyphens.
    pages: How many pages each person may print in a month, like 50/month; each printed side of each copy is one.
    ask: Each job waits until you approve it.
    page: Its own web page, like http://192.168.1.9, that they may open, too.
    lan: Announce it on the local network as well (phones find it): everybody there prints on it as you.
    """
    return await printers.share(name, to, as_=as_, pages=pages, is_asking=ask, lan=lan, page=page)


@command("name", path="printer unshare", needs="running", title="End a printer for others")
async def printer_unshare(printers: "PrintersService", name: PrinterName) -> PrinterSaid:
    """Let nobody else print on a printer of this computer; their jobs that wait are cancelled.

    name: Its name, as `coterie printers` shows it.
    """
    return await printers.unshare(name)


@command(path="printer jobs", needs="running", empty_text="There are no jobs.", title="Print jobs")
async def printer_jobs(printers: "PrintersService") -> list[JobLine]:
    """List jobs for the printers of this computer, whose they are, and your own jobs elsewhere."""
    return printers.jobs()


@command("job", path="printer cancel", needs="running", title="Cancel a print job")
async def printer_cancel(printers: "PrintersService", job: JobId) -> PrinterSaid:
    """Cancel a job: one of yours, or one for a printer of this computer.

    job: Its id, as `coterie printer jobs` shows it.
    """
    return await printers.cancel(job)


@command("job", path="printer approve", needs="running", title="Approve a print job")
async def printer_approve(printers: "PrintersService", job: JobId) -> PrinterSaid:
    """Let a job be printed that waits for your word.

    job: Its id, as `coterie printer jobs` shows it.
    """
    return printers.approve(job)


@command("job", path="printer refuse", needs="running", title="Refuse a print job")
async def printer_refuse(printers: "PrintersService", job: JobId) -> PrinterSaid:
    """Do not print a job that waits for your word.

    job: Its id, as `coterie printer jobs` shows it.
    """
    return printers.refuse(job)


@command("printer", path="printer add", needs="running", title="Add a printer to this computer")
async def printer_add(
    printers: "PrintersService", printer: Place, *, queue: str = "", lan: bool = False
) -> PrinterAdded:
    """Make a printer of somebody else one of this computer (CUPS), for `lp` and every print dialogue.

    printer: COMPUTER/NAME, like anna/laser.
    queue: What the print system is to call it.
    lan: Announce it on the local network as well: everybody there prints on it with your rights.
    """
    return await printers.add(printer, queue=queue, lan=lan)


@command("printer", path="printer remove", needs="running", title="Close a printer to the local network")
async def printer_remove(printers: "PrintersService", printer: Place) -> PrinterSaid:
    """Announce a printer of somebody else on the local network no longer, and remove its queue.

    printer: COMPUTER/NAME, like anna/laser.
    """
    return await printers.remove(printer)


@command(
    "file",
    "printer",
    path="print",
    needs="running",
    interrupt_text="Stopped looking. The job goes on: coterie printer jobs",
    title="Print",
)
async def print_file(  # noqa: PLR0913 - what people say of a job
    printers: "PrintersService",
    file: Path,
    printer: Place,
    *,
    copies: int = 1,
    sides: str = "",
    media: str = "",
    color: str = "",
    pages: str = "",
    no_wait: bool = False,
) -> AsyncIterator[PrintStep | Printed]:
    """Print a document on a printer: a PDF, a JPEG, or what else the printer takes. No print system is needed here.

    file: The document.
    printer: COMPUTER/NAME, or the name alone where one computer has it.
    copies: How many.
    sides: one-sided, two-sided-long-edge or two-sided-short-edge.
    media: The paper, like iso_a4_210x297mm.
    color: monochrome or color.
    pages: Which pages, like 1-3,7.
    no_wait: Do not wait until it is printed.
    """
    async for step in printers.print(
        file, printer, copies=copies, sides=sides, media=media, color=color, pages=pages, waits=not no_wait
    ):
        yield step
