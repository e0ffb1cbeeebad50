"""What is shared by mistake more often than on purpose: a home folder, or one with home folders in it."""

import contextlib
import os
from pathlib import Path

from coterie.errors import UsageError
from coterie.texts import tr

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

USER_IDS_FROM = 1000  # below are accounts of the system, but for 0; login.defs of Debian, Fedora, Arch


class Sweeping(UsageError):
    """It holds far more than people mean to share."""

    code = "sweeping"


def check_sweeping(path: Path) -> None:
    """Raise `Sweeping` for a home folder, and for what has one in it. Blocking."""
    real, homes = os.path.realpath(path), _homes()
    if real in homes:
        what = "a home folder: passwords, keys and letters lie in such"
    elif os.path.dirname(real) == real:
        what = "everything on this disk"
    elif any(home.startswith(real + os.sep) for home in homes):
        what = "a folder with home folders in it: passwords, keys and letters lie in such"
    else:
        return
    raise Sweeping(
        tr("{path} is {what}. Nothing is shared yet; --everything shares all of it", path=path, what=what)
    )


def _homes() -> set[str]:
    """The home folders of this computer, by real paths, as far as is known."""
    homes = {os.path.expanduser("~")}
    with contextlib.suppress(KeyError, RuntimeError):
        homes.add(str(Path.home()))
    if pwd is not None:
        homes |= {entry.pw_dir for entry in pwd.getpwall() if entry.pw_uid in (0, os.getuid())}
        homes |= {entry.pw_dir for entry in pwd.getpwall() if entry.pw_uid >= USER_IDS_FROM}
    real = {os.path.realpath(home) for home in homes if os.path.isabs(home) and os.path.isdir(home)}
    return {home for home in real if os.path.dirname(home) != home}
