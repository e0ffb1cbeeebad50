"""Completion in the shell: words from the declarations, values from the running node, or nothing when it is not there.

    eval "$(_COTERIE_COMPLETE=bash_source coterie)"        in ~/.bashrc; zsh_source and fish_source likewise

A parameter is completed by its type (`coterie.apps.parameter`), in commands of third parties' apps as in ours.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from coterie.access.resource import Verb
from coterie.apps.parameter import Parameter, PathOrPerson, Place, Ticket, Verbs
from coterie.errors import CoterieError

VARIABLE = "_COTERIE_COMPLETE"
VALUES_MAX = 200  # nobody reads more


def answer_shell(program: click.Command, name: str) -> None:
    """Where the shell asks, and no person: answer it and end."""
    instruction = os.environ.get(VARIABLE)
    if instruction:
        from coterie.cli.shells import plain_words_only  # and replaces click's own exits to the shells

        plain_words_only(instruction.partition("_")[0])
        raise SystemExit(shell_complete(program, {}, name, VARIABLE, instruction))


def completer(
    parameter: Parameter, app: str
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]] | None:
    """What completes a parameter of a command of `app`; None: click's own way."""
    if parameter.values is None and parameter.type not in (Place, Ticket, Verbs):
        return None

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        home, found = context.find_root().params.get("home"), list[str]()
        with contextlib.suppress(CoterieError, OSError):
            values = _values(parameter, app, begun, home, context.params)
            found = [value for value in values if value.startswith(begun) and not value.startswith("-")]
        if not found and parameter.type in (Ticket, PathOrPerson):
            return [CompletionItem(begun, type="file")]  # the shell knows its files
        return [CompletionItem(value) for value in found[:VALUES_MAX]]  # and a name is never an option

    return complete


def _values(
    parameter: Parameter, app: str, begun: str, home: Path | None, given: Mapping[str, Any]
) -> Iterator[str]:
    if parameter.type in (Place, Ticket):
        parent, slash, _ = begun.rpartition("/")
        for line in _ask(home, "node", ("ls",), {"place": parent} if slash else {}):
            yield parent + slash + line["name"] + ("/" if line["kind"] in ("computer", "folder") else "")
    elif parameter.type is Verbs:
        before, comma, _ = begun.rpartition(",")
        yield from (before + comma + verb.name.lower() for verb in Verb if verb.name)
    elif listed := parameter.values:
        asked = {name: given.get(name) for name in listed.given}
        lines = _ask(home, listed.app or app, tuple(listed.command.split()), asked)
        yield from (line[listed.field] for line in lines if line[listed.field])


def _ask(home: Path | None, app: str, path: tuple[str, ...], parameters: Mapping[str, Any]) -> list[Any]:
    """The list that a command of the running node returns."""
    from coterie.control.client import Client
    from coterie.home import Home

    for line in Client.find(Home.locate(home).api_file).call(app, path, parameters):
        if "result" in line:
            return list(line["result"])
    return []
