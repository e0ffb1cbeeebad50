"""What an app shows on the page beside the forms of its commands: views, rows that stay true, cards, things to find.

    PANEL = Panel(
        views=(View("files", title="Files", icon="folder", template="files/files.html", fill=shares, place=20),),
        lives=(Live("shares", template="files/share.html", rows=share_rows),),
    )

An app names its panel in `App.panel` as "module:NAME"; the page imports it when the first browser comes. Its
templates stand in the folder `templates` beside its `app.py` and are named "APP/FILE.html". Functions get a `Reader`
and may be coroutines. A function that only some readers may use checks `reader.browser.may(right)` itself; what a
view or rows show is for who has their `right`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

__all__ = ["ANSWER", "LOOK", "Answer", "Card", "Found", "Live", "Panel", "Reader", "Row", "View"]

LOOK = "look"  # the right to see who is there and what goes on
ANSWER = "answer"  # the right to take or refuse what others send
ROWS_WINDOW_MAX = 200  # that one browser follows of one list


class Asking(Protocol):
    """Who looks at the page: `coterie.control.browsers.Browser`."""

    @property
    def name(self) -> str: ...

    def may(self, right: str) -> bool:
        """Whether it has this right."""
        ...


class Reader(Protocol):
    """One request of a browser, for the functions of a panel."""

    @property
    def service(self) -> Any:
        """The running service of the panel's app. Raises `NotFound`, which says why it does not run."""
        ...

    @property
    def browser(self) -> Asking: ...

    @property
    def args(self) -> Mapping[str, str]:
        """The query of the address, or what a list of rows was asked with (`live(NAME, key=...)`)."""
        ...

    @property
    def path(self) -> str:
        """What stands in the address behind the view: "7" of /transfers/7."""
        ...

    def name_of(self, short_id: str) -> str:
        """The name of a computer known here, by the short form of its id; else that form."""
        ...

    async def call(self, words: str, **parameters: Any) -> Any:
        """The result of a command, of any app, as plain values: `await reader.call("contacts")`.

        Raises:
            CoterieError: what the command failed with.
        """
        ...


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row: `key` names it among its list; `value` is what its template gets as `row`.

    Equal values: nothing changed. `value` is of builtins or Structs, without what changes at every look (a
    time in words).
    """

    key: str
    value: Any


Fill = Callable[[Reader], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
Rows = Callable[[Reader], Sequence[Row] | Awaitable[Sequence[Row]]]
Seen = Callable[[Reader, Sequence[Row]], Sequence[Row] | Awaitable[Sequence[Row]]]


def _nothing(reader: Reader) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page of its own: /NAME, and /NAME/REST where it looks at `reader.path`.

    Fields:
        title: English, in the navigation; an app's catalogue translates it.
        icon: a symbol of static/vendor/icons.svg.
        template: extends "base.html"; gets what `fill` returns.
        place: in the navigation, small first; 0: it does not stand there.
        is_wide: only in that of wide screens; narrow ones find it under Everything.
        parts: pieces that the view's own page asks for: /NAME/-/PART, a template and what fills it.
        answers: /NAME/=/REST answers anything but HTML: gets the reader and Starlette's request, gives a response.
        scripts: files of /static/ that its page loads.
    """

    name: str
    title: str
    icon: str
    template: str
    fill: Fill = _nothing
    place: int = 100
    is_wide: bool = False
    right: str = LOOK
    parts: Mapping[str, tuple[str, Fill]] = field(default_factory=dict)
    answers: Callable[[Reader, Any], Awaitable[Any]] | None = None
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Rows that stay true while somebody sees them; in a template `{{ live("APP.NAME") }}`.

    Fields:
        template: one row, without the element around it; gets `row` and `key`.
        rows: all of them, in order: called at most once in `every_s` for all browsers that ask with the same `args`.
        tag: the element around each row.
        css: its class.
        seen: completes the rows on the screen, of which `rows` says then only what orders them: for lists of thousands.
        is_said: programs that read the screen aloud say each new row, once; changes of a row are never said.
        window_px: the height of each row in pixels; of a long list only the rows on the screen are there. 0: all are.
    """

    name: str
    template: str
    rows: Rows
    every_s: float = 0.5
    tag: str = "li"
    css: str = "row"
    window_px: int = 0
    right: str = LOOK
    is_said: bool = False
    seen: "Seen | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Part of the first page, or of the view `on`: rows under a heading, left out while there are none.

    `empty`: a template that stands there while there are none. `action`: a button in the heading: label, address, icon.
    """

    title: str
    icon: str
    live: str
    place: int = 100
    empty: str = ""
    link: str = ""
    on: str = "home"
    action: tuple[str, str, str] | None = None


class Answer(msgspec.Struct, frozen=True):
    """A button on a notice: it calls the command `words` with `parameters`.

    With `undo`, what has been done in words, it waits some seconds, in which it can be undone.
    """

    label: str
    words: str
    parameters: Mapping[str, Any] = {}
    icon: str = ""
    is_main: bool = False
    undo: str = ""


class Found(msgspec.Struct, frozen=True):
    """Something that a search found: `link` is an address of the page."""

    title: str
    link: str
    icon: str
    note: str = ""


Answers = Callable[[Reader, str], Sequence[Answer] | Awaitable[Sequence[Answer] | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """All that an app shows.

    Fields:
        rights: for each right but the owner's, the commands of this app that it opens, by their words.
        answers: what can be done about a notice of this app, from its key; None: the notice is not shown, for a card of
            this app says the same.
        search: what of this app has the words of the text in it, the best first.
        words: values that its templates say in the reader's language (`translated(row.state)`).
        results: templates for what its commands tell, by the names of the types, and for what they return, by the words
            of the command; they get it as `told`.
    """

    views: tuple[View, ...] = ()
    lives: tuple[Live, ...] = ()
    cards: tuple[Card, ...] = ()
    rights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    results: Mapping[str, str] = field(default_factory=dict)
    answers: Answers | None = None
    search: Callable[[Reader, str], Sequence[Found] | Awaitable[Sequence[Found]]] | None = None
