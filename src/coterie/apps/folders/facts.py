"""What the disk of a live folder can hold, found out by trying."""

import os
import stat
import unicodedata
from pathlib import Path

import msgspec

from coterie.content.disk_rules import rules_of
from coterie.content.names import ANY_NAME, NameRules


class DiskFacts(msgspec.Struct, frozen=True):
    """What the disk can hold, found out by trying.

    Fields:
        names: which names.
        links: symbolic links.
        bits: an executable bit for each file.
        inodes: they last, so a file is known by its own.
    """

    names: NameRules = ANY_NAME
    links: bool = True
    bits: bool = True
    inodes: bool = True

    @property
    def folds(self) -> bool:
        """Whether one entry answers to several names."""
        return self.names.folds_case or self.names.folds_unicode or self.names.trims or self.names.aliases


def probed(folder: Path, *, has_inodes: bool) -> DiskFacts:
    """What the disk of `folder` can hold, by trying in it. Raises OSError where nothing can be made."""
    names = rules_of(folder)
    probe = folder / f"probe-{os.urandom(8).hex()}"
    links = bits = True
    try:
        os.symlink("x", probe)
    except (OSError, NotImplementedError):
        links = False
    else:
        probe.unlink()
    probe.touch(mode=0o600)
    try:
        bits = not probe.stat().st_mode & stat.S_IXUSR
        os.chmod(probe, 0o700)
        bits = bits and bool(probe.stat().st_mode & stat.S_IXUSR)
    except OSError:
        bits = False
    finally:
        probe.unlink()
    return DiskFacts(names, links, bits, has_inodes and _has_one_inode(folder, names))


def _has_one_inode(folder: Path, names: NameRules) -> bool:
    """Whether an entry has the same inode by each of its names: some disks count their names instead."""
    if not (names.folds_case or names.folds_unicode):
        return True
    probe = folder / ("probe-\N{LATIN SMALL LETTER E WITH ACUTE}-" if names.folds_unicode else "probe-name")
    other = unicodedata.normalize("NFD", probe.name) if names.folds_unicode else probe.name.upper()
    probe.touch()
    try:
        return probe.stat().st_ino == (folder / other).stat().st_ino
    except OSError:
        return False
    finally:
        probe.unlink()
