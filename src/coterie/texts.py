"""Texts that people read: English templates with parameters, and their translations from gettext catalogues.

    tr("the share {name} is gone", name=name)

The English template is the key of the catalogue. A language is a folder `locale/LANGUAGE/LC_MESSAGES` with a
compiled catalogue: ours beside this module (`coterie.mo`), that of an app in the folder of its package (`APP.mo`).
Whoever reads English pays for none of it. A program speaks the language of its environment, an answer of the local
API the one that was asked for (`Accept-Language`), which a context variable carries to the tasks that the call
begins.
"""

import contextvars
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import util
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gettext import NullTranslations

log = logging.getLogger(__name__)

DOMAIN = "coterie"
APPS_GROUP = "coterie.apps"
LANGUAGES_MAX = 8  # of one reader, the rest is not looked at
TAG_CHARS_MAX = 35  # what RFC 5646 asks programs to take, section 4.4.1
_FOLDER = Path(__file__).parent / "locale"
_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # as gettext looks at them

_COMMA = frozenset(["de", "fr", "es", "it", "nl", "pt", "pl", "ru", "sv", "da", "nb", "fi", "cs"])
_SWAPPED = str.maketrans(",.", ".,")  # languages of _COMMA write 1.234,5

_own: tuple[str, ...] = ()  # of this process; the reader's own choice comes before English
_asked: contextvars.ContextVar[tuple[str, ...] | None] = contextvars.ContextVar("languages", default=None)


def tr(template: str, /, **values: object) -> str:
    """`template` in the reader's language, with `values` in its fields (as `str.format` has them).

    A translation whose fields do not fit is not used: the English text stands.
    """
    languages = _spoken()
    if languages:
        try:
            return _filled(_catalogue(languages).gettext(template), values)
        except (LookupError, ValueError, AttributeError):
            pass
    return _filled(template, values)


def translated(text: str) -> str:
    """`text`, which is no template, in the reader's language: what a command declares of itself."""
    languages = _spoken()
    return _catalogue(languages).gettext(text) if languages and text else text


def tr_count(one: str, many: str, number: int, /, **values: object) -> str:
    """`one` or `many` by the rules of the reader's language; `number` is the field `{number}` of both."""
    languages = _spoken()
    if languages:
        try:
            return _filled(_catalogue(languages).ngettext(one, many, number), {"number": number, **values})
        except (LookupError, ValueError, AttributeError):
            pass
    return _filled(one if number == 1 else many, {"number": number, **values})


def number_form(text: str) -> str:
    """A number as Python writes it ("1,234.5") in the form of the reader's language ("1.234,5")."""
    languages = _spoken()
    return text.translate(_SWAPPED) if languages and languages[0].partition("_")[0] in _COMMA else text


class _Filling(Formatter):
    """Fields of templates, numbers in the reader's form."""

    def format_field(self, value: object, format_spec: str) -> str:
        said: str = super().format_field(value, format_spec)
        return number_form(said) if isinstance(value, int | float) else said


def _filled(template: str, values: Mapping[str, object]) -> str:
    if not _spoken():
        return template.format(**values)
    return _Filling().vformat(template, (), values)


def speak_as_environment() -> None:
    """From here on texts are in the language that the environment variables of this process name."""
    global _own  # noqa: PLW0603 - the language of a process is one, as gettext and locale have it
    said = next((value for name in _VARIABLES if (value := os.environ.get(name))), "")
    _own = _wanted([tag.partition(".")[0] for tag in said.split(":")])
    if _own:
        import gettext

        gettext.bindtextdomain(DOMAIN, _FOLDER)  # for click, which asks the standard library
        gettext.textdomain(DOMAIN)


@contextmanager
def speaking(accepted: str | None) -> Iterator[None]:
    """Texts made inside are in the first language of `accepted`, an `Accept-Language`; None: as outside."""
    if accepted is None:
        yield
        return
    token = _asked.set(_wanted(_by_weight(accepted)))
    try:
        yield
    finally:
        _asked.reset(token)


def accept_language() -> str:
    """The languages of this reader as the value of an `Accept-Language`."""
    return ",".join((*(tag.replace("_", "-") for tag in _spoken()), "en"))


def _spoken() -> tuple[str, ...]:
    asked = _asked.get()
    return _own if asked is None else asked


def _by_weight(accepted: str) -> list[str]:
    weighed = []
    for place, part in enumerate(accepted.split(",")[:LANGUAGES_MAX]):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), place, tag))
        except ValueError:
            continue
    return [tag for _, _, tag in sorted(weighed)]


def _wanted(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags that come before English: what follows it is never needed."""
    wanted: list[str] = []
    for tag in tags:
        plain = tag.strip().replace("-", "_")
        if (
            plain.lower() in ("c", "posix", "")
            or plain.lower().split("_")[0] == "en"
            or len(wanted) >= LANGUAGES_MAX
        ):
            break
        if len(plain) <= TAG_CHARS_MAX and plain.isascii() and plain.replace("_", "").isalnum():
            language, _, region = plain.partition("_")
            wanted.append(f"{language.lower()}_{region.upper()}" if region else language.lower())
    return tuple(wanted)


@lru_cache(maxsize=LANGUAGES_MAX)
def _catalogue(languages: tuple[str, ...]) -> "NullTranslations":
    """Our catalogue in the first of `languages` that there is, then those of apps for what it does not have."""
    first = _loaded(DOMAIN, _FOLDER, languages)
    for name, folder in _of_apps():
        first.add_fallback(_loaded(name, folder, languages))
    return first


def _loaded(domain: str, folder: Path, languages: tuple[str, ...]) -> "NullTranslations":
    import gettext

    try:
        return gettext.translation(domain, folder, languages, fallback=True)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises: its texts stay English
        log.warning("the translations in %s cannot be used: %s", folder, error)
        return gettext.NullTranslations()


def _of_apps() -> Iterator[tuple[str, Path]]:
    from importlib.metadata import entry_points

    for entry in entry_points(group=APPS_GROUP):
        package = entry.module.partition(".")[0]
        if package == DOMAIN:
            continue
        try:
            found = util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for place in (found and found.submodule_search_locations) or ():
            yield entry.name, Path(place) / "locale"
