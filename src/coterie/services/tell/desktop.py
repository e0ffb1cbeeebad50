"""The desktop's own notifications, through `desktop-notifier` where that is installed and there is a desktop."""

import asyncio
import importlib.util
import logging
import os
import sys
from collections.abc import Awaitable, Callable

from coterie.plain_text import one_line

LIBRARY = "desktop_notifier"
SHOW_MAX_S = 5.0  # guess: the notification service may have to be started first
FAILURES_MAX = 3  # one after another: then it is left alone until the next start

log = logging.getLogger(__name__)
Show = Callable[[str, str], Awaitable[object]]


class Desktop:
    """Shows notices. Whatever goes wrong is logged and stops nothing."""

    def __init__(self, open_notifier: Callable[[], Show] | None = None) -> None:
        """`open_notifier`: the way to the desktop; None: the library, loaded with the first notice."""
        self._open = open_notifier
        self._show: Show | None = None
        self._failures = 0

    def is_there(self) -> bool:
        """Whether it is worth a try: there is a way, and it did not fail again and again."""
        return self._failures < FAILURES_MAX and (self._open is not None or _is_possible())

    async def show(self, app: str, text: str) -> None:
        """Show one notice."""
        try:
            if self._show is None:
                self._show = await asyncio.to_thread(self._open or _open_library)
            async with asyncio.timeout(SHOW_MAX_S):
                await self._show(f"coterie: {one_line(app)}", one_line(text))
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - a foreign library and a foreign service: they may fail in any way
            self._failures += 1
            log.info("the desktop does not show notices: %r", error)


def _is_possible() -> bool:
    """Without loading it: the library is installed, and on Linux a session's message bus is there."""
    if sys.platform.startswith("linux") and not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return False
    return importlib.util.find_spec(LIBRARY) is not None


def _open_library() -> Show:
    library = importlib.import_module(LIBRARY)
    notifier = library.DesktopNotifier(app_name="coterie")

    async def show(title: str, text: str) -> object:
        return await notifier.send(title=title, message=text)

    return show
