"""From the folder of uploads to where a batch belongs: a folder of this computer. Nothing there is ever overwritten.

The order is written down first, then every file goes into a folder of ours beside the target, then everything gets its
name in one step each. A crash anywhere leaves an order that `resume` carries out to its end.
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from coterie.content.disk_rules import rules_of
from coterie.content.file_steps import flush_folder, move_beside, move_new
from coterie.content.names import ANY_NAME, PARTIAL_PREFIX, WINDOWS, NameRules, local_names
from coterie.content.writer import check_space
from coterie.decoding import decoder
from coterie.errors import CoterieError, NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.texts import tr, tr_count
from coterie.web.uploads.folder import Upload, UploadFolder, failed
from coterie.web.uploads.rules import Refused

COPY_BYTES = 1 << 20  # at once, where the target is on another disk

log = logging.getLogger(__name__)


class Order(msgspec.Struct):
    """What goes where: `places` has for each upload its path within the folder `target`.

    `then`: what is to be done with it there, in the words of who ordered it. `landed`: the paths where all of it is.
    """

    owner: str
    batch: str
    target: str
    then: str
    uploads: list[Upload]
    places: list[tuple[str, ...]]
    landed: list[str] = []


class Landings:
    """Brings batches of uploads to their place. Its methods block: they belong into a thread, one at a time."""

    def __init__(self, folder: UploadFolder) -> None:
        """Raises `StorageError`."""
        self._uploads = folder
        self._orders = folder.folder / "orders"
        try:
            self._orders.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise failed(error, folder.folder) from error

    def land(self, owner: str, batch: str, target: Path, then: str = "") -> Order:
        """Bring a whole batch into the folder `target`, made when missing. The order stays until it is `done`.

        Raises:
            NotFound: there is no such batch.
            Refused: 409 while something of it is still to come.
            StorageError: the folder cannot be written; the batch stays, to be brought elsewhere.
        """
        path = self._path(owner, batch)
        if path.exists():
            order = read_order(path.read_bytes())
            if order.landed or Path(order.target).is_dir():
                return self._carry_out(order, path)
            path.unlink()  # where it was to go is gone, and what had got there with it
        uploads = self._whole(owner, batch)
        try:
            target.mkdir(parents=True, exist_ok=True)
            places = plan([one.path for one in uploads], _rules(uploads, target))
            self._check_room(uploads, target)
        except OSError as error:
            raise failed(error, target) from error
        order = Order(owner, batch, str(target), then, uploads, places)
        write_private(path, msgspec.json.encode(order))
        return self._carry_out(order, path)

    def resume(self) -> list[Order]:
        """Go on with what an earlier run of the program began: the orders that have landed and are not `done`.

        What cannot go on is logged, and stays.
        """
        landed = []
        for path in sorted(self._orders.glob("*.json")):
            try:
                landed.append(self._carry_out(read_order(path.read_bytes()), path))
            except (CoterieError, OSError) as error:
                log.warning("uploads wait in %s: %s", self._uploads.folder, error)
        return landed

    def done(self, order: Order) -> None:
        """Forget an order: all of it is where it belongs."""
        self._path(order.owner, order.batch).unlink(missing_ok=True)

    def _whole(self, owner: str, batch: str) -> list[Upload]:
        uploads = self._uploads.of_batch(owner, batch)
        if not uploads:
            raise NotFound(tr("nothing was uploaded here under this batch, or it has expired"))
        missing = sum(not self._uploads.is_whole(one) for one in uploads)
        if missing:
            said = tr_count(
                "{number} file is still to come: go on with it, or cancel it",
                "{number} files are still to come: go on with them, or cancel them",
                missing,
            )
            raise Refused(409, said)
        return uploads

    def _check_room(self, uploads: Sequence[Upload], target: Path) -> None:
        if os.stat(target).st_dev != os.stat(self._uploads.folder).st_dev:
            check_space(target, sum(one.size for one in uploads), len(uploads))

    def _carry_out(self, order: Order, path: Path) -> Order:
        if order.landed:
            return order
        target = Path(order.target)
        staging = target / f"{PARTIAL_PREFIX}{path.stem}"
        try:
            staging.mkdir(mode=0o700, exist_ok=True)
            mode = _mode_of_new(staging)
            for upload, place in zip(order.uploads, order.places, strict=True):
                part = self._uploads.part(upload)
                if part.exists():  # else an earlier run had it
                    _bring(part, staging.joinpath(*place), mode)
            for folder, _, _ in os.walk(staging):
                flush_folder(Path(folder))
            for name in dict.fromkeys(place[0] for place in order.places):
                if os.path.lexists(staging / name):
                    order.landed.append(str(move_beside(staging / name, target / name)))
            flush_folder(target)
            with contextlib.suppress(OSError):
                staging.rmdir()
        except OSError as error:
            raise failed(error, target) from error
        write_private(path, msgspec.json.encode(order))
        for upload in order.uploads:
            self._uploads.remove(upload)
        return order

    def _path(self, owner: str, batch: str) -> Path:
        name = hashlib.blake2b(f"{owner}/{batch}".encode(), digest_size=16).hexdigest()
        return self._orders / f"{name}.json"


def plan(paths: Sequence[tuple[str, ...]], rules: NameRules = ANY_NAME) -> list[tuple[str, ...]]:
    """Where each file of a batch goes, in the same order: names that the disk can hold, no two files in one place.

    Files of one path, and files and folders of one name, are numbered: "a (2).txt".
    """
    names: dict[
        tuple[str, ...], list[tuple[str, bool]]
    ] = {}  # of each folder: its entries, and whether a folder
    slots: list[list[int]] = []
    for path in paths:
        slot = []
        for depth, name in enumerate(path):
            entries = names.setdefault(path[:depth], [])
            entry = (name, depth < len(path) - 1)
            if not entry[1] or entry not in entries:
                entries.append(entry)
            slot.append(len(entries) - 1 if not entry[1] else entries.index(entry))
        slots.append(slot)
    here = {folder: local_names([name for name, _ in entries], rules) for folder, entries in names.items()}
    return [
        tuple(here[path[:depth]][at] for depth, at in enumerate(slot))
        for path, slot in zip(paths, slots, strict=True)
    ]


def _rules(uploads: Sequence[Upload], target: Path) -> NameRules:
    """Those of the disk, which are found out by trying where a name is not one that all disks take alike."""
    every = sorted({name for one in uploads for name in one.path})
    folds = len({name.casefold() for name in every}) < len(every)
    is_plain = not folds and all(name.isascii() for name in every) and local_names(every, WINDOWS) == every
    return ANY_NAME if is_plain else rules_of(target)


def _bring(part: Path, place: Path, mode: int) -> None:
    """Move the bytes to their place, over what an earlier run left there of them. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    try:
        os.chmod(part, mode)
        moved = move_new(part, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with part.open("rb") as source, place.open("xb") as copy:
            shutil.copyfileobj(source, copy, COPY_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        part.unlink()
        return
    if not moved:
        raise StorageError(tr("{place} cannot be made: something is there already", place=place))


def _mode_of_new(folder: Path) -> int:
    """The permissions that a new file has there: a part was for nobody else while it came."""
    path = folder / f"{PARTIAL_PREFIX}mode"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return os.fstat(fd).st_mode & 0o777
    finally:
        os.close(fd)
        path.unlink()


@decoder(UsageError, "an order of uploads")
def read_order(raw: bytes) -> Order:
    """Raises `UsageError`."""
    return msgspec.json.decode(raw, type=Order)
