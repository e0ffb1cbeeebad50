"""What the commands of `printers` return: plain values that faces render."""

import msgspec

from coterie.apps.command import Live
from coterie.quantity import count
from coterie.texts import tr


class PrinterLine(msgspec.Struct, frozen=True, kw_only=True):
    """A printer: of this computer (`to` says who may use it, if anybody), or of somebody else, for us.

    Fields:
        address: for programs here, ipp://...; of one that is not shared its own.
        page: its own web page, for browsers here.
        pages_max: sides in a month for each person, 0: any; `pages_used`: ours of a printer of somebody else.
    """

    printer: str
    model: str
    state: str
    to: list[str] = []
    pages_max: int = 0
    pages_used: int = 0
    is_asking: bool = False
    lan: bool = False
    address: str = ""
    page: str = ""


class PrinterShared(PrinterLine, frozen=True, kw_only=True):
    """One that was just shared."""

    def text(self) -> str:
        """For people."""
        lines = [tr("Shared the printer {printer} with {to}", printer=self.printer, to=", ".join(self.to))]
        if self.pages_max:
            lines.append(tr("Each person prints up to {pages_max} pages a month", pages_max=self.pages_max))
        if self.is_asking:
            lines.append(tr("Each job waits for your word: coterie printer approve JOB"))
        if self.lan:
            lines.append(
                tr(
                    "Everybody on the local network prints on it as you: it is at {address}",
                    address=self.address,
                )
            )
        if self.page:
            lines.append(
                tr("They may open its own page {page}, and do there what it lets anybody do", page=self.page)
            )
        lines.append(tr("There: coterie print FILE {printer}", printer=self.printer))
        return "\n".join(lines)


class PrinterAdded(msgspec.Struct, frozen=True, kw_only=True):
    """A printer for the programs of this computer. `command`: what makes the queue; `is_made`: it was done."""

    printer: str
    address: str
    queue: str
    command: str
    is_made: bool
    note: str = ""

    def text(self) -> str:
        """For people."""
        if self.is_made:
            return tr(
                "{printer} is the printer {queue} of this computer now: lp -d {queue} FILE",
                printer=self.printer,
                queue=self.queue,
            )
        lines = [tr("{printer} is at {address}", printer=self.printer, address=self.address)]
        lines += [tr("The print system did not take it: {note}", note=self.note)] if self.note else []
        lines.append(tr("As an administrator: {command}", command=self.command))
        return "\n".join(lines)


class PrinterSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """A job for a printer here (`who` printed it), or one of ours elsewhere.

    Fields:
        id: of one of ours its number.
        state: a word: waiting, on hold, printing, stopped, cancelled, failed, printed.
        pages: sides of all copies, counted in the document; `pages_done`: what the printer has done.
    """

    id: str
    printer: str
    who: str
    title: str
    state: str
    pages: int
    pages_done: int
    created: str
    note: str = ""
    is_asking: bool = False


class PrintStep(Live, frozen=True, kw_only=True):
    """How a job goes on."""

    state: str
    note: str = ""

    def text(self) -> str:
        """For people."""
        return f"{self.state} ({self.note})" if self.note else self.state


class Printed(JobLine, frozen=True, kw_only=True):
    """A job that was just printed, or waits."""

    def text(self) -> str:
        """For people."""
        where = {"title": self.title, "printer": self.printer}
        if self.state == "printed":
            return tr("Printed {title} on {printer}: {pages}", **where, pages=count(self.pages_done, "page"))
        if self.is_incomplete():
            return tr("{title} is not printed on {printer}: {note}", **where, note=self.note or self.state)
        text = tr("{title} is on its way to {printer}", **where)
        return f"{text}: {self.note}" if self.note else text

    def is_incomplete(self) -> bool:
        """Whether it was not printed and will not be."""
        return self.state in ("failed", "cancelled")

    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ("printed", "failed", "cancelled")
