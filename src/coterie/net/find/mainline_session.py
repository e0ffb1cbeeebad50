"""One session of `libtorrent` with its mainline DHT and nothing else of BitTorrent: the only module that knows it.

The session has a thread of its own, the one place where alerts are taken: taking them empties the queue.
"""

import hashlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from coterie.errors import TransportError
from coterie.identity import PeerId, SecretKey
from coterie.identity.peer_id import KEY_BYTES
from coterie.look_up import joined, look_up
from coterie.texts import tr

SALT = b"coterie"  # BEP 44: several items under one key; this one holds the peer's record
REMEMBERED_MAX = 100  # guess: nodes of each family to begin with; half of them are gone after some days
STATE_BYTES_MAX = 64 * 1024  # guess: a thousand nodes of 6 or 18 bytes each, twice
UPLOAD_BYTES_PER_S = (
    20_000  # libtorrent's default is 8,000; what is over is dropped, and a put is 8 kB at once
)
ALERTS_MAX = 1_000  # libtorrent's default; what is over is dropped
FOREIGN_ITEMS_MAX = 700  # libtorrent's default: BEP 44 items kept for others, up to 1 kB each
FOREIGN_TORRENTS_MAX = 200  # guess: a tenth of the default; we are here for items
WAKE_EVERY_MS = 1_000  # how long the thread sleeps when nothing happens
CLOSE_S = 5.0  # measured: 0.1 s

_log = logging.getLogger(__name__)


class Item(msgspec.Struct, frozen=True):
    """An answer to `get`: what is stored for `peer`, signed by its key. `is_last`: the search has ended."""

    peer: PeerId
    value: bytes
    is_last: bool


class Hung(msgspec.Struct, frozen=True):
    """An answer to `read`: what is stored without salt under `key`. `is_last`: the search has ended."""

    key: bytes
    value: bytes
    is_last: bool


class Stored(msgspec.Struct, frozen=True):
    """An answer to `put`: on how many nodes the record is now."""

    nodes: int


class Table(msgspec.Struct, frozen=True):
    """An answer to `count`: one routing table (there is one per address we listen on) has so many nodes."""

    nodes: int


class Listening(msgspec.Struct, frozen=True):
    """The UDP address where the DHT reaches us."""

    address: str


class Seen(msgspec.Struct, frozen=True):
    """The IP address at which most nodes of the DHT see us."""

    address: str


class Trouble(msgspec.Struct, frozen=True):
    """Something stands in the way, in words."""

    what: str


Event = Item | Hung | Stored | Table | Listening | Seen | Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How to take part.

    Fields:
        bind_ip, port: where to listen; unspecified means every interface and both families, 0 any port.
        bootstrap: nodes to begin with; names are looked up.
        state: what `save` gave, or empty.
        test_network: the DHT is a private one on private addresses: the rules that keep the public one sound
            (one node per address, no private addresses) are off. Never for the public DHT.
    """

    bind_ip: str = "0.0.0.0"  # noqa: S104 - as peers are to reach us
    port: int = 0
    bootstrap: Sequence[tuple[str, int]] = ()
    state: bytes = b""
    test_network: bool = False


class MainlineSession:
    """A running DHT node. Opening and closing block for some 50 ms: not on the event loop."""

    def __init__(self, key: SecretKey, options: SessionOptions, tell: Callable[[Event], None]) -> None:
        """`tell` gets every event, in threads of the session's own.

        Raises:
            TransportError: libtorrent is not installed here or cannot start.
        """
        self._lt = lt = _load()
        self._secret, self._public = expanded(key.seed), bytes(key.peer_id)
        self._tell = tell
        try:
            self._session: Any = lt.session(_settings(lt, options))
            # A router is only asked; a node is also stored on, which a small network needs.
            known = [node for node in options.bootstrap if is_ip(node[0])] + _remembered(lt, options.state)
            for node in known:
                self._session.add_dht_node(node)
        except RuntimeError as error:
            raise TransportError(tr("the mainline DHT cannot start: {error}", error=error)) from error
        self._is_closing = False
        if names := [node for node in options.bootstrap if not is_ip(node[0])]:
            look_up(names, self._looked_up)
        self._thread = threading.Thread(target=self._dispatch, name="mainline", daemon=True)
        self._thread.start()

    def get(self, peer: PeerId) -> None:
        """Look for the item of `peer`; `Item` events follow, the last one with `is_last`."""
        self._session.dht_get_mutable_item(bytes(peer), SALT)

    def put(self, record: bytes) -> None:
        """Store our record; a `Stored` event follows."""
        self._session.dht_put_mutable_item(self._secret, self._public, record, SALT)

    def read(self, key: bytes) -> None:
        """Look for what is stored without salt under a public key; `Hung` events follow, the last with `is_last`."""
        self._session.dht_get_mutable_item(key, b"")

    def write(self, key: SecretKey, value: bytes) -> None:
        """Store `value` under `key`, without salt. Nothing follows."""
        self._session.dht_put_mutable_item(expanded(key.seed), bytes(key.peer_id), value, b"")

    def count(self) -> None:
        """Ask how many nodes we know; a `Table` event per routing table follows."""
        self._session.post_dht_stats()

    def save(self) -> bytes:
        """Our place in the DHT and the nodes we know, for the next session. Blocks for milliseconds."""
        what = self._lt.save_state_flags_t.save_dht_state
        state = bytes(self._lt.write_session_params_buf(self._session.session_state(what), what))
        return state if len(state) <= STATE_BYTES_MAX else b""

    def close(self) -> None:
        """End the session and its thread. No event follows."""
        self._is_closing = True
        self._session.post_dht_stats()  # wakes the thread
        self._thread.join(CLOSE_S)
        self._session = None

    def _looked_up(self, found: list[tuple[str, int]], missing: list[str]) -> None:
        session = self._session
        if self._is_closing or session is None:
            return
        if found:
            session.apply_settings({"dht_bootstrap_nodes": joined(found)})
        for name in missing:
            self._tell(Trouble(f"{name} was not found"))

    def _dispatch(self) -> None:
        session = self._session
        while not self._is_closing:
            session.wait_for_alert(WAKE_EVERY_MS)
            for alert in session.pop_alerts():
                event = self._event(alert)
                if event is not None and not self._is_closing:
                    self._tell(event)

    def _event(self, alert: Any) -> Event | None:
        lt = self._lt
        match alert:
            case lt.dht_mutable_item_alert() if bytes(alert.salt) == SALT and len(alert.key) == KEY_BYTES:
                value = alert.item if isinstance(alert.item, bytes) else b""  # another type is none of ours
                return Item(PeerId(bytes(alert.key)), value, bool(alert.authoritative))
            case lt.dht_mutable_item_alert() if not bytes(alert.salt) and len(alert.key) == KEY_BYTES:
                value = alert.item if isinstance(alert.item, bytes) else b""
                return Hung(bytes(alert.key), value, bool(alert.authoritative))
            case lt.dht_put_alert() if bytes(alert.salt) == SALT:
                return Stored(int(alert.num_success))
            case lt.dht_stats_alert():
                return Table(sum(bucket["num_nodes"] for bucket in alert.routing_table))
            case lt.listen_succeeded_alert() if "tcp" not in str(alert.socket_type).lower():
                host = f"[{alert.address}]" if ":" in alert.address else alert.address
                return Listening(f"{host}:{alert.port}")
            case lt.external_ip_alert():
                return Seen(str(alert.external_address))
            case lt.listen_failed_alert():
                return Trouble(alert.message())
            case _ if (
                alert.what() == "dht_error"
            ):  # a name that was not found; the binding has no type for it
                return Trouble(alert.message())
        return None


def expanded(seed: bytes) -> bytes:
    """The 64-byte form of an Ed25519 secret key that libtorrent takes (RFC 8032, 5.1.5)."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 63 | 64
    return bytes(digest)


