"""The check of `coterie doctor` whether a change of a shared file shows in its date, by the kind of its disk."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.control.doctor import Check
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node

MOUNTS = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5); other systems do not say
COARSE: Mapping[
    str, int
] = {  # kinds of file systems, as Linux names them, and how many seconds a date is kept to
    "vfat": 2,
    "msdos": 2,
    "hfs": 1,
    "hfsplus": 1,
    "ext3": 1,
    "nfs": 0,  # 0: dates are those of another computer
    "nfs4": 0,
    "cifs": 0,
    "smb3": 0,
    "9p": 0,
    "fuse.sshfs": 0,
}


async def dates(node: "Node") -> Check:
    """Whether each shared path lies where a change shows in the date."""
    try:
        mounts = await asyncio.to_thread(MOUNTS.read_text, "utf-8", "surrogateescape")
    except OSError:
        return Check(name="dates", ok=True, result=tr("this system does not say what disks it has"))
    roots = await asyncio.to_thread(node.store.roots)
    paths = dict.fromkeys(os.path.realpath(path) for root in roots for path in root.paths)
    doubtful = {path: COARSE[kind] for path in paths if (kind := filesystem_at(path, mounts)) in COARSE}
    if not doubtful:
        return Check(name="dates", ok=True, result=tr("a change of a shared file shows in its date"))
    told = "; ".join(
        tr("the disk of {path} keeps dates to {seconds} s", path=path, seconds=seconds)
        if seconds
        else tr("the disk of {path} takes dates from another computer", path=path)
        for path, seconds in doubtful.items()
    )
    advice = tr(
        "a change that keeps size and date is not seen: `coterie share --reread PATH` reads all of it"
    )
    return Check(name="dates", ok=True, result=told, advice=advice)


def filesystem_at(path: str, mounts: str) -> str:
    """The kind of the file system that `path` lies on, from the text of `MOUNTS`; empty when none is named there."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        if len(words) < 5 or not after:
            continue
        at = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4]).rstrip("/")
        if (path + "/").startswith(at + "/") and len(at) >= len(best):  # the later mount lies above
            best, kind = at, after.split(" ")[0]
    return kind
