"""Settings as people read them: what each is for, what it may be, what it is."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from coterie.home import Home
from coterie.settings import APP_SETTINGS, Config
from coterie.texts import tr


def settings_shown(node: Any) -> list[dict[str, Any]]:
    """Every setting of `config.toml` but those of apps.

    Each with `key`, `name`, `said` (what it is for), `value`, `options` (what it may be; empty: any text), and
    `until_restart`: what the running node uses instead, None when that is the same.
    """
    written, used = Home.locate(node.home).config(), node.config
    kinds = get_type_hints(Config)
    shown, names = [], _names()
    for key, said in _said().items():
        value, now = getattr(written, key), getattr(used, key)
        shown.append(
            {
                "key": key,
                "name": names[key],
                "said": said,
                "value": _text(value),
                "options": _options(kinds[key]),
                "until_restart": None if value == now else _text(now),
            }
        )
    return shown


def _options(kind: Any) -> list[str]:
    if kind is bool:
        return ["true", "false"]
    return [str(option) for option in get_args(kind)] if get_origin(kind) is Literal else []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _said() -> dict[str, str]:
    """What each setting is for, in the reader's language; a test holds this to all settings there are."""
    return {
        "name": tr("What people call this computer."),
        "reach": tr(
            "How far it looks for others and lets itself be found: only this network (local), through people you "
            "know (circle), or by the public directory of the internet too (internet)."
        ),
        "discovery": tr("Whether it shows itself to other computers of this network."),
        "port_mapping": tr("Whether the router is asked to let others in."),
        "relay": tr(
            "Whom this computer helps to reach others: contacts while it has an address of the internet "
            "(contacts), contacts always (always), nobody (off). Strangers never."
        ),
        "lanes": tr("Whether large transfers may use several connections at once."),
        "desktop_notices": tr("Whether notices are shown on the desktop."),
        "port": tr("The UDP port for other computers; 0 keeps the last one."),
        "api_port": tr("The port of this page and of programs on this computer; 0 takes any free one."),
        "relay_port": tr("The TCP port of its relay; 0 takes the number of the UDP port."),
        "bind": tr("The address that it listens at."),
        "dht_bootstrap": tr("First computers of the public directory, host:port; empty: the usual ones."),
        "dht_private": tr("Whether that directory is your own, on private addresses."),
    }


def _names() -> dict[str, str]:
    """Each setting in a word or two."""
    return {
        "name": tr("Name"),
        "reach": tr("Reach"),
        "discovery": tr("Be seen on this network"),
        "port_mapping": tr("Ask the router"),
        "relay": tr("Help others to reach each other"),
        "lanes": tr("Several connections at once"),
        "desktop_notices": tr("Notices on the desktop"),
        "port": tr("Port for other computers"),
        "api_port": tr("Port of this page"),
        "relay_port": tr("Port of the relay"),
        "bind": tr("Address to listen at"),
        "dht_bootstrap": tr("Entry to the public directory"),
        "dht_private": tr("A directory of your own"),
    }


def explained() -> set[str]:
    """The settings that have an explanation."""
    return {*_said()} & {*_names()} | {APP_SETTINGS}
