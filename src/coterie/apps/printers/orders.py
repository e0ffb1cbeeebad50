"""How `coterie print` says to a printer how a document is to be printed. Pure."""

import re

from coterie.apps.printers import ipp
from coterie.apps.printers.ipp import Attribute, attribute
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

SIDES = ("one-sided", "two-sided-long-edge", "two-sided-short-edge")
COLORS = ("monochrome", "color")
COPIES_MAX = 9_999
RANGES_MAX = 50
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?\Z", re.ASCII)


@decoder(UsageError, "the pages to print")
def read_pages(text: str) -> list[tuple[int, int]]:
    """Ranges in "1-3,7". Raises `UsageError`."""
    ranges: list[tuple[int, int]] = []
    for part in text.split(",") if text else ():
        found = _RANGE.match(part.strip())
        low = int(found[1]) if found else 0
        high = int(found[2] or low) if found else 0
        if not found or not 0 < low <= high or (ranges and low <= ranges[-1][1]) or len(ranges) >= RANGES_MAX:
            raise UsageError(tr("'{text}' names no pages: write them in order, like 1-3,7", text=text[:100]))
        ranges.append((low, high))
    return ranges


def template(*, copies: int, sides: str, media: str, color: str, pages: str) -> tuple[Attribute, ...]:
    """The attributes of a job. Raises `UsageError` for what cannot be."""
    if not 0 < copies <= COPIES_MAX:
        raise UsageError(tr("{copies} copies: write 1 to {copies_max}", copies=copies, copies_max=COPIES_MAX))
    found = [attribute("copies", ipp.INTEGER, copies)] if copies > 1 else []
    for name, value, known in (("sides", sides, SIDES), ("print-color-mode", color, COLORS)):
        if value and value not in known:
            raise UsageError(tr("'{value}' is none of {known}", value=value, known=", ".join(known)))
        found += [attribute(name, ipp.KEYWORD, value)] if value else []
    if media:
        if not re.fullmatch(r"[a-z0-9._-]{1,255}", media):
            raise UsageError(
                tr("'{media}' is no name of paper: write one like iso_a4_210x297mm", media=media[:50])
            )
        found.append(attribute("media", ipp.KEYWORD, media))
    ranges = read_pages(pages)
    return (*found, *([attribute("page-ranges", ipp.RANGE, *ranges)] if ranges else []))
