"""Queues of this computer's print system (CUPS): made and removed by its own program."""

import asyncio
import contextlib
import shlex
import shutil

from coterie.errors import UsageError
from coterie.texts import tr

WAIT_S = 60.0  # `-m everywhere` asks the printer and writes a driver
QUEUE_CHARS_MAX = 127  # CUPS
USER = "lp"  # of its configuration by default
PROGRAM, PLACES = "lpadmin", "/usr/sbin:/usr/local/sbin:/sbin"


def queue_name(text: str) -> str:
    """`text` if a queue can be called so. Raises `UsageError`."""
    if (
        not text.isascii()
        or not text.replace("-", "").replace("_", "").isalnum()
        or len(text) > QUEUE_CHARS_MAX
    ):
        raise UsageError(tr("'{text}' is no name for a queue: letters, digits, - and _", text=text[:50]))
    return text


def user_of_cups() -> int | None:
    """The user as whom CUPS sends jobs."""
    try:
        import pwd

        return pwd.getpwnam(USER).pw_uid
    except (ImportError, KeyError):
        return None


def making(queue: str, uri: str) -> list[str]:
    """The words that make a queue."""
    return [PROGRAM, "-p", queue, "-E", "-v", uri, "-m", "everywhere"]


def as_typed(words: list[str]) -> str:
    """Words as people type them."""
    return "sudo " + shlex.join(words)


async def make_queue(queue: str, uri: str) -> str:
    """Make it; why that did not work, or ""."""
    return await _run(making(queue, uri))


async def remove_queue(queue: str) -> str:
    """Remove it; why that did not work, or ""."""
    return await _run([PROGRAM, "-x", queue])


async def _run(words: list[str]) -> str:
    program = shutil.which(words[0]) or shutil.which(words[0], path=PLACES)
    if program is None:
        return tr("{program} is not installed", program=words[0])
    process = await asyncio.create_subprocess_exec(
        program,
        *words[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            _, said = await process.communicate()
    except TimeoutError:
        return tr("{program} does not end", program=words[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
    if not process.returncode:
        return ""
    return (
        said.decode(errors="replace").strip().splitlines()[-1][:200]
        if said.strip()
        else str(process.returncode)
    )
