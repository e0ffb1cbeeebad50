"""One field that finds people, places, files, and what can be done."""

import inspect
import logging

from coterie.apps.panel import LOOK, Found
from coterie.errors import CoterieError
from coterie.texts import translated
from coterie.web.reader import Asked
from coterie.web.wording import address_of, title_of

PER_KIND_MAX = 6  # of what each app, and the commands, find

log = logging.getLogger(__name__)


async def found_by(asked: Asked, text: str) -> list[Found]:
    """What has all words of `text` in it."""
    words = text.casefold().split()
    if not words:
        return []
    found: list[Found] = []
    for app, panel in asked.panels.all if asked.browser.may(LOOK) else ():
        if panel.search is None:
            continue
        try:
            given = panel.search(asked.of(app), text)
            found += [*(await given if inspect.isawaitable(given) else given)][:PER_KIND_MAX]
        except CoterieError:
            continue
        except Exception:
            log.exception("the search of the app '%s' failed", app)
    return found + _commands(asked, words)


def _commands(asked: Asked, words: list[str]) -> list[Found]:
    matching = []
    for command in asked.commands.all:
        name, title, summary = " ".join(command.path), title_of(command), translated(command.summary)
        if all(word in f"{name} {title} {summary}".casefold() for word in words) and asked.panels.may_call(
            asked.browser, command
        ):
            is_near = name.startswith(words[0]) or title.casefold().startswith(words[0])
            matching.append((not is_near, name, Found(title, address_of(command), "zap", name)))
    found = {one.title: one for _, _, one in sorted(matching, key=lambda m: m[:2], reverse=True)}
    return [*reversed(found.values())][:PER_KIND_MAX]
