"""How much is here of each stretch of a download, as a few numbers that a picture can be drawn from. Pure."""

from collections.abc import Iterable, Sequence

CELLS_MAX = 200  # what a picture on a page of 2,560 pixels can show


def piece_map(parts: Sequence[tuple[int, int]], *, unknown: int = 0) -> list[int]:
    """Percent that is here of each of at most CELLS_MAX equal stretches of all pieces, in order.

    `parts`: (bits of the pieces that are here, how many pieces there are) of each node. `unknown`: how many more
    pieces there will be, none of them here. Less than all of a stretch is 99 at most, and more than none 1 at least.
    """
    total = sum(count for _, count in parts) + unknown
    cells = min(total, CELLS_MAX)
    here = [0] * cells
    at = 0
    for bits, count in parts:
        for cell in range(at * cells // total, ((at + count) * cells - 1) // total + 1) if bits else ():
            first, last = _stretch(cell, cells, total)
            inside = bits >> max(first - at, 0) & (1 << min(last, at + count) - max(first, at)) - 1
            here[cell] += inside.bit_count()
        at += count
    return [_percent(here[cell], *_stretch(cell, cells, total)) for cell in range(cells)]


def unknown_pieces(parts: Iterable[tuple[int, int]], done: int, size: int) -> int:
    """About how many pieces there are of what is not known yet; `done` of `size` bytes are here."""
    here = count = 0
    for bits, pieces in parts:
        here += bits.bit_count()
        count += pieces
    return max(round(here * size / done) - count, 0) if done > 0 else 0


def _stretch(cell: int, cells: int, total: int) -> tuple[int, int]:
    """The pieces of a cell: the first, and the one behind the last."""
    return -(-cell * total // cells), -(-(cell + 1) * total // cells)


def _percent(here: int, first: int, last: int) -> int:
    pieces = last - first
    if here in (0, pieces):
        return 100 * here // pieces
    return min(max(100 * here // pieces, 1), 99)
