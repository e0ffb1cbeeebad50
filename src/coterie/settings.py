"""What a person may set in `config.toml`: read, changed, written. How the file is written stands in `settings_file`."""

from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from coterie.access.names import NAME_CHARS_MAX, checked, fit
from coterie.decoding import FAULTS, decoder
from coterie.errors import StorageError, UsageError
from coterie.private_file import write_private
from coterie.settings_file import CONFIG_BYTES_MAX, line_of, text_of, values_of, with_value
from coterie.texts import tr

APP_SETTINGS = "app"  # the one setting that is a section for each app
VALUE_CHARS_SHOWN = 100  # of a value that is refused
REASON_CHARS_MAX = 300  # of why it is


def platform_name() -> str:
    """What this computer is called, to begin with."""
    import socket

    try:
        name = socket.gethostname()
    except (OSError, UnicodeError):  # the system says none, or none that is text
        return "unnamed"
    return fit("".join(c for c in name if not "\ud800" <= c <= "\udfff")) or "unnamed"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person may set in `config.toml`.

    Fields:
        port: UDP port for peers; 0 keeps the one used last.
        api_port: TCP port of the local API on 127.0.0.1; 0 takes any free one.
        bind: address to listen on for peers.
        name: what people call this computer.
        reach: how far this node looks for peers and lets itself be found: "local", "circle" or "internet".
        discovery: whether it announces itself on the local network and listens there.
        lanes: whether large transfers may use TCP connections beside QUIC, where the other side is reached directly.
        port_mapping: whether the home router is asked to let others in (PCP, NAT-PMP, UPnP); not at the level "local".
        relay: whom this node relays for: "contacts" while it has an address of the internet, "always" contacts
            (where its port is forwarded), "off" for nobody. Strangers never.
        relay_port: TCP port of its relay; 0 takes the number of the UDP port when that is free.
        dht_bootstrap: at the level "internet", first nodes of the mainline DHT, "host:port, host:port"; empty
            means the public ones, which are asked the first time only.
        dht_private: whether that is a DHT of your own on private addresses: it gets those too, and the name.
        app: the settings of each app, `[app.NAME]`, which it reads itself.
        desktop_notices: whether the desktop shows notices, where there is one and `desktop-notifier` is installed.
    """

    port: int = 0
    api_port: int = 0
    bind: str = "0.0.0.0"  # noqa: S104 - peers on every network are to reach us
    name: str = msgspec.field(default_factory=platform_name)
    reach: Literal["local", "circle", "internet"] = "circle"
    discovery: bool = True
    lanes: bool = True
    port_mapping: bool = True
    relay: Literal["contacts", "always", "off"] = "contacts"
    relay_port: int = 0
    dht_bootstrap: str = ""
    dht_private: bool = False
    desktop_notices: bool = True
    app: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        import socket

        for key in ("port", "api_port", "relay_port"):
            if not 0 <= getattr(self, key) <= 65535:
                raise ValueError(f"{key} must be 0 to 65535")
        try:
            socket.getaddrinfo(self.bind, None, flags=socket.AI_NUMERICHOST)
        except OSError:
            raise ValueError("bind must be an IP address") from None
        self.dht_nodes()
        if not self.name.strip() or len(self.name) > NAME_CHARS_MAX:
            raise ValueError(f"name must have 1 to {NAME_CHARS_MAX} characters")

    def dht_nodes(self) -> list[tuple[str, int]]:
        """`dht_bootstrap`, taken apart."""
        nodes = []
        for text in filter(None, (part.strip() for part in self.dht_bootstrap.split(","))):
            host, _, digits = text.rpartition(":")
            if not host or not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
                raise ValueError(f"dht_bootstrap must be like 'host:port, host:port', not {text!r}")
            nodes.append((host.strip("[]"), int(digits)))
        return nodes

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read `path`; defaults when there is no such file.

        Raises:
            UsageError: not TOML, an unknown key or a bad value; names the line.
            StorageError: the file cannot be read.
        """
        return cls.parse(text_of(_read(path), str(path)), str(path))

    @classmethod
    @decoder(UsageError, "the settings")
    def parse(cls, text: str, origin: str = "config.toml") -> "Config":
        """Settings from TOML `text`; errors name `origin` and the line."""
        raw = values_of(text, origin)
        known = cls.__struct_fields__
        for key in raw:
            if key not in known:
                raise UsageError(
                    tr(
                        "{origin}, line {line_of}: unknown key {key!r}; known: {known}",
                        origin=origin,
                        line_of=line_of(key, text),
                        key=key,
                        known=", ".join(known),
                    )
                )
        for key, value in raw.items():
            try:
                msgspec.convert({key: value}, cls)
            except msgspec.ValidationError as error:
                reason = _in_words(str(error), key)
                raise UsageError(
                    tr(
                        "{origin}, line {line_of}: {key}: {reason}",
                        origin=origin,
                        line_of=line_of(key, text),
                        key=key,
                        reason=reason,
                    )
                ) from None
        return msgspec.convert(raw, cls)

    def save(self, path: Path) -> None:
        """Write to `path` what differs from what it says, keeping everything else in it.

        Raises:
            UsageError: the file cannot be read, or what was written could not be read again. Nothing is written.
            StorageError: the file cannot be written.
        """
        content = _read(path)
        text = text_of(content, str(path))
        there = Config.parse(text, str(path))
        for key in self.__struct_fields__:
            if getattr(self, key) != getattr(there, key):
                text = with_value(text, key, getattr(self, key), str(path))
        if b"\r\n" in content:
            text = text.replace("\n", "\r\n")
        write_private(path, text.encode())

    @decoder(UsageError, "this setting")
    def changed(self, key: str, text: str) -> "Config":
        """A copy with `key` set from what a person typed.

        Raises:
            UsageError: no such key, or not a value for it.
        """
        if key.partition(".")[0] == APP_SETTINGS:
            raise UsageError(tr("the settings of an app are set in config.toml, in its section [app.NAME]"))
        if key not in self.__struct_fields__:
            raise UsageError(
                tr(
                    "unknown setting {key!r}; known: {struct_fields}",
                    key=key,
                    struct_fields=", ".join(self.__struct_fields__),
                )
            )
        if key == "name":
            text = checked(text)
        plain = msgspec.to_builtins(self) | {key: text}
        try:
            text.encode()  # half a surrogate pair, from an argument that is no UTF-8, cannot be written
            return msgspec.convert(plain, Config, strict=False)
        except FAULTS as error:
            said = "it is no text" if isinstance(error, UnicodeError) else _in_words(str(error), key)
            raise UsageError(
                tr("{key} cannot be {text!r}: {said}", key=key, text=text[:VALUE_CHARS_SHOWN], said=said)
            ) from None


def _in_words(error: str, key: str) -> str:
    """What msgspec says about the value of one setting, for people."""
    if error.startswith("Invalid enum value"):
        return f"it is one of {', '.join(get_args(get_type_hints(Config)[key]))}"
    reason = error.partition(" - at ")[0][:REASON_CHARS_MAX]
    wanted = {"`int`": "it is a whole number", "`str`": "it is a text, in quotes in the file"}
    return next((said for kind, said in wanted.items() if reason.startswith(f"Expected {kind}, got")), reason)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(
            tr("{path} cannot be read: {strerror}", path=path, strerror=error.strerror)
        ) from error
