"""One session of `libtorrent` that moves the bytes of torrents. Only this module and `bittorrent/read` know it.

Torrents are known by a `key` of the caller's. Commands return at once; what comes of them is told as events, in the
session's own thread, the one place where alerts are taken: taking them empties the queue. Files are where the caller
says: this module names none.
"""

import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from coterie.content.bittorrent.read import Source, linked, load, reason, torrent_parameters
from coterie.content.bittorrent.settings import (
    CONNECTIONS_MAX,
    UPLOAD_SLOTS,
    SessionOptions,
    alerts_of,
    local_only,
    settings,
)
from coterie.errors import TransportError, UsageError
from coterie.look_up import joined, look_up
from coterie.texts import tr

DHT_NODES = (("dht.libtorrent.org", 25401),)  # libtorrent's default
REQUESTS = 500  # of 16 KiB under way with one peer: libtorrent's default
HASTE_REQUESTS = 64  # 1 MiB: what is wanted now waits for no more; 10 MB/s from one peer that is 100 ms away
USUAL, FIRST, FAR, NEAR = (
    4,
    5,
    6,
    7,
)  # libtorrent's priorities of files and pieces: the default, up to the highest
PEERS_SHOWN_MAX = CONNECTIONS_MAX
UTP_SOCKET = 1 << 17  # of a peer's flags; libtorrent's peer_info.hpp: its Python module does not name it
WEIGHT_MAX = 4.0  # of a torrent that comes before others
RENAMES_MAX = 1_000  # guess: each is an alert of `settings.ALERTS_MAX`, beside those of all other torrents
RESUME_BYTES_MAX = 64 << 20  # guess: twice the largest torrent file that is taken
WAKE_EVERY_MS = 1_000  # how long the thread sleeps when nothing happens
CLOSE_S = 0.8  # guess: a node has 1.7 s to end; measured 0.1 s without trackers

_log = logging.getLogger(__name__)


class Described(msgspec.Struct, frozen=True):
    """The description of a torrent is known: the same as a torrent file without its trackers."""

    key: str
    metainfo: bytes
    peers: tuple[str, ...]


class Moved(msgspec.Struct, frozen=True):
    """How a torrent stands. Rates in bytes a second; `done` and `size` of the files that are wanted.

    `sent` and `got` are bytes of content so far, `got` of this session.
    """

    key: str
    phase: str
    done: int
    size: int
    down: int
    up: int
    peers: int
    sent: int
    got: int = 0


class PeerSeen(msgspec.Struct, frozen=True):
    """A computer that a torrent is connected with. Bytes, bytes a second; `parts` are pieces that it has."""

    address: str
    way: str
    has_all: bool
    parts: int
    received: int
    sent: int
    rate: int
    rtt_ms: float


class Complete(msgspec.Struct, frozen=True):
    """Every wanted file is here and verified; `Flushed` has to follow before others may read it."""

    key: str


class Flushed(msgspec.Struct, frozen=True):
    """What was received is in its files. An answer to `flush`."""

    key: str


class Kept(msgspec.Struct, frozen=True):
    """An answer to `keep`: how far the torrent is, for `fetch`; empty when there is nothing to keep."""

    key: str
    resume: bytes


class Removed(msgspec.Struct, frozen=True):
    """The session has let go of the torrent's files."""

    key: str


class Failed(msgspec.Struct, frozen=True):
    """The torrent cannot go on, in words."""

    key: str
    what: str


class Listening(msgspec.Struct, frozen=True):
    """The port where peers reach us by TCP and UDP."""

    port: int


class PieceRead(msgspec.Struct, frozen=True):
    """The bytes of one piece, verified. An answer to `read`; empty: it is not here now."""

    key: str
    piece: int
    data: bytes


