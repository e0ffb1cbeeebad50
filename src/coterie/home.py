"""The folder a node lives in: where its files are, its settings, and the lock that keeps it the only one.

key            secret key, 0600         run/lock      held while a node runs, says its pid
config.toml    settings                 run/api.json  address and token of the local API, 0600
store.db       content index            run/node.log  what a node in the background prints
addresses      the address book, 0600
mainline       nodes of the mainline DHT, 0600
audit.db       who did what here and was refused what, 0600
notices.jsonl  what apps told the owner, 0600
jobs/          work of apps that lasts, one file per job
apps/<name>/   one folder per app
blobs/         content that apps keep, one file each
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from coterie.access.names import NAME_CHARS_MAX, checked, fit
from coterie.decoding import FAULTS, decoder
from coterie.errors import StorageError, UsageError
from coterie.private_file import write_private
from coterie.settings_file import CONFIG_BYTES_MAX, line_of, text_of, values_of, with_value

APP_SETTINGS = "app"  # the one setting that is a section for each app
HOME_VARIABLE = "COTERIE_HOME"
VALUE_CHARS_SHOWN = 100  # of a value that is refused
REASON_CHARS_MAX = 300  # of why it is
_IS_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # Windows says the last two
_LOCK_OFFSET = 1024  # Windows locks are mandatory: lock a byte behind the pid, which others want to read


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
                    f"{origin}, line {line_of(key, text)}: unknown key {key!r}; known: {', '.join(known)}"
                )
        for key, value in raw.items():
            try:
                msgspec.convert({key: value}, cls)
            except msgspec.ValidationError as error:
                reason = _in_words(str(error), key)
                raise UsageError(f"{origin}, line {line_of(key, text)}: {key}: {reason}") from None
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
            raise UsageError("the settings of an app are set in config.toml, in its section [app.NAME]")
        if key not in self.__struct_fields__:
            raise UsageError(f"unknown setting {key!r}; known: {', '.join(self.__struct_fields__)}")
        if key == "name":
            text = checked(text)
        plain = msgspec.to_builtins(self) | {key: text}
        try:
            text.encode()  # half a surrogate pair, from an argument that is no UTF-8, cannot be written
            return msgspec.convert(plain, Config, strict=False)
        except FAULTS as error:
            said = "it is no text" if isinstance(error, UnicodeError) else _in_words(str(error), key)
            raise UsageError(f"{key} cannot be {text[:VALUE_CHARS_SHOWN]!r}: {said}") from None


class Home(msgspec.Struct, frozen=True):
    """Paths of one node's folder; nothing is touched until `prepare` or `lock`."""

    root: Path

    @classmethod
    def locate(cls, path: Path | str | None = None) -> "Home":
        """The home at `path`, else in $COTERIE_HOME, else in the user's data folder.

        Raises:
            UsageError: nothing says where this user's data is, or the path is relative to a folder that was deleted.
        """
        chosen = path or os.environ.get(HOME_VARIABLE)
        try:
            if not chosen:
                from platformdirs import user_data_dir

                chosen = user_data_dir("coterie", appauthor=False)
            return cls(Path(os.path.abspath(Path(chosen).expanduser())))
        except RuntimeError:  # from `expanduser`, or platformdirs for the same reason
            raise UsageError(
                f"this user has no home folder (HOME is not set, and the system does not know the user): set HOME, or "
                f"say where coterie keeps its data with --home or ${HOME_VARIABLE}"
            ) from None
        except FileNotFoundError:  # from `abspath`
            raise UsageError(
                f"'{chosen}' is relative to a folder that was deleted meanwhile: change to another folder (`cd`)"
            ) from None

    @property
    def key(self) -> Path:
        """The secret key."""
        return self.root / "key"

    @property
    def config_file(self) -> Path:
        """The settings."""
        return self.root / "config.toml"

    @property
    def blobs(self) -> Path:
        """Content that apps keep."""
        return self.root / "blobs"

    @property
    def database(self) -> Path:
        """The content index."""
        return self.root / "store.db"

    @property
    def versions(self) -> Path:
        """Folder of what was replaced, and can be restored."""
        return self.root / "versions"

    @property
    def address_book(self) -> Path:
        """Where peers were reached and may be reached."""
        return self.root / "addresses"

    @property
    def incarnations(self) -> Path:
        """The numbers of this node's starts."""
        return self.root / "incarnations"

    @property
    def mainline(self) -> Path:
        """The mainline DHT's nodes that were known last."""
        return self.root / "mainline"

    @property
    def ports_file(self) -> Path:
        """The numbers and switches of ports for other programs on this machine."""
        return self.root / "ports.json"

    @property
    def audit_log(self) -> Path:
        """What peers used and were refused."""
        return self.root / "audit.db"

    @property
    def jobs(self) -> Path:
        """Work of apps that lasts."""
        return self.root / "jobs"

    @property
    def notices(self) -> Path:
        """What apps told the owner."""
        return self.root / "notices.jsonl"

    @property
    def run(self) -> Path:
        """What belongs to the running process."""
        return self.root / "run"

    @property
    def api_file(self) -> Path:
        """Address, token and pid of the running node's local API."""
        return self.run / "api.json"

    @property
    def lock_file(self) -> Path:
        """Locked while a node runs."""
        return self.run / "lock"

    @property
    def log_file(self) -> Path:
        """Where a node in the background prints to."""
        return self.run / "node.log"

    def app(self, name: str) -> Path:
        """The folder of one app, made when missing."""
        folder = self.root / "apps" / name
        _make_folder(folder)
        return folder

    def config(self) -> Config:
        """The settings in force."""
        return Config.load(self.config_file)

    def prepare(self) -> None:
        """Make the folders, for the owner only.

        Raises:
            StorageError: the home cannot be made or written.
        """
        for folder in (self.root, self.root / "apps", self.run):
            _make_folder(folder)
        if not os.access(self.run, os.W_OK | os.X_OK):
            raise StorageError(_not_writable(self.root, "permission denied"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only node in this home while the block runs; the system releases it if we are killed.

        Raises:
            StorageError: another node runs here, the home cannot be written, or its file system has no locks.
        """
        self.prepare()
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(_not_writable(self.root, str(error.strerror))) from error
        try:
            if not _try_lock(descriptor, self.root):
                raise StorageError(
                    f"another coterie (pid {self.lock_holder() or 'unknown'}) already runs in {self.root}; "
                    "use `coterie down` or another --home"
                )
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def lock_holder(self) -> int | None:
        """The pid written by whoever holds the lock, or held it when it was killed."""
        try:
            return int(self.lock_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


def _in_words(error: str, key: str) -> str:
    """What msgspec says about the value of one setting, for people."""
    if error.startswith("Invalid enum value"):
        return f"it is one of {', '.join(get_args(get_type_hints(Config)[key]))}"
    reason = error.partition(" - at ")[0][:REASON_CHARS_MAX]
    wanted = {"`int`": "it is a whole number", "`str`": "it is a text, in quotes in the file"}
    return next((said for kind, said in wanted.items() if reason.startswith(f"Expected {kind}, got")), reason)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(_not_writable(folder, str(error.strerror))) from error


def _not_writable(folder: Path, reason: str) -> str:
    return f"the home {folder} cannot be written: {reason}; choose another with --home or ${HOME_VARIABLE}"


def _try_lock(descriptor: int, root: Path) -> bool:
    """Whether the lock was free. Raises `StorageError` where the file system has no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IS_LOCKED:
            return False
        raise StorageError(
            f"the home {root} is on a file system without locks ({error.strerror}), so two nodes could damage it: "
            f"choose another with --home or ${HOME_VARIABLE}, on a disk of this computer"
        ) from error
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
