"""The printer of the office: python -m tests.lab.office_printer PORT FILE.

A printer of ours that speaks IPP; its paper is a file with a line for each document: the SHA-256.
"""

import asyncio
import sys
from pathlib import Path

from tests.apps.printers.fake_printer import FakePrinter


class Paper(list[tuple[str, str]]):
    """What was printed, on the disk before the printer says that it was."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def append(self, printed: tuple[str, str]) -> None:
        """One document."""
        with self._path.open("a") as file:
            file.write(printed[0] + "\n")
        super().append(printed)


async def main(port: int, path: Path) -> None:
    """Print until killed."""
    printer = FakePrinter(seconds=0.3)
    printer.port, printer.printed = port, Paper(path)
    await printer.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
