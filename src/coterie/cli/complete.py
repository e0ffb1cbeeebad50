"""Completion in the shell: words from the declarations, values from the running node, or nothing when it is not there.

    eval "$(_COTERIE_COMPLETE=bash_source coterie)"        in ~/.bashrc; zsh_source and fish_source likewise

A parameter is completed by its name: `peer`, `contact`, `place`, `share`, `circle`, `member`, `device`, `transfer` and
`grant` mean the same in every command, also in those of third parties' apps.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from coterie.errors import CoterieError

VARIABLE = "_COTERIE_COMPLETE"
VALUES_MAX = 200  # nobody reads more
PLACES = ("place", "ticket")

_LISTS: Mapping[str, tuple[str, tuple[str, ...], str]] = {  # of parameter: app, command, field
    "peer": ("node", ("ls",), "name"),
    "contact": ("contacts", ("contacts",), "name"),
    "share": ("files", ("shares",), "name"),
    "circle": ("circles", ("circle",), "name"),
    "member": ("circles", ("circle", "members"), "name"),  # of the circle that was named before
    "device": ("circles", ("devices",), "name"),
    "transfer": ("files", ("transfers",), "id"),
    "grant": ("grants", ("grants",), "id"),
    "version": ("files", ("trash",), "id"),
    "versions": ("files", ("trash",), "id"),
}


def answer_shell(program: click.Command, name: str) -> None:
    """Where the shell asks, and no person: answer it and end."""
    instruction = os.environ.get(VARIABLE)
    if instruction:
        from coterie.cli.shells import plain_words_only  # and replaces click's own exits to the shells

        plain_words_only(instruction.partition("_")[0])
        raise SystemExit(shell_complete(program, {}, name, VARIABLE, instruction))


def completer(parameter: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]] | None:
    """What completes the parameter of this name; None: click's own way."""
    if parameter not in _LISTS and parameter not in PLACES:
        return None

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        home = context.find_root().params.get("home")
        asked = {"circle": context.params.get("circle")} if parameter == "member" else {}
        try:
            found = [value for value in _values(parameter, begun, home, asked) if not value.startswith("-")]
            return [CompletionItem(value) for value in found[:VALUES_MAX]]  # and a name is never an option
        except (CoterieError, OSError):
            return []

    return complete


def _values(parameter: str, begun: str, home: Path | None, asked: Mapping[str, Any]) -> Iterator[str]:
    if parameter in PLACES:
        parent, slash, _ = begun.rpartition("/")
        for line in _ask(home, "node", ("ls",), {"place": parent} if slash else {}):
            value = parent + slash + line["name"] + ("/" if line["kind"] in ("computer", "folder") else "")
            if value.startswith(begun):
                yield value
        return
    app, path, field = _LISTS[parameter]
    values = (line[field] for line in _ask(home, app, path, asked))
    yield from (value for value in values if value and value.startswith(begun))


def _ask(home: Path | None, app: str, path: tuple[str, ...], parameters: Mapping[str, Any]) -> list[Any]:
    """The list that a command of the running node returns."""
    from coterie.control.client import Client
    from coterie.home import Home

    for line in Client.find(Home.locate(home).api_file).call(app, path, parameters):
        if "result" in line:
            return list(line["result"])
    return []
