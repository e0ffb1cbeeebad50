"""Texts that speak the command line, in the words of a page: a command is a link to its form, an option the label of
its control. One place for all texts that people read here. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import Markup

from coterie.access.resource import ResourceKind
from coterie.apps.command import PURPOSES, Command
from coterie.texts import tr, translated
from coterie.web.results import word

FIRST = ("share", "get", "send", "receive", "play", "invite", "join", "grant", "may", "status", "config")
"""What most people want of each purpose; everything else follows in the order that its app declares."""
_CODE = re.compile(r"`([^`\n]+)`")
_LINE = re.compile(r"\bcoterie ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)((?: (?:[A-Z][\w./-]*|--?[a-z][a-z-]*))*)")
_OPTION = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z-]*)")
_INSTRUCTION = re.compile(
    r"(: |; again: )`?coterie [a-z][^`]*(`\.)?\Z"
)  # what to type, where a button does it
_CLAUSE = re.compile(r"[:;.]( |\Z)")


def without_command(text: str) -> str:
    """`text` without the command line at its end, for where a button does it."""
    return _INSTRUCTION.sub(lambda found: "." if found[2] else "", text)


def title_of(command: Command) -> str:
    """What people read for a command; without one of its own the beginning of its summary."""
    return translated(command.title) or _CLAUSE.split(translated(command.summary), maxsplit=1)[0]


def address_of(command: Command) -> str:
    """Where its form is."""
    return f"/do/{command.app}/{'-'.join(command.path)}"


def by_purpose(commands: Iterable[Command]) -> dict[str, list[Command]]:
    """What people do first before the rest; of those with one title the longest ("contacts", not "contact")."""
    once: dict[tuple[str, str], Command] = {}
    for command in commands:
        key = command.app, command.title or " ".join(command.path)
        if key not in once or len(" ".join(once[key].path)) < len(" ".join(command.path)):
            once[key] = command
    found: dict[str, list[Command]] = {purpose: [] for purpose in PURPOSES}
    for command in sorted(once.values(), key=_place):
        found.setdefault(command.purpose, []).append(command)
    return {purpose: its for purpose, its in found.items() if its}


def _place(command: Command) -> int:
    first = command.path[0] if len(command.path) == 1 else ""
    return FIRST.index(first) if first in FIRST else len(FIRST)


def in_words(kinds: Iterable[ResourceKind]) -> Callable[[object], str]:
    """What says resources as people call them: "files/photos" as "the share photos"."""
    called = {kind.name: kind.called for kind in kinds if kind.called}
    named = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, called))})/(?=\S)") if called else None

    def say(text: object) -> str:
        return named.sub(lambda found: f"{translated(called[found[1]])} ", str(text)) if named else str(text)

    return say


class Wording:
    """Says texts as a page does."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._by_words: Mapping[tuple[str, ...], Command] = {command.path: command for command in commands}

    def __call__(self, text: object, command: Command | None = None) -> Markup:
        """`text` with links to forms; options are those of `command`. What stands in backticks besides is code; a
        backtick without its other stays.
        """
        said, at = str(text), 0
        parts: list[Markup | str] = []
        for found in _CODE.finditer(said):
            parts += [self._plain(said[at : found.start()], command), self._code(found[1], command)]
            at = found.end()
        return Markup("").join([*parts, self._plain(said[at:], command)])

    def _code(self, inside: str, command: Command | None) -> Markup:
        if option := _OPTION.fullmatch(inside):
            return self._label(option, command)
        words = inside.split()
        is_line = words[:1] == ["coterie"]
        found, length = self._command(words[1:] if is_line else words)
        if found is not None and (is_line or length == len(words) > 1):
            return self._link(found)
        return Markup("<code>{}</code>").format(inside)

    def _plain(self, text: str, command: Command | None) -> Markup:
        """Text outside of backticks: command lines and options stand there too."""
        parts: list[Markup] = []
        at = 0
        for line in _LINE.finditer(text):
            words = line[1].split()
            found, length = self._command(words)
            if found is None:
                continue
            rest = " ".join(words[length:])
            parts += [self._options(text[at : line.start()], command), self._link(found)]
            if rest:
                parts.append(Markup(" {}").format(rest))
            at = line.end()
        return Markup("").join([*parts, self._options(text[at:], command)])

    def _options(self, text: str, command: Command | None) -> Markup:
        parts: list[Markup] = []
        at = 0
        for option in _OPTION.finditer(text) if command is not None else ():
            parts += [Markup("{}").format(text[at : option.start()]), self._label(option, command)]
            at = option.end()
        return Markup("").join([*parts, Markup("{}").format(text[at:])])

    @staticmethod
    def _label(option: re.Match[str], command: Command | None) -> Markup:
        name = option[2].replace("-", "_")
        names = {p.name.rstrip("_") for p in command.parameters} if command is not None else set()
        if name not in names:
            return Markup("<code>{}</code>").format(option[0])
        said = tr("“{label}”", label=word(name))
        return Markup("{}").format(tr("not {label}", label=said) if option[1] else said)

    def _command(self, words: Sequence[str]) -> tuple[Command | None, int]:
        """The command that `words` begin with, by as many of them as there can be."""
        for length in range(len(words), 0, -1):
            if (found := self._by_words.get(tuple(words[:length]))) is not None:
                return found, length
        return None, 0

    @staticmethod
    def _link(command: Command) -> Markup:
        return Markup('<a href="{}">{}</a>').format(address_of(command), title_of(command))
