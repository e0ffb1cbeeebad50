"""How a session of `libtorrent` takes part: what it listens on, whom it speaks to, its bounds."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coterie.content.bittorrent.port import port_for

ALERTS_MAX = 10_000  # guess: what is over is dropped; a thousand torrents tell some three each at the start
DISK_QUEUE_BYTES_MAX = 32 << 20  # guess: received and not yet written; libtorrent's default is 100 MB
OPEN_FILES_MAX = 40  # libtorrent's default
RECONNECT_S = 10  # guess: libtorrent's 60 suit large swarms; in one of two they are a minute of nothing
UTP_CONNECT_MS = (
    1_000  # guess: libtorrent's 3,000 and 2 repeats keep a program without uTP waiting 15 s for TCP
)
CONNECTIONS_MAX = 200  # libtorrent's default
UPLOAD_SLOTS = 8  # libtorrent's default; of all torrents together

_PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
    *("fc00::/7", "fe80::/10", "::1/128"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How to take part.

    Fields:
        is_open: the whole internet: mainline DHT, trackers, peers from peers, web seeds, the router's port mapping.
            Otherwise the local network only: who announces itself there, and private addresses that are named.
        bind_ip, port: where to listen; unspecified means every interface and both families, 0 any port, one for all.
        dht_nodes: first nodes of the DHT; empty means libtorrent's own.
        dht_private: the DHT is one of your own on private addresses.
    """

    is_open: bool
    bind_ip: str = "0.0.0.0"  # noqa: S104 - as peers are to reach us
    port: int = 0
    dht_nodes: Sequence[tuple[str, int]] = ()
    dht_private: bool = False


def alerts_of(lt: Any) -> Any:
    """What a session tells of, as libtorrent's mask."""
    kinds = lt.alert_category
    return kinds.error | kinds.status | kinds.storage


def settings(lt: Any, options: SessionOptions) -> dict[str, Any]:
    return {
        "listen_interfaces": _interfaces(options.bind_ip, port_for(options.bind_ip, options.port)),
        "alert_mask": alerts_of(lt),
        "alert_queue_size": ALERTS_MAX,
        "connections_limit": CONNECTIONS_MAX,
        "unchoke_slots_limit": UPLOAD_SLOTS,
        "max_queued_disk_bytes": DISK_QUEUE_BYTES_MAX,
        "stop_tracker_timeout": 1,
        "min_reconnect_time": RECONNECT_S,
        "enable_outgoing_utp": options.is_open,  # on a local network TCP is faster
        "utp_connect_timeout": UTP_CONNECT_MS,
        "utp_syn_resends": 1,
        "file_pool_size": OPEN_FILES_MAX,
        "enable_dht": options.is_open,
        "enable_lsd": True,
        "local_service_announce_interval": 60,  # of each torrent; BEP 14: not more often. 300 made people wait
        "enable_upnp": options.is_open,
        "enable_natpmp": options.is_open,
        "webtorrent_stun_server": "",  # a third party that nobody asked
        "user_agent": "coterie",
        **_dht_settings(options),
    }


def _dht_settings(options: SessionOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {"dht_bootstrap_nodes": ""}  # see `look_up`
    if options.dht_private:
        for name in (
            "restrict_routing_ips",
            "restrict_search_ips",
            "enforce_node_id",
            "prefer_verified_node_ids",
            "ignore_dark_internet",
        ):
            settings[f"dht_{name}"] = False
    return settings


def local_only(lt: Any) -> Any:
    """Everything is blocked but the addresses of private networks."""
    rules = lt.ip_filter()
    blocked = 1
    everywhere = [(network, blocked) for network in ("0.0.0.0/0", "::/0")]
    for text, what in (*everywhere, *((network, 0) for network in _PRIVATE)):
        network = ipaddress.ip_network(text)
        rules.add_rule(str(network[0]), str(network[-1]), what)
    return rules


def _interfaces(bind_ip: str, port: int) -> str:
    ip = ipaddress.ip_address(bind_ip)
    if ip.is_unspecified:
        return f"0.0.0.0:{port},[::]:{port}"
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
