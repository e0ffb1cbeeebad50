"""The `coterie` program as click commands, rendered from declarations when their word is used."""

import contextlib
import importlib
import os
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
from click.shell_completion import CompletionItem

import coterie
from coterie.access.resource import say_verbs
from coterie.apps.command import PURPOSES, Command
from coterie.apps.parameter import TEXTS, Duration, Here, Parameter, Peer, Rate, Resource, Size, Target
from coterie.cli.catalog import Branch, Catalog, declared_kinds
from coterie.cli.complete import answer_shell, completer
from coterie.cli.options import Options, global_options, remember
from coterie.cli.secret_input import FROM_INPUT, INPUT_CHARS_MAX, read_secrets
from coterie.cli.terminal import put, put_json, say_error
from coterie.errors import UsageError
from coterie.quantity import write_duration
from coterie.texts import tr, translated

BUILT_IN = {
    "up": "coterie.cli.lifecycle:UP",
    "down": "coterie.cli.lifecycle:DOWN",
    "open": "coterie.cli.open:OPEN",
    "autostart": "coterie.cli.autostart:AUTOSTART",
    "demo": "coterie.cli.demo:DEMO",
}
_PROGRAM = "coterie"
FIRST = (
    ("coterie up --background", "start: this computer is there for others"),
    ("coterie share PATH", "share a file or folder; prints a ticket for others"),
    ("coterie get TICKET", "get what somebody shared"),
    ("coterie invite", "make another computer a contact; there: coterie join CODE"),
    ("coterie status", "how this computer is, and who is here"),
)
_BUILT_IN_PURPOSE = "This computer"
_OTHERS = "More"


def run(arguments: list[str]) -> None:
    """Run the program; raises what the command raised, SystemExit for usage errors."""
    program = Program(
        name=_PROGRAM,
        help=translated("Share files and folders directly between computers: no server, no account."),
        params=[*global_options(), _version_option()],
        callback=_begin,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        invoke_without_command=True,
    )
    answer_shell(program, _PROGRAM)
    is_json = "--json" in arguments  # click takes them out of the list
    try:
        with program.make_context(_PROGRAM, arguments, obj=Options()) as context:
            program.invoke(context)
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx else _PROGRAM
        if is_json:
            put_json({"error": {"code": UsageError.code, "message": _one_line(error)}})
        say_error(f"{_one_line(error)} (see `{place} --help`)")
        raise SystemExit(error.exit_code) from None
    except click.exceptions.Exit as end:
        raise SystemExit(end.exit_code) from None


def _one_line(error: click.UsageError) -> str:
    return " ".join(error.format_message().split()).removesuffix(".")


class _Context(click.Context):
    """Tells errors of the parser, which do not know it, where they happened."""

    @contextlib.contextmanager
    def scope(self, cleanup: bool = True) -> Iterator[click.Context]:
        """As click's."""
        try:
            with super().scope(cleanup) as context:
                yield context
        except click.UsageError as error:
            error.ctx = error.ctx or self
            raise


def _telling_where(command: click.Command) -> click.Command:
    """`command` and those below it, with such a context."""
    command.context_class = _Context
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _telling_where(below)
    return command