def _load() -> Any:
    try:
        import libtorrent
    except ImportError as error:
        raise TransportError(
            tr(
                "the mainline DHT needs the package libtorrent, which is not usable here ({error}); "
                "install it, or choose the reach level 'circle'",
                error=error,
            )
        ) from None
    return libtorrent


def _settings(lt: Any, options: SessionOptions) -> dict[str, Any]:
    kinds = lt.alert_category
    settings: dict[str, Any] = {
        "listen_interfaces": _interfaces(options.bind_ip, options.port),
        "dht_bootstrap_nodes": "",  # see `look_up`
        "alert_mask": kinds.error | kinds.status | kinds.dht,
        "alert_queue_size": ALERTS_MAX,
        "dht_upload_rate_limit": UPLOAD_BYTES_PER_S,
        "dht_max_dht_items": FOREIGN_ITEMS_MAX,
        "dht_max_torrents": FOREIGN_TORRENTS_MAX,
        "connections_limit": 2,  # its least; with the next two nobody gets in
        "aio_threads": 1,
        "enable_dht": True,
        "user_agent": "",
    }
    for name in ("incoming_tcp", "outgoing_tcp", "incoming_utp", "outgoing_utp", "lsd", "upnp", "natpmp"):
        settings[f"enable_{name}"] = False
    if options.test_network:
        # Many nodes in bursts: by default a sender of more than 5 packets a second is ignored for minutes.
        settings["dht_block_ratelimit"] = 1_000
        for name in (
            "restrict_routing_ips",
            "restrict_search_ips",
            "enforce_node_id",
            "prefer_verified_node_ids",
            "ignore_dark_internet",
        ):
            settings[f"dht_{name}"] = False
    return settings


def _interfaces(bind_ip: str, port: int) -> str:
    ip = ipaddress.ip_address(bind_ip)
    if ip.is_unspecified:
        return f"0.0.0.0:{port},[::]:{port}"
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _remembered(lt: Any, state: bytes) -> list[tuple[str, int]]:
    """The nodes in what `save` gave. The library itself restores none of them (measured with 2.1.1)."""
    if not state:
        return []
    try:
        read = lt.bdecode(state)
    except RuntimeError as error:
        _log.warning("what was kept of the mainline DHT is damaged (%s): beginning anew", error)
        return []
    inner = read.get(b"dht state") if isinstance(read, dict) else None
    if not isinstance(inner, dict):
        return []
    nodes: list[tuple[str, int]] = []
    for name, size in ((b"nodes", 4), (b"nodes6", 16)):
        packed = inner.get(name)
        for one in packed[:REMEMBERED_MAX] if isinstance(packed, list) else ():
            if isinstance(one, bytes) and len(one) == size + 2:  # BEP 5: address and port
                ip, port = ipaddress.ip_address(one[:size]), int.from_bytes(one[size:])
                if port and not ip.is_unspecified:
                    nodes.append((str(ip), port))
    return nodes


def is_ip(host: str) -> bool:
    """Whether `host` is an address and no name to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
