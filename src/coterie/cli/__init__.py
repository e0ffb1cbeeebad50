"""The command line. `coterie --version` answers before anything heavy is imported."""

import codecs
import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence

from coterie.cli.exit_status import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

DEBUG_VARIABLE = "COTERIE_DEBUG"
_OUTPUT_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status and never raises."""
    if argv is None:
        _open_closed_streams()
        _speak_utf8()
    arguments = [*sys.argv[1:]] if argv is None else [*argv]
    if arguments in (["--version"], ["-V"]):
        from coterie import __version__

        return _guarded(lambda: sys.stdout.write(f"coterie {__version__}\n"))
    return _guarded(lambda: _run(arguments))


def _open_closed_streams() -> None:
    """Put the null device where standard streams are closed: the next file that is opened would take their place."""
    was_closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if was_closed:
        _say("standard output is closed: results are not shown", 0)


def _speak_utf8() -> None:
    """Begin anew where Python would take the names of files for something else than UTF-8, because of the locale.

    On Unix a file's name is bytes: what is UTF-8 on the disk has to arrive as that, whatever a terminal shows. What is
    printed keeps the encoding of the terminal.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or not sys.executable:
        return
    if codecs.lookup(sys.stdout.encoding or "ascii").name != "ascii":
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"  # for what this starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very program


def _run(arguments: list[str]) -> None:
    gc.disable()  # nothing of what is imported is garbage, and a tenth of the start would go for finding that out
    from coterie.cli.program import run
    from coterie.texts import speak_as_environment

    speak_as_environment()
    try:
        run(arguments)
    finally:
        gc.freeze()  # else the interpreter looks through all of it before it ends


def _guarded(work: Callable[[], object]) -> int:
    """Do `work`; whatever goes wrong becomes one plain line and an exit status."""
    try:
        try:
            work()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        return _say(" ".join(map(str, interrupt.args)) or "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        _leave_output()  # the reader left
        return EXIT_FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the outermost boundary: nobody is to see a traceback unasked
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    from coterie.errors import CoterieError, UsageError

    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, CoterieError):
        usage = error.code == UsageError.code
        return _say(str(error), EXIT_USAGE if usage else EXIT_FAILED)
    if isinstance(error, OSError) and error.filename is None:
        if isinstance(error, FileNotFoundError) and not _has_folder():
            return _say("the folder that you are in was deleted: change to another one (`cd`)", EXIT_FAILED)
        if error.errno in _OUTPUT_FAILED:
            _leave_output()
            return _say(f"the output cannot be written: {error.strerror}", EXIT_FAILED)
    said = ": ".join(filter(None, [f"unexpected {type(error).__name__}", " ".join(str(error).split())]))
    notes = "; ".join([*getattr(error, "__notes__", []), f"set {DEBUG_VARIABLE}=1 for the traceback"])
    return _say(f"{said} ({notes})", EXIT_FAILED)


def _has_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _leave_output() -> None:
    """The flush at exit is to fail quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(text: str, status: int) -> int:
    from coterie.cli.terminal import say_error

    try:
        say_error(text)
    except OSError:
        return status  # nobody listens any more; the status still says it
    return status
