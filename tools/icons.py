"""Draw the icons of the page as an app on a phone, by arithmetic alone: `python tools/icons.py` writes PNG files."""

import math
import struct
import sys
import zlib
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "src" / "coterie" / "web" / "static" / "phone"
BACK, RING, DOT = (28, 62, 92), (122, 184, 214), (255, 255, 255)
DOTS = 5
SAFE = 0.8  # of a maskable icon: what no phone cuts off (W3C Web App Manifest, "maskable")


def colour(x: float, y: float, scale: float, corner: float) -> tuple[int, int, int, int]:
    """Of the point (x, y) in -1..1; `corner` is the radius of the corners of the square, 0 for none."""
    dx, dy = max(abs(x) - (1 - corner), 0.0), max(abs(y) - (1 - corner), 0.0)
    if math.hypot(dx, dy) > corner and corner:
        return 0, 0, 0, 0
    x, y = x / scale, y / scale
    for number in range(DOTS):
        angle = 2 * math.pi * number / DOTS - math.pi / 2
        if math.hypot(x - 0.58 * math.cos(angle), y - 0.58 * math.sin(angle)) < 0.19:
            return *DOT, 255
    if abs(math.hypot(x, y) - 0.58) < 0.05:
        return *RING, 255
    return *BACK, 255


def png(size: int, scale: float, corner: float) -> bytes:
    """A square picture; each point is the mean of four."""
    rows = bytearray()
    for row in range(size):
        rows.append(0)
        for column in range(size):
            four = [
                colour((column + a) / size * 2 - 1, (row + b) / size * 2 - 1, scale, corner)
                for a in (0.25, 0.75)
                for b in (0.25, 0.75)
            ]
            rows += bytes(sum(channel) // 4 for channel in zip(*four, strict=True))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + chunk(b"IEND", b"")
    )


def main() -> int:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, size, scale, corner in (
        ("icon-192", 192, 1.0, 0.3),
        ("icon-512", 512, 1.0, 0.3),
        ("maskable-512", 512, SAFE, 0.0),
        ("apple-180", 180, 0.9, 0.0),
    ):
        (FOLDER / f"{name}.png").write_bytes(png(size, scale, corner))
    return 0


if __name__ == "__main__":
    sys.exit(main())
