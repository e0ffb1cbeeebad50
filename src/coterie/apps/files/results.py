"""What the commands of `files` return: plain values that faces render."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One entry that was left out, and why."""

    path: str
    reason: str


class SharedItem(msgspec.Struct, frozen=True):
    """A share: `ticket` is all that another computer needs. `size` in bytes."""

    id: str
    name: str
    path: str
    kind: str
    files: int
    size: int
    ticket: str
    created: str
    skipped: list[Problem] = []

    def text(self) -> str:
        """For people: what is shared, what was left out, and the ticket alone on the last line."""
        lines = [
            f"Shared {self.path}: {count(self.files, 'file')}, {say_bytes(self.size)}  (share {self.id})"
        ]
        lines += [f"  left out {p.path}: {p.reason}" for p in self.skipped]
        lines += ["", "On the other computer:", "", f"  coterie get {self.ticket}"]
        return "\n".join(lines)


class ShareLine(msgspec.Struct, frozen=True):
    """One line of the list of shares; `state` is "ready", or what no longer matches the disk."""

    id: str
    name: str
    path: str
    files: int
    size: str
    state: str
    ticket: str


class Removed(msgspec.Struct, frozen=True):
    """A share that ended. The files themselves are untouched."""

    id: str
    path: str

    def text(self) -> str:
        """For people."""
        return f"No longer shared: {self.path} (its ticket is void; the files are untouched)"


class Received(msgspec.Struct, frozen=True):
    """A finished transfer. `size` in bytes, `seconds` of the last run; `failed` did not arrive."""

    id: str
    path: str
    files: int
    size: int
    fetched: int
    seconds: float
    failed: list[Problem] = []
    changed_names: list[Problem] = []

    def text(self) -> str:
        """For people."""
        rate = f", {self.fetched / self.seconds / 1e6:.0f} MB/s" if self.seconds > 0 and self.fetched else ""
        head = f"Received {self.path}: {count(self.files, 'file')}, {say_bytes(self.size)}"
        lines = [f"{head} in {self.seconds:.1f} s{rate}, verified"]
        lines += [f"  renamed {p.path}: {p.reason}" for p in self.changed_names]
        lines += [f"  NOT received {p.path}: {p.reason}" for p in self.failed]
        return "\n".join(lines)


class TransferLine(msgspec.Struct, frozen=True):
    """One line of the list of transfers."""

    id: str
    state: str
    done: str
    size: str
    rate: str
    peer: str
    path: str
    note: str = ""


def count(number: int, noun: str) -> str:
    """ "1 file", "3,000 files"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def say_bytes(size: float) -> str:
    """A size in bytes in decimal units, as disks are sold: "1.5 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