TorrentEvent = Described | Moved | Complete | Flushed | Kept | Removed | Failed | PieceRead
Event = TorrentEvent | Listening


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to do with a torrent.

    Fields:
        folder: what `places` are relative to; absolute.
        places: path of every file by its number.
        wanted: numbers of the files to have; None for all.
        peers: "ip:port" to begin with.
        link: the magnet link that it was described by; its peers, trackers and web seeds are asked too.
        first: numbers of the files that come before the others.
        resume: what `keep` gave; empty: what is on disk already is read and checked.
        is_complete: all files are there: each piece is checked when it is first asked for.
    """

    folder: str
    places: Mapping[int, str]
    wanted: Sequence[int] | None = None
    peers: Sequence[str] = ()
    link: str = ""
    first: Sequence[int] = ()
    resume: bytes = b""
    is_complete: bool = False


class BitTorrentSession:
    """A running session. Opening and closing block for some 100 ms: not on the event loop."""

    def __init__(self, options: SessionOptions, tell: Callable[[Event], None]) -> None:
        """`tell` gets every event, in the session's own thread.

        Raises:
            TransportError: libtorrent is not installed here or cannot start.
        """
        self._lt = lt = load()
        self._is_open = options.is_open
        self._tell = tell
        self._handles: dict[str, Any] = {}
        self._keys: dict[Any, str] = {}
        self._named: dict[str, list[str]] = {}  # peers in magnet links
        self._awaited: dict[str, int] = {}  # bytes wanted of what was described; 0: nothing yet
        self._to_read: set[tuple[str, int]] = set()  # pieces to be told when they come
        self._guard = threading.Lock()
        self._is_closing = False
        try:
            self._opened: Any = lt.session(settings(lt, options))
            if not options.is_open:
                self._opened.set_ip_filter(local_only(lt))
            for node in options.dht_nodes if options.is_open and options.dht_private else ():
                self._opened.add_dht_node(node)
            if options.is_open and not options.dht_private:
                look_up(options.dht_nodes or DHT_NODES, self._looked_up)
        except RuntimeError as error:
            raise TransportError(tr("BitTorrent cannot start: {error}", error=error)) from error
        self._thread = threading.Thread(target=self._dispatch, name="bittorrent", daemon=True)
        self._thread.start()

    @property
    def _session(self) -> Any:
        if self._opened is None:
            raise TransportError(tr("BitTorrent is stopping"))
        return self._opened

    @property
    def port(self) -> int:
        """Where peers reach us; 0 while we do not listen."""
        return int(self._session.listen_port())

    def describe(self, key: str, link: str, folder: str) -> None:
        """Find the description of the torrent that the magnet `link` names; `Described` follows some time.

        Nothing of its content is fetched, and no file is made, before `go_on`. `folder` is a private one, where nothing
        of worth lies.

        Raises:
            UsageError: no such link.
        """
        lt = self._lt
        parameters = linked(lt, link)
        self._named[key] = [f"{host}:{port}" for host, port in parameters.peers]
        parameters.save_path = folder
        flags = lt.torrent_flags
        # shared: so nobody is told that we want nothing, and hangs up
        parameters.flags |= flags.default_dont_download | flags.upload_mode | flags.share_mode
        self._awaited[key] = 0
        self._stay_in_touch()
        self._add(key, parameters)

    def go_on(self, key: str, source: Source, task: Task) -> bool:
        """Fetch the content of what was described, as `fetch`, from the peers that described it.

        Not everybody takes back who left a moment ago. False where it cannot be done: then remove it, and `fetch`.
        Nothing may lie at `task.places` yet, but empty files for those of the torrent that are empty.
        """
        handle = self._handles.get(key)
        wanted = frozenset(range(len(source.files)) if task.wanted is None else task.wanted)
        size = sum(f.size for f in source.files if f.index in wanted and not f.is_link and not f.hidden)
        if handle is None or not size or len(task.places) > RENAMES_MAX or task.resume or task.is_complete:
            return False
        self._awaited[key] = size
        lt = self._lt
        # The disk does these in this order, before whatever it is asked to write. Names first, while the folder is one
        # with nothing in it: in the other, what happens to bear a name of the torrent's would be renamed.
        for index, place in task.places.items():
            handle.rename_file(index, place)
        handle.move_storage(task.folder, lt.move_flags_t.reset_save_path_unchecked)
        handle.prioritize_files(_priorities(source, task))
        handle.unset_flags(lt.torrent_flags.share_mode | lt.torrent_flags.upload_mode)
        for peer in filter(None, map(_address, task.peers)):
            handle.connect_peer(peer)
        return True

    def fetch(self, key: str, source: Source, task: Task) -> None:
        """Take part in the torrent until it is removed; fetch what of `task.wanted` is not there, serve what is.

        Raises:
            UsageError: the session has this torrent already.
        """
        lt = self._lt
        parameters = torrent_parameters(lt, source.metainfo)
        if task.resume:
            try:
                parameters = _merged(lt.read_resume_data(task.resume), parameters)
            except RuntimeError as error:
                _log.warning("what was kept of torrent %s is damaged (%s): checking its files", key, error)
        parameters.save_path = task.folder
        parameters.renamed_files = dict(task.places)
        parameters.file_priorities = _priorities(source, task)
        parameters.peers = [*parameters.peers, *filter(None, map(_address, task.peers))]
        if task.link:
            named = linked(lt, task.link)
            parameters.peers += named.peers
            parameters.trackers += named.trackers
            parameters.url_seeds += named.url_seeds
        if task.is_complete:
            # upload_mode: what turns out changed is not fetched again over the user's own file
            parameters.flags |= lt.torrent_flags.seed_mode | lt.torrent_flags.upload_mode
        self._add(key, parameters)

    def remove(self, key: str) -> None:
        """Leave the torrent; `Removed` follows, unless there is none of this key. Files stay."""
        with self._guard:
            handle = self._handles.pop(key, None)
            self._awaited.pop(key, None)
            self._to_read = {(of, piece) for of, piece in self._to_read if of != key}
        if handle is not None:
            self._session.remove_torrent(handle)
            self._stay_in_touch()

    def has(self, key: str) -> bool:
        """Whether there is a torrent of this key, not yet removed."""
        return key in self._handles

    def flush(self, key: str) -> None:
        """Bring what was received into its files; `Flushed` follows."""
        handle = self._handles.get(key)
        if handle is not None:
            handle.flush_cache()

    def keep(self, key: str) -> None:
        """Ask how far the torrent is; `Kept` follows."""
        handle = self._handles.get(key)
        if handle is not None:
            handle.save_resume_data(self._lt.save_resume_flags_t.flush_disk_cache)

    def connect(self, key: str, peer: str) -> None:
        """Try the peer at "ip:port" too."""
        handle, address = self._handles.get(key), _address(peer)
        if handle is not None and address is not None:
            handle.connect_peer(address)

    def look(self) -> None:
        """Ask how torrents stand; a `Moved` follows for each that changed since."""
        self._session.post_torrent_updates()

    def limit(self, key: str, *, down: float, up: float, weight: float) -> None:
        """Limit the torrent, bytes a second, 0: no limit; `weight`: of connections and uploads, WEIGHT_MAX or less."""
        handle = self._handles.get(key)
        if handle is not None:
            handle.set_download_limit(int(down) or -1)
            handle.set_upload_limit(int(up) or -1)
            handle.set_max_connections(int(CONNECTIONS_MAX * weight / WEIGHT_MAX))
            handle.set_max_uploads(int(UPLOAD_SLOTS * weight / WEIGHT_MAX))

    def prefer(self, key: str, file: int, *, is_first: bool) -> None:
        """Fetch a wanted file of the torrent before the others, or as them."""
        handle = self._handles.get(key)
        if handle is not None:
            handle.file_priority(file, FIRST if is_first else USUAL)

    def rank(self, key: str, piece: int, priority: int) -> None:
        """Fetch a piece of a wanted file before those of lower priorities: USUAL up to NEAR."""
        handle = self._handles.get(key)
        if handle is not None:
            handle.piece_priority(piece, priority)

    def read(self, key: str, piece: int) -> None:
        """Tell the bytes of a piece by a `PieceRead`, at once or when it is here; before `hasten` at once only."""
        handle = self._handles.get(key)
        if handle is not None:
            with self._guard:
                self._to_read.add((key, piece))
            handle.read_piece(piece)  # what is not here is told as an error, and read when it comes

    def hasten(self, *, is_on: bool) -> None:
        """Ask all for less ahead, so that what is wanted now comes soon, and notice each piece that came."""
        kinds = self._lt.alert_category
        self._session.apply_settings(
            {
                "max_out_request_queue": HASTE_REQUESTS if is_on else REQUESTS,
                "alert_mask": alerts_of(self._lt) | (kinds.piece_progress if is_on else 0),
            }
        )

    def limit_all(self, up: float) -> None:
        """Limit what all torrents send together, bytes a second; 0: no limit."""
        self._session.apply_settings({"upload_rate_limit": int(up)})

    def seen(self, key: str) -> tuple[list[PeerSeen], int, tuple[int, int]]:
        """The computers that the torrent is connected with, how often its rarest piece is there, and its pieces.

        Pieces: (bits of those that are here, the first lowest; how many there are). Blocks for ms.
        """
        handle = self._handles.get(key)
        flags = self._lt.torrent_handle
        try:
            peers = handle.get_peer_info() if handle is not None else []
            status = handle.status(flags.query_distributed_copies | flags.query_pieces) if handle else None
        except RuntimeError:  # removed meanwhile
            return [], 0, (0, 0)
        seen = [_seen(self._lt, peer) for peer in peers[:PEERS_SHOWN_MAX]]
        if status is None:
            return seen, 0, (0, 0)
        bits = "".join("1" if is_here else "0" for is_here in reversed(status.pieces))
        return seen, int(status.distributed_full_copies), (int(bits or "0", 2), len(bits))

    def close(self) -> None:
        """End the session and its thread. No event follows.

        Trackers are told in the background; who is gone for longer than `CLOSE_S` they find out themselves.
        """
        self._is_closing = True
        self._session.post_session_stats()  # wakes the thread
        self._thread.join(CLOSE_S)
        self._handles.clear()
        self._keys.clear()
        last = [self._opened]
        self._opened = None
        ending = threading.Thread(
            target=last.clear, name="bittorrent end", daemon=True
        )  # this ends it, and waits
        ending.start()
        ending.join(CLOSE_S)

    def _stay_in_touch(self) -> None:
        """A torrent of which nothing is wanted is finished, and libtorrent then hangs up on those who have all of it.

        Not while we are to ask them next: from the description on, until what was described is here.
        """
        with self._guard:
            is_needed = bool(self._awaited)
        self._session.apply_settings({"close_redundant_connections": not is_needed})

    def _add(self, key: str, parameters: Any) -> None:
        flags = self._lt.torrent_flags
        parameters.flags &= ~(flags.auto_managed | flags.paused)
        parameters.flags |= flags.duplicate_is_error
        if not self._is_open:
            parameters.flags |= flags.disable_dht | flags.disable_pex
            parameters.trackers, parameters.url_seeds, parameters.dht_nodes = [], [], []
        with self._guard:
            if key in self._handles:
                raise UsageError(tr("torrent {key} is running already", key=key))
            try:
                handle = self._session.add_torrent(parameters)
            except RuntimeError as error:
                raise UsageError(tr("this torrent cannot be added: {reason}", reason=reason(error))) from None
            self._handles[key] = handle
            self._keys[handle] = key

    def _looked_up(self, found: list[tuple[str, int]], missing: list[str]) -> None:
        session = self._opened
        if found and not self._is_closing and session is not None:
            session.apply_settings({"dht_bootstrap_nodes": joined(found)})
        if missing:
            _log.warning("first nodes of the DHT that were not found: %s", ", ".join(missing))

    def _dispatch(self) -> None:
        session = self._session
        while not self._is_closing:
            session.wait_for_alert(WAKE_EVERY_MS)
            for alert in session.pop_alerts():
                for event in self._events(alert):
                    if not self._is_closing:
                        self._tell(event)

    def _events(self, alert: Any) -> list[Event]:
        lt = self._lt
        match alert:
            case lt.state_update_alert():
                return [moved for status in alert.status if (moved := self._moved(status)) is not None]
            case lt.listen_succeeded_alert():
                return [Listening(int(alert.port))]
            case lt.torrent_removed_alert():
                return [Removed(key) for key in self._forget(alert.handle)]
            case lt.torrent_alert():
                with self._guard:
                    key = self._keys.get(alert.handle)
                event = self._event(key, alert) if key is not None else None
                return [event] if event is not None else []
        return []

    def _forget(self, handle: Any) -> list[str]:
        """The key of a torrent that is gone. Its handle still compares, but its hash is another now."""
        with self._guard:
            gone = [key for known, key in self._keys.items() if known == handle]
            self._keys = {known: key for known, key in self._keys.items() if known != handle}
        return gone

    def _event(self, key: str, alert: Any) -> Event | None:
        lt = self._lt
        match alert:
            case lt.metadata_received_alert():
                return self._described(key, alert.handle)
            case lt.torrent_finished_alert():
                if not self._is_complete(key, alert.handle):
                    return None
                with self._guard:
                    self._awaited.pop(key, None)
                self._stay_in_touch()
                return Complete(key)
            case lt.cache_flushed_alert():
                return Flushed(key)
            case lt.save_resume_data_alert():
                resume = bytes(lt.write_resume_data_buf(alert.params))
                return Kept(key, resume if len(resume) <= RESUME_BYTES_MAX else b"")
            case lt.piece_finished_alert() | lt.read_piece_alert():
                return self._piece(key, alert)
            case lt.save_resume_data_failed_alert():
                return Kept(key, b"")
            case (
                lt.torrent_error_alert()
                | lt.file_error_alert()
                | lt.metadata_failed_alert()
                | lt.file_rename_failed_alert()
                | lt.storage_moved_failed_alert()
            ):
                return Failed(key, alert.message())
        return None

    def _piece(self, key: str, alert: Any) -> Event | None:
        """A piece that came, or was read."""
        if isinstance(alert, self._lt.read_piece_alert):
            data = bytes(alert.buffer) if not alert.error.value() else b""
            with self._guard:
                self._to_read -= {(key, int(alert.piece))} if data else set()
            return PieceRead(key, int(alert.piece), data)
        with self._guard:
            is_wanted = (key, int(alert.piece_index)) in self._to_read
        if is_wanted:
            alert.handle.read_piece(alert.piece_index)
        return None

    def _is_complete(self, key: str, handle: Any) -> bool:
        """Whether what is finished is what was asked for: before that, nothing was, and that is finished at once."""
        if key not in self._awaited:
            return True
        awaited = self._awaited[key]
        try:
            return 0 < awaited <= int(handle.status().total_wanted_done)
        except RuntimeError:  # removed meanwhile
            return False

    def _described(self, key: str, handle: Any) -> Event:
        try:
            section = bytes(handle.torrent_file().info_section())
            seen = [f"{host}:{port}" for host, port in (peer.ip for peer in handle.get_peer_info())]
        except RuntimeError as error:
            return Failed(key, reason(error))
        peers = dict.fromkeys([*self._named.pop(key, ()), *seen])
        return Described(key, b"d4:info" + section + b"e", tuple(peers))

    def _moved(self, status: Any) -> Moved | None:
        with self._guard:
            key = self._keys.get(status.handle)
        if key is None:
            return None
        return Moved(
            key,
            str(status.state).rpartition(".")[2].replace("_", " "),
            int(status.total_wanted_done),
            int(status.total_wanted),
            int(status.download_payload_rate),
            int(status.upload_payload_rate),
            int(status.num_peers),
            int(status.all_time_upload),
            int(status.total_payload_download),
        )


def _priorities(source: Source, task: Task) -> list[int]:
    """By file: libtorrent's usual one, more for what comes first, or 0 for what is not to be fetched."""
    wanted = None if task.wanted is None else frozenset(task.wanted)
    first = frozenset(task.first)
    return [
        (FIRST if file.index in first else USUAL)
        if (wanted is None or file.index in wanted) and not file.is_link
        else 0
        for file in source.files
    ]


def _seen(lt: Any, peer: Any) -> PeerSeen:
    host, port = peer.ip
    return PeerSeen(
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        way="uTP" if peer.flags & UTP_SOCKET else "TCP",
        has_all=bool(peer.flags & lt.peer_info.seed),
        parts=int(peer.num_pieces),
        received=int(peer.total_download),
        sent=int(peer.total_upload),
        rate=int(peer.payload_down_speed),
        rtt_ms=float(peer.rtt),
    )


def _merged(resumed: Any, parameters: Any) -> Any:
    """What was kept, with the description from the torrent file: its own is never trusted to be the same."""
    if resumed.info_hashes != parameters.info_hashes:
        return parameters
    resumed.ti = parameters.ti
    return resumed


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        return None