class Program(click.Group):
    """The root: words from the catalog, beside the few commands that start and stop a node."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        """Every declared command."""
        if self._catalog is None:
            self._catalog = Catalog()
        return self._catalog

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every word, for the help page."""
        return sorted({*BUILT_IN, *self.catalog.words()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What people do first, then every command under its purpose."""
        with formatter.section(translated("First")):
            formatter.write_dl([(usage, translated(what)) for usage, what in FIRST])
        sections: dict[str, list[tuple[str, str]]] = {purpose: [] for purpose in PURPOSES}
        for word in self.list_commands(ctx):
            command = self.get_command(ctx, word)
            if command is not None:
                purpose = _BUILT_IN_PURPOSE if word in BUILT_IN else self.catalog.purpose(word) or _OTHERS
                sections.setdefault(purpose, []).append((word, command.get_short_help_str(limit=200)))
        for purpose, rows in sections.items():
            if rows:
                with formatter.section(translated(purpose)):
                    formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command behind one word, when only the word is known."""
        if cmd_name in BUILT_IN:
            module, _, name = BUILT_IN[cmd_name].partition(":")
            return _telling_where(getattr(importlib.import_module(module), name))
        branch = self.catalog.find(cmd_name)
        return _render(cmd_name, branch, []) if branch else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with: a word may be a command and have further ones below it."""
        if args and args[0] not in BUILT_IN and (branch := self.catalog.find(args[0])):
            return args[0], _render(args[0], branch, args[1:], completing=ctx.resilient_parsing), args[1:]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            broken = "; ".join(
                f"the app {name} cannot be loaded: {why}" for name, why in self.catalog.failures.items()
            )
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 2) if args else []
            if near:
                meant = " or ".join(f"`{_PROGRAM} {word}`" for word in near)
                raise click.UsageError(
                    tr("{rstrip}. Did you mean {meant}?", rstrip=error.message.rstrip("."), meant=meant), ctx
                ) from None
            if broken:
                raise click.UsageError(f"{error.message} ({broken})", ctx) from None
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the apps whose commands are missing."""
        for name, why in self.catalog.failures.items():
            formatter.write_paragraph()
            formatter.write_text(f"The app {name} cannot be loaded: {why}")


def _render(word: str, branch: Branch, rest: list[str], *, completing: bool = False) -> click.Command:
    """The command or the group behind `branch`, as the words that follow need it; `completing`: the next is open."""
    following = next((argument for argument in rest if not argument.startswith("-")), None)
    is_open = completing and following is None and bool(branch.children)
    if branch.command is not None and following not in branch.children and not is_open:
        return _telling_where(_leaf(word, branch.command, [*branch.children]))
    if is_open and branch.command is not None:
        return _BothWays(_leaf(word, branch.command, []), _group(word, branch, rest))
    return _telling_where(_group(word, branch, rest))


class _BothWays(click.Command):
    """For completion: a command, and those below its word."""

    def __init__(self, leaf: click.Command, group: click.Group) -> None:
        arguments = [p for p in leaf.params if isinstance(p, click.Argument)]
        super().__init__(leaf.name, params=[p for p in leaf.params if p not in arguments])
        self._first = arguments[:1]
        self._group = group

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The words below, and what the command's own first parameter can be."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        below = self._group.shell_complete(click.Context(self._group, parent=ctx.parent), incomplete)
        return below + [item for first in self._first for item in first.shell_complete(ctx, incomplete)]


def _group(word: str, branch: Branch, rest: list[str]) -> click.Group:
    group = click.Group(
        name=word,
        help=translated(branch.command.summary)
        if branch.command
        else f"Commands: {', '.join(branch.children)}.",
        params=global_options(),
        callback=_remember_here,
    )
    for name, child in branch.children.items():
        group.add_command(_render(name, child, rest[rest.index(name) + 1 :] if name in rest else []), name)
    return group


def _leaf(word: str, command: Command, further: list[str]) -> click.Command:
    described = [
        _described(parameter, command) for parameter in command.parameters if parameter.type is not Here
    ]
    own = [_click_parameter(parameter, command) for parameter in described]
    taken = {parameter.name for parameter in command.parameters}
    notes = [f"{_word(p)}: {translated(p.help)}" for p in described if p.positional and p.help]
    further_text = (
        f"Further commands: {', '.join(f'{word} {name}' for name in further)}." if further else None
    )
    return _Leaf(
        command,
        name=word,
        help="\n\n".join(
            part
            for part in (translated(command.summary), translated(command.details), *notes, further_text)
            if part
        ),
        short_help=translated(command.summary),
        params=[*own, *(option for option in global_options() if option.name not in taken)],
        callback=_caller(command, taken),
    )


class _Leaf(click.Command):
    """A declared command; its help page ends with the kinds of resources that it speaks of."""

    def __init__(self, command: Command, **settings: Any) -> None:
        super().__init__(**settings)
        self._command = command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What can be permitted, by the declarations of the apps."""
        command = self._command
        takes_any = any(parameter.type is Resource for parameter in command.parameters)
        if not takes_any and not command.kind:
            return
        rows = [
            (kind.name, f"{kind.what}: {say_verbs(kind.verbs)}")
            for kind in declared_kinds()
            if takes_any or kind.name == command.kind
        ]
        with formatter.section("Kinds of resources, and what can be permitted"):
            formatter.write_dl(rows)


def _described(parameter: Parameter, command: Command) -> Parameter:
    """With the way to keep what is secret out of the list of processes."""
    if parameter.name not in command.secrets:
        return parameter
    how = f"{FROM_INPUT} reads it from standard input, where no other user of the computer sees it."
    return msgspec.structs.replace(parameter, help=f"{parameter.help} {how}".lstrip())


def _caller(command: Command, names: set[str]) -> Callable[..., None]:
    @click.pass_context
    def call(context: click.Context, /, **given: Any) -> None:
        options = remember(context, {k: v for k, v in given.items() if k not in names})
        parameters = {k: _plain(v) for k, v in given.items() if k in names and v not in (None, ())}
        asked = [name for name in command.secrets if parameters.get(name) == FROM_INPUT]
        parameters |= dict(zip(asked, read_secrets(asked), strict=True))
        parameters |= {p.name: os.getcwd() for p in command.parameters if p.type is Here}
        from coterie.cli.calls import call_command

        call_command(command, parameters, options)

    return call


def _click_parameter(parameter: Parameter, command: Command) -> click.Parameter:
    prompt = command.prompts.get(parameter.name)
    many = parameter.many
    kind = _click_type(parameter.type)
    default = {} if parameter.required or many else {"default": parameter.default}
    if parameter.type is Duration and parameter.default is not None:
        default["default"] = write_duration(parameter.default)
    if parameter.positional:
        return click.Argument(
            [parameter.name],
            type=kind,
            metavar=_metavar(parameter),
            required=parameter.required,
            nargs=-1 if many else 1,
            shell_complete=completer(parameter, command.app),
            **default,
        )
    dashed = "--" + parameter.name.rstrip("_").replace("_", "-")
    if parameter.type is bool:
        both = parameter.default is not False
        names = f"{dashed}/--no-{dashed[2:]}" if both else dashed
        return click.Option([parameter.name, names], help=translated(parameter.help), is_flag=True, **default)
    if prompt is not None:
        default["prompt"] = prompt
    return (click.Option if prompt is None else _Asked)(
        [parameter.name, dashed],
        type=kind,
        help=translated(parameter.help),
        required=parameter.required,
        show_default=parameter.default not in (None, "", []),
        multiple=many,
        shell_complete=completer(parameter, command.app),
        **default,
    )


def _metavar(parameter: Parameter) -> str:
    """How the value of a parameter stands in the line of usage."""
    word = _word(parameter)
    return (word if parameter.required else f"[{word}]") + "..." * parameter.many


def _word(parameter: Parameter) -> str:
    """What people read for the value of a parameter: a computer is no peer to them (docs/words.md)."""
    return "COMPUTER" if parameter.type is Peer else parameter.name.upper()


class _Quantity(click.ParamType[Any]):
    """Text that the command reads itself: "15m", "2MB/s"; a default stays the number that it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As it is."""
        return value


class _Target(click.ParamType[Any]):
    """A path, as the absolute one; a separator at its end stays."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text that the command gets."""
        path = _plain(Path(value))
        return os.path.join(path, "") if value.endswith((os.sep, os.altsep or os.sep)) else path


class _Asked(click.Option):
    """An option that is asked for, at a terminal on stderr: what is printed on stdout is the result."""

    def prompt_for_value(self, ctx: click.Context) -> Any:
        """What the user answers, or the next line of a pipe."""
        try:
            if not sys.stdin.isatty():
                return sys.stdin.readline(INPUT_CHARS_MAX).strip() or ctx.fail(
                    f"nothing was entered for {self.opts[0]}"
                )
            return click.prompt(self.prompt or "", type=self.type, err=True)
        except click.Abort:  # the input has ended, or Ctrl-C
            raise click.UsageError(tr("nothing was entered for {opts}", opts=self.opts[0]), ctx) from None


def _click_type(kind: Any) -> Any:
    if kind in TEXTS:
        return str
    if kind in (Duration, Size, Rate):
        return _Quantity(kind.__name__.lower())
    if kind is Target:
        return _Target()
    if kind is Path:
        return click.Path(path_type=Path)
    if typing.get_origin(kind) is Literal:
        return click.Choice([str(choice) for choice in typing.get_args(kind)])
    return kind


def _plain(value: Any) -> Any:
    """`value` as JSON carries it; a path as the absolute one it means where the user stands."""
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, Path):
        return value
    path = value.absolute()
    return str(path.resolve() if ".." in path.parts else path)


def _version_option() -> click.Option:
    def show(context: click.Context, option: click.Parameter, value: bool) -> None:
        if value:
            put(f"coterie {coterie.__version__}")
            context.exit()

    return click.Option(
        ["--version", "-V"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help=translated("Show the version."),
    )


@click.pass_context
def _begin(context: click.Context, /, **given: Any) -> None:
    remember(context, given)
    if context.invoked_subcommand is None:
        put(context.get_help())


@click.pass_context
def _remember_here(context: click.Context, /, **given: Any) -> None:
    remember(context, given)
