"""Which commands there are: those of the node, and those of every app that is installed."""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from coterie.access.resource import PROTOCOL, ResourceKind
from coterie.apps.command import Command, commands_of
from coterie.apps.invoke import load_commands

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

NODE_APP = "node"
NODE_COMMANDS = "coterie.control.commands"
APPS_GROUP = "coterie.apps"


class Branch(msgspec.Struct):
    """One word of the command line: a command, further words, or both."""

    command: Command | None = None
    children: "dict[str, Branch]" = msgspec.field(default_factory=dict)


class Catalog:
    """The tree of command words. Apps are looked for only when the node itself has no such command."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        self._tree: dict[str, Branch] = {}
        self._complete = False
        for command in load_commands(NODE_APP, NODE_COMMANDS):
            _insert(self._tree, command)

    def find(self, word: str) -> Branch | None:
        """The branch under `word`."""
        if word not in self._tree:
            self._load_apps()
        return self._tree.get(word)

    def words(self) -> list[str]:
        """Every first word, in alphabetical order."""
        self._load_apps()
        return sorted(self._tree)

    def purpose(self, word: str) -> str:
        """The heading that the commands under `word` stand under; empty when none is declared."""
        branch = self.find(word)
        return "" if branch is None else _purpose(branch)

    def _load_apps(self) -> None:
        if self._complete:
            return
        self._complete = True
        from importlib.metadata import entry_points

        for entry in sorted(entry_points(group=APPS_GROUP), key=lambda entry: entry.name):
            try:
                commands = list(_commands_of_entry(entry))
            except Exception as error:  # noqa: BLE001 - a broken app of a third party must not break the others
                self.failures[entry.name] = f"{type(error).__name__}: {error}"
                continue
            taken = {*self._tree}
            for command in commands:
                _insert(self._tree, command, (entry.name,) if command.path[0] in taken else ())


def declared_kinds() -> list[ResourceKind]:
    """Every kind of resources that the core or an installed app declares, in alphabetical order."""
    from importlib.metadata import entry_points

    kinds = {PROTOCOL.name: PROTOCOL}
    for entry in entry_points(group=APPS_GROUP):
        with contextlib.suppress(Exception):  # a broken app of a third party; `coterie --help` says so
            kinds |= {kind.name: kind for kind in entry.load().kinds}
    return [kinds[name] for name in sorted(kinds)]


def _commands_of_entry(entry: "EntryPoint") -> Iterator[Command]:
    """The app's commands, without importing the app itself where its folder has the usual `commands.py`."""
    usual = f"{entry.module.rpartition('.')[0]}.commands"
    if entry.module.rpartition(".")[0] and importlib.util.find_spec(usual):
        module = importlib.import_module(usual)
    else:
        module = importlib.import_module(entry.load().commands)
    yield from commands_of(entry.name, module)


def _insert(tree: dict[str, Branch], command: Command, under: tuple[str, ...] = ()) -> None:
    *parents, last = (*under, *command.path)
    for word in parents:
        tree = tree.setdefault(word, Branch()).children
    tree.setdefault(last, Branch()).command = command


def _purpose(branch: Branch) -> str:
    if branch.command is not None:
        return branch.command.purpose
    return next(filter(None, map(_purpose, branch.children.values())), "")
