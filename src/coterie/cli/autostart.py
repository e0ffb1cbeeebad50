"""`coterie autostart`: start the node of a home when its user logs in, by a systemd user unit.

Unit file format, quoting and specifiers: systemd.unit(5), systemd.service(5). Other systems are not offered: a text
says what to do there by hand.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec

from coterie.cli.lifecycle import START_TIMEOUT_S, answering, wait_for
from coterie.cli.options import Options, global_options, remember
from coterie.errors import StorageError, UsageError
from coterie.home import Home
from coterie.private_file import write_private
from coterie.texts import tr

SYSTEMCTL_TIMEOUT_S = 20.0
_UNIT = """\
# Written by `coterie autostart on`; `coterie autostart off` removes it.
[Unit]
Description=coterie, a network of equals
After=network.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


class Autostart(msgspec.Struct, frozen=True):
    """Whether the node starts by itself. `unit` is the path of its systemd unit, empty when there is none."""

    on: bool
    unit: str = ""
    running: bool = False
    lingers: bool = False

    def text(self) -> str:
        """For people."""
        if not self.on:
            return tr("Autostart is off: `coterie autostart on` starts the node whenever you log in.")
        said = tr("Autostart is on, by {unit}.", unit=self.unit)
        if self.running:
            said += tr("\nIt runs now.")
        if not self.lingers:
            said += tr("\nIt starts when you log in; to start it with the computer: loginctl enable-linger")
        return said


def turn_on(home: Home) -> Autostart:
    """Write the unit, enable it, and start it unless a node runs already.

    Raises:
        UsageError: there is no systemd user instance here; says what to do instead.
        StorageError: the unit cannot be written, or systemd refuses it; with its words.
    """
    _require_systemd()
    home.prepare()
    unit = _unit_path(home)
    unit.parent.mkdir(parents=True, exist_ok=True)
    write_private(unit, _unit_text(home).encode())
    _systemctl("daemon-reload")
    if answering(home):
        _systemctl("enable", unit.name)
    else:
        _systemctl("enable", "--now", unit.name)
        wait_for(START_TIMEOUT_S, lambda: answering(home) is not None)
    return state(home)


def turn_off(home: Home) -> Autostart:
    """Disable and remove the unit, if there is one; a node that runs goes on. Raises as `turn_on`."""
    unit = _unit_path(home)
    if unit.exists():
        _require_systemd()
        _systemctl("disable", unit.name)
        unit.unlink(missing_ok=True)
        _systemctl("daemon-reload")
    return state(home)


def state(home: Home) -> Autostart:
    """What is set for `home`."""
    unit = _unit_path(home)
    if not unit.exists():
        return Autostart(on=False)
    lingers = Path("/var/lib/systemd/linger", _user_name()).exists()
    return Autostart(on=True, unit=str(unit), running=answering(home) is not None, lingers=lingers)


def _unit_path(home: Home) -> Path:
    """One unit for each home: the usual home has the plain name."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or _user_home() / ".config")
    usual = Home.locate(None).root if not os.environ.get("COTERIE_HOME") else None
    mark = "" if home.root == usual else "-" + hashlib.sha256(os.fsencode(home.root)).hexdigest()[:8]
    return settings / "systemd" / "user" / f"coterie{mark}.service"


def _unit_text(home: Home) -> str:
    words = [sys.executable, "-m", "coterie", "--home", str(home.root), "up"]
    return _UNIT.format(command=" ".join(map(_quoted, words)))


def _quoted(word: str) -> str:
    """`word` as one argument of ExecStart: quotes and backslashes escaped, no specifier, no variable."""
    if any(character < " " for character in word):
        raise UsageError(tr("systemd cannot start a program in a folder with this name: {word!r}", word=word))
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _require_systemd() -> None:
    if not sys.platform.startswith("linux") or shutil.which("systemctl") is None:
        raise UsageError(
            tr(
                "autostart is offered where systemd runs; here, let your system run `coterie up` when "
                "you log in"
            )
        )
    _systemctl("show", "--property=Version")


def _systemctl(*words: str) -> str:
    command = ["systemctl", "--user", "--no-pager", *words]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, words of our own
            command, capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(
            tr("`{command}` did not work: {error}", command=" ".join(command), error=error)
        ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        if words[0] == "show":
            raise UsageError(
                tr(
                    "systemd does not run for this user ({said}); log in on the computer itself, or by ssh, "
                    "and try again",
                    said=said,
                )
            )
        raise StorageError(tr("`{command}` failed: {said}", command=" ".join(command), said=said))
    return done.stdout


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise UsageError(
            tr(
                "this user has no home folder (HOME is not set, and the system does not know the user): "
                "set HOME"
            )
        ) from None


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@click.pass_context
def _call(context: click.Context, /, change: str | None, **given: object) -> None:
    options: Options = remember(context, given)
    home = Home.locate(options.home)
    said = {"on": turn_on, "off": turn_off, None: state}[change](home)
    from coterie.cli.show import Show

    Show(options).line({"result": msgspec.to_builtins(said), "text": said.text()})


AUTOSTART = click.Command(
    name="autostart",
    help="Start the node whenever you log in: on, off, or say which it is.",
    params=[click.Argument(["change"], type=click.Choice(["on", "off"]), required=False), *global_options()],
    callback=_call,
)
