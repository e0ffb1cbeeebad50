"""The check of `coterie doctor` whether a change of a shared file shows in its date, by the kind of its disk."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.control.doctor import Check

if TYPE_CHECKING:
    from coterie.node import Node

MOUNTS = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5); other systems do not say
COARSE: Mapping[str, str] = {  # kinds of file systems, as Linux names them, and why a date may stay as it was
    "vfat": "keeps dates to 2 s",
    "msdos": "keeps dates to 2 s",
    "hfs": "keeps dates to 1 s",
    "hfsplus": "keeps dates to 1 s",
    "ext3": "keeps dates to 1 s",
    "nfs": "takes dates from another computer",
    "nfs4": "takes dates from another computer",
    "cifs": "takes dates from another computer",
    "smb3": "takes dates from another computer",
    "9p": "takes dates from another computer",
    "fuse.sshfs": "takes dates from another computer",
}


async def dates(node: "Node") -> Check:
    """Whether each shared path lies where a change shows in the date."""
    try:
        mounts = await asyncio.to_thread(MOUNTS.read_text, "utf-8", "surrogateescape")
    except OSError:
        return Check(name="dates", ok=True, result="this system does not say what disks it has")
    roots = await asyncio.to_thread(node.store.roots)
    paths = dict.fromkeys(os.path.realpath(path) for root in roots for path in root.paths)
    doubtful = {path: COARSE[kind] for path in paths if (kind := filesystem_at(path, mounts)) in COARSE}
    if not doubtful:
        return Check(name="dates", ok=True, result="a change of a shared file shows in its date")
    told = "; ".join(f"the disk of {path} {why}" for path, why in doubtful.items())
    advice = "a change that keeps size and date is not seen: `coterie share --reread PATH` reads all of it"
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
