"""The folder a node lives in: where its files are, and the lock that keeps it the only one.

key            secret key, 0600         run/lock      held while a node runs, says its pid
config.toml    settings                 run/api.json  address and token of the local API, 0600
store.db       content index            run/node.log  what a node in the background prints
addresses      the address book, 0600
mainline       nodes of the mainline DHT, 0600
audit.db       who did what here and was refused what, 0600
notices.jsonl  what apps told the owner, 0600
run/templates  the page's templates, compiled
jobs/          work of apps that lasts, one file per job
apps/<name>/   one folder per app
blobs/         content that apps keep, one file each
thumbnails/    small pictures of files, for the page; may be removed at any time
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from coterie.errors import StorageError, UsageError
from coterie.settings import Config
from coterie.texts import tr

HOME_VARIABLE = "COTERIE_HOME"
_IS_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # Windows says the last two
_LOCK_OFFSET = 1024  # Windows locks are mandatory: lock a byte behind the pid, which others want to read


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
                tr(
                    "this user has no home folder (HOME is not set, and the system does not know the user): "
                    "set HOME, or say where coterie keeps its data with --home or ${home_variable}",
                    home_variable=HOME_VARIABLE,
                )
            ) from None
        except FileNotFoundError:  # from `abspath`
            raise UsageError(
                tr(
                    "'{chosen}' is relative to a folder that was deleted meanwhile: change to another folder "
                    "(`cd`)",
                    chosen=chosen,
                )
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
    def reach_note(self) -> Path:
        """Who reached this computer when its owner was told of that last."""
        return self.root / "reach-note"

    @property
    def mainline(self) -> Path:
        """The mainline DHT's nodes that were known last."""
        return self.root / "mainline"

    @property
    def ports_file(self) -> Path:
        """The numbers and switches of ports for other programs on this machine."""
        return self.root / "ports.json"

    @property
    def browsers_file(self) -> Path:
        """Which browsers may use the page."""
        return self.root / "browsers.json"

    @property
    def uploads(self) -> Path:
        """What browsers and phones have not finished sending."""
        return self.root / "uploads"

    @property
    def compiled_templates(self) -> Path:
        """The templates of the page as Python has compiled them."""
        return self.run / "templates"

    @property
    def thumbnails(self) -> Path:
        """Small pictures of files, for the page."""
        return self.root / "thumbnails"

    @property
    def api_port_file(self) -> Path:
        """The TCP port that the local API had last."""
        return self.root / "api_port"

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
                    tr(
                        "another coterie (pid {lock_holder}) already runs in {root}; use `coterie down` or "
                        "another --home",
                        lock_holder=self.lock_holder() or "unknown",
                        root=self.root,
                    )
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
            tr(
                "the home {root} is on a file system without locks ({strerror}), so two nodes could "
                "damage it: choose another with --home or ${home_variable}, on a disk of this computer",
                root=root,
                strerror=error.strerror,
                home_variable=HOME_VARIABLE,
            )
        ) from error
    return True
