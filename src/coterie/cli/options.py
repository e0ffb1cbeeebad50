"""The options that every command takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from coterie.texts import translated


class Options(msgspec.Struct, frozen=True):
    """Which node, and how to print."""

    home: Path | None = None
    json: bool = False
    quiet: bool = False

    def over(self, given: Mapping[str, Any]) -> "Options":
        """These options with those of `given` that were set."""
        known = {
            key: value
            for key, value in given.items()
            if key in ("home", "json", "quiet") and value is not None
        }
        return msgspec.structs.replace(self, **known)


def global_options() -> list[click.Option]:
    """Options that every command takes, before its words or after them."""
    return [
        click.Option(
            ["home", "--home"],
            type=click.Path(path_type=Path),
            help=translated("Folder of the node."),
        ),
        click.Option(
            ["json", "--json"],
            is_flag=True,
            default=None,
            help=translated("Print JSON: events as lines, the result last."),
        ),
        click.Option(
            ["quiet", "--quiet", "-q"],
            is_flag=True,
            default=None,
            help=translated("No progress, only results."),
        ),
    ]


def remember(context: click.Context, given: Mapping[str, Any]) -> Options:
    """The options known so far with those `given` at this word laid over them."""
    context.obj = (context.find_object(Options) or Options()).over(given)
    options: Options = context.obj
    return options
