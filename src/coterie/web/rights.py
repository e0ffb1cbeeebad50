"""What a phone may do: the one place where every route of the page and every command is asked. Deny by default.

The owner's own browsers have the right "everything" and are not asked. A route or a command that stands in none of the
tables is closed to every phone.
"""

import os.path
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from coterie.apps.command import Command, Here, PathOrPerson, Target, Ticket
from coterie.errors import AccessDenied
from coterie.texts import tr

EVERYTHING = "everything"
NOBODY = "nobody"  # what no phone may, whatever it was allowed

COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "node/id", "node/jobs", "node/jobs-watch", "node/ls", "node/notices", "node/peers", "node/people",
            "node/status", "node/usage", "circles/blocked", "circles/circle", "circles/circle-members",
            "contacts/contact", "contacts/contact-show", "contacts/contacts", "drive/drive", "folders/folders",
            "disks/disks", "expose/connected", "expose/exposed", "expose/names",
            "printers/printers", "printers/printer-jobs",
            "internet/internet", "internet/internet-shares",
            "files/shares", "files/transfers", "files/transfers-show", "send/inbox", "send/sent",
        ),
        "look",
    ),
    **dict.fromkeys(
        (
            "files/get", "files/refresh", "files/transfers-pause", "files/transfers-resume", "files/transfers-cancel",
            "files/transfers-priority", "files/trash", "files/trash-restore", "node/jobs-pause", "node/jobs-resume",
            "node/jobs-cancel",
        ),
        "get",
    ),
    **dict.fromkeys(("send/send", "send/sent-cancel"), "send"),
    "printers/print": "send",
    **dict.fromkeys(("send/inbox-accept", "send/inbox-decline", "send/receive", "printers/printer-approve",
            "printers/printer-refuse", "printers/printer-cancel"), "answer"),
    "play/play": "play",
    **dict.fromkeys(
        ("files/share", "files/unshare", "files/shares-changes", "files/ticket", "bittorrent/magnet"), "share"
    ),
    **dict.fromkeys(
        (
            "circles/circle-new", "circles/circle-invite", "circles/circle-join", "circles/circle-role",
            "circles/circle-remove", "circles/circle-leave", "circles/circle-rename", "circles/unblock",
            "contacts/contact-rename", "contacts/contact-remove", "contacts/contacts-rename",
            "contacts/contacts-remove", "contacts/invite", "contacts/join", "grants/grant", "grants/grant-accept",
            "grants/grant-pass", "grants/grants", "grants/revoke", "node/audit", "node/may", "node/resources",
            "node/peers-forget", "send/inbox-always", "send/inbox-ask",
        ),
        "people",
    ),
    **dict.fromkeys(
        (
            "folders/folder-add", "folders/folder-conflicts", "folders/folder-get", "folders/folder-go-on",
            "folders/folder-ignore", "folders/folder-join", "folders/folder-keep", "folders/folder-leave",
            "folders/folder-ls", "folders/folder-new", "folders/folder-pause", "folders/folder-quota",
            "folders/folder-remove",
            "folders/folder-resolve", "folders/folder-restore", "folders/folder-resume", "folders/folder-undo",
            "folders/folder-select", "folders/folder-versions",
            "disks/disk-attach", "disks/disk-detach", "disks/disk-eject", "disks/disk-share", "disks/disk-unshare",
            "disks/disk-usb",
            "drive/drive-mount", "drive/drive-off", "drive/drive-on", "drive/drive-unmount",
            "expose/connect", "expose/disconnect", "expose/expose", "expose/unexpose", "files/limits",
            "expose/names-off", "expose/names-on",
            "printers/printer-add", "printers/printer-remove", "printers/printer-share", "printers/printer-unshare",
            "internet/internet-share", "internet/internet-unshare", "internet/internet-use", "internet/internet-stop",
            "files/transfers-limit", "files/trash-empty", "node/config", "node/config-get", "node/config-set",
            "node/doctor", "node/gc", "node/notices-clear", "node/services", "node/services-on", "node/services-off",
            "overlay/overlay",
        ),
        "settings",
    ),
    **dict.fromkeys(
        (
            "circles/devices", "circles/devices-add", "circles/devices-join", "circles/devices-remove",
            "circles/devices-rename", "circles/recovery", "circles/recovery-new", "circles/recovery-replace",
            "node/browsers", "node/browsers-remove", "phone/phone-add", "phone/phone-may", "phone/phone-remove",
            "phone/phone-camera", "phone/phone-on", "phone/phone-off", "phone/phones",
        ),
        "devices",
    ),
    "circles/recovery-restore": NOBODY,  # a new computer becomes an old one: nothing for a phone of another
}  # fmt: skip
"""The right that opens each command, by app and words as they stand in addresses."""

