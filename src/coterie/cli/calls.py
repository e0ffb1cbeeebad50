"""One command line: the call goes to the running node, or to one opened just for it."""

import gc
import sys
from collections.abc import Mapping
from typing import Any

from coterie.apps.command import Choice, Command
from coterie.cli.exit_status import EXIT_INCOMPLETE
from coterie.cli.offer import is_offered, offer_internet
from coterie.cli.options import Options
from coterie.cli.show import Show
from coterie.cli.terminal import say
from coterie.control.client import Client, NoRunningNode
from coterie.errors import CoterieError
from coterie.home import Home
from coterie.plain_text import one_line
from coterie.texts import translated

ANSWERS_MAX = 3  # wrong answers to a question before it is taken for a no


def call_command(command: Command, parameters: Mapping[str, Any], options: Options) -> None:
    """Run `command` and print what it says; asks the person where the command declares a question.

    Raises:
        CoterieError: what the command failed with.
        KeyboardInterrupt: Ctrl-C; its argument is what the command says about going on.
        SystemExit: something is missing from the result, which was printed.
    """
    while True:
        show = Show(options, empty_text=translated(command.empty_text))
        try:
            _call_once(command, parameters, options, show)
            if show.is_incomplete:
                raise SystemExit(EXIT_INCOMPLETE)
            return
        except CoterieError as error:
            show.close()
            choice = None if options.json else _ask(error, command.asks.get(error.code, ()))
            if choice is None:
                show.error(error.code, str(error))
                raise
            parameters = {**parameters, **choice.sets}
        except KeyboardInterrupt as interrupt:
            show.close()
            raise KeyboardInterrupt(*(interrupt.args or _how_to_go_on(command))) from None


def _call_once(command: Command, parameters: Mapping[str, Any], options: Options, show: Show) -> None:
    home = Home.locate(options.home)
    try:
        client = Client.find(home.api_file)
        gc.enable()  # it may last
        for line in client.call(command.app, command.path, parameters):
            show.line(line)
            if is_offered(line, options):
                offer_internet(options)
    except NoRunningNode:
        if command.needs == "running":
            raise
        from coterie.cli.session import run_alone

        run_alone(command, parameters, home, show, _how_to_go_on(command), options=options)


def _how_to_go_on(command: Command) -> tuple[str, ...]:
    return (translated(command.interrupt_text),) if command.interrupt_text else ()


def _ask(error: CoterieError, choices: tuple[Choice, ...]) -> Choice | None:
    """What the person at the terminal chooses; None without a question, a terminal or an answer."""
    if not choices or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    say(one_line(str(error)))
    offered = ", ".join(f"[{choice.key}] {choice.label}" for choice in choices)
    for _ in range(ANSWERS_MAX):
        say(f"{offered}, [Enter] leave it: ", end="")
        answer = sys.stdin.readline().strip().lower()
        if not answer:
            return None
        for choice in choices:
            if answer in (choice.key.lower(), choice.label.lower()):
                return choice
    return None
