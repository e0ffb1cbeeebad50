"""QR codes for terminals, of characters. Pure."""

from collections.abc import Iterator

_BORDER = 2  # modules of quiet zone; the standard wants 4, phones read 2


def qr_lines(text: str) -> Iterator[str]:
    """A QR code in half blocks, light on dark: two rows of modules in a line of text, no colours."""
    from segno import make  # only where one is printed

    rows = [list(row) for row in make(text, error="l", micro=False).matrix_iter(border=_BORDER)]
    if len(rows) % 2:
        rows.append([1] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        yield "".join("█▀▄ "[2 * bool(top) + bool(bottom)] for top, bottom in zip(upper, lower, strict=True))
