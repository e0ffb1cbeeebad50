"""What the page shows of printers: those that are known, and the jobs, with what can be done about them."""

from collections.abc import Sequence

from coterie.apps.panel import ANSWER, LOOK, Answer, Card, Live, Panel, Reader, Row

JOBS_SHOWN_MAX = 30
KEY = "job "  # how the keys of notices about jobs begin; the id of the job is behind it
_OVER = ("printed", "failed", "cancelled")


async def _printers(reader: Reader) -> list[Row]:
    lines = await reader.call("printers") or ()
    return [Row(line["printer"], line) for line in lines]


async def _jobs(reader: Reader) -> list[Row]:
    """The newest first; those that are over stand last."""
    lines = list(reversed(await reader.call("printer jobs") or ()))
    lines.sort(key=lambda line: line["state"] in _OVER)
    may = reader.browser.may(ANSWER)
    return [
        Row(f"{line['id']} {line['printer']}", line | {"is_over": line["state"] in _OVER, "may_answer": may})
        for line in lines[:JOBS_SHOWN_MAX]
    ]


async def _answers(reader: Reader, key: str) -> Sequence[Answer] | None:
    """A job that waits for the owner's word stands among the jobs, with its buttons."""
    if not key.startswith(KEY):
        return ()
    job = key.removeprefix(KEY)
    lines = await reader.call("printer jobs") or ()
    return None if any(line["is_asking"] and job.startswith(line["id"]) for line in lines) else ()


PANEL = Panel(
    lives=(
        Live(name="printers", template="printers/printer_row.html", rows=_printers, every_s=5.0),
        Live(name="jobs", template="printers/job_row.html", rows=_jobs, every_s=1.0, is_said=True),
    ),
    cards=(
        Card(title="Printers", icon="printer", live="printers.printers", place=60),
        Card(title="Print jobs", icon="printer", live="printers.jobs", place=55),
    ),
    rights={
        LOOK: ("printers", "printer jobs"),
        ANSWER: ("printer approve", "printer refuse", "printer cancel"),
    },
    answers=_answers,
    words=(
        "waiting",
        "on hold",
        "printing",
        "stopped",
        "cancelled",
        "failed",
        "printed",
        "ready",
        "away",
        "not reached",
        "not shared",
    ),
)