PATHS = (Path, Target, Here, PathOrPerson, Ticket)  # parameters that name files of this computer
OR_NAMES = (
    PathOrPerson,
    Ticket,
)  # of them, those that may be something else: a torrent file is a ticket, too


ANY = "any"  # what every phone may
SHOWN = "get"  # what shows files
SHOWN_AT_PLACES = (SHOWN, "play")  # who may only play sees films and music there, and nothing else
_ROUTES: Sequence[tuple[str, tuple[str, ...]]] = (
    (r"/", ("look",)),
    (r"/static/.*", (ANY,)),  # files of the program
    (r"/sw\.js", (ANY,)),
    (r"/theme", (ANY,)),
    (r"/do", (ANY,)),  # lists what it may
    (r"/calls/[0-9]+(/cancel)?", (ANY,)),  # those that it began itself
    (r"/live", (ANY,)),  # each list asks for its own right
    (r"/search", ("look",)),
    (r"/shown", SHOWN_AT_PLACES),
    (r"/thumbs", (SHOWN,)),
    (r"/up/files(/[A-Za-z0-9_-]+)?", ("upload", "send")),
    (r"/up/finish", ("upload", "send")),  # which of the two, asks what is to be done
    (r"/folders", (NOBODY,)),  # every folder of this computer
)
_COMMAND = re.compile(r"/(?:do|values)/([^/]+)/([^/]+)(?:/[^/]+)?\Z")
_VIEW = re.compile(r"/([^/]+)(?:/.*)?\Z")


def may_ask(
    rights: Collection[str],
    path: str,
    command_at: Callable[[str, str], str | None],
    view_right: Callable[[str], str | None],
) -> bool:
    """Whether who has `rights` may ask for `path` of the page at all, by whatever method.

    Args:
        command_at: the right that opens the command at APP, WORDS of an address; None: there is none.
        view_right: the right that opens a view by its name; None: there is none.
    """
    if EVERYTHING in rights:
        return True
    for pattern, needed in _ROUTES:
        if re.fullmatch(pattern, path):
            return ANY in needed or not set(needed).isdisjoint(rights)
    if found := _COMMAND.match(path):
        return command_at(found[1], found[2]) in rights
    if found := _VIEW.match(path):
        return view_right(found[1]) in rights
    return False


def right_of(command: Command, declared: Mapping[str, Sequence[str]] | None = None) -> str:
    """What a phone needs for a command; `declared`: what a third party's app says of its own commands."""
    words = " ".join(command.path)
    found = COMMANDS.get(f"{command.app}/{'-'.join(command.path)}")
    return found or next((right for right, its in (declared or {}).items() if words in its), NOBODY)


def may_call(
    rights: Collection[str], command: Command, declared: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Whether who has `rights` may use this command at all."""
    return EVERYTHING in rights or right_of(command, declared) in rights


def check_call(
    rights: Collection[str],
    command: Command,
    given: Mapping[str, Any],
    roots: Sequence[Path],
    declared: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The parameters of a call, as who has `rights` may give them: with `here` in the first of `roots` unless said.

    Args:
        given: plain values, not checked yet.
        roots: the real paths of folders whose files the phone may name.

    Raises:
        AccessDenied: it may not use the command, or names a file outside of `roots`.
    """
    checked = dict(given)
    if EVERYTHING in rights:
        return checked
    if not may_call(rights, command, declared):
        raise AccessDenied(
            tr(
                "this phone may not use '{words}'; on the computer: coterie phone may",
                words=" ".join(command.path),
            )
        )
    here = next((p.name for p in command.parameters if p.type is Here), None)
    if here is not None:
        checked.setdefault(here, str(roots[0]))
    base = str(checked.get(here, roots[0])) if here is not None else str(roots[0])
    for parameter in command.parameters:
        value = checked.get(parameter.name)
        if parameter.type not in PATHS or value is None:
            continue
        for text in value if isinstance(value, list) else [value]:
            _check_path(str(text), base, roots, must_exist=parameter.type in OR_NAMES)
        if parameter.type is Path:
            checked[parameter.name] = os.path.join(roots[0], os.path.expanduser(str(value)))
    return checked


def is_inside(path: str, roots: Sequence[Path]) -> bool:
    """Whether `path`, all links followed, is one of `roots` or lies in one."""
    real = os.path.realpath(path)
    return any(real == str(root) or real.startswith(f"{root}{os.sep}") for root in roots)


def _check_path(text: str, base: str, roots: Sequence[Path], *, must_exist: bool) -> None:
    """`must_exist`: it may be a name as well, and is one where no file is called so."""
    path = os.path.join(base, os.path.expanduser(text))
    if must_exist and not os.path.lexists(path):
        return
    if not is_inside(path, roots):
        raise AccessDenied(
            tr(
                "this phone may name files in {roots} only, not {text}",
                roots=", ".join(map(str, roots)),
                text=text,
            )
        )
