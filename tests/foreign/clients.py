"""Other people's BitTorrent programs, each as one process for one torrent."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Client:
    """How to run a program: `command(source, folder, port, settings)` fetches into `folder`, or seeds what is there.

    `settings` is an empty folder of its own. `package` is Debian's. `takes_hybrid`: whether it can read a torrent of
    both versions (measured: aria2 1.36 gives it another hash, Transmission 3.00 finds it damaged, whoever made it).
    """

    name: str
    program: str
    package: str
    command: Callable[[str, Path, int, Path], list[str]]
    takes_hybrid: bool = False


def _aria2(source: str, folder: Path, port: int, settings: Path) -> list[str]:
    return [
        "aria2c",
        "--no-conf",
        f"--dir={folder}",
        f"--listen-port={port}",
        "--seed-ratio=0.0",  # go on for ever
        "--check-integrity=true",  # what is there already is seeded
        "--allow-overwrite=true",
        "--file-allocation=none",
        "--follow-torrent=mem",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--bt-tracker-interval=2",
        "--disable-ipv6=true",
        "--async-dns=false",
        "--summary-interval=0",
        "--console-log-level=warn",
        source,
    ]


def _transmission(source: str, folder: Path, port: int, settings: Path) -> list[str]:
    said = {
        "dht-enabled": False,
        "lpd-enabled": False,
        "utp-enabled": False,
        "peer-port-random-on-start": False,
        "peer-port": port,
        "rename-partial-files": False,
        "preallocation": 0,
        "port-forwarding-enabled": False,
    }
    (settings / "settings.json").write_text(json.dumps(said))
    verify = ["--verify"] if any(folder.iterdir()) else []
    return [
        "transmission-cli",
        "--config-dir",
        str(settings),
        "--download-dir",
        str(folder),
        "--port",
        str(port),
        "--no-portmap",
        *verify,
        source,
    ]


_QBITTORRENT = """\
[LegalNotice]
Accepted=true

[Preferences]
WebUI\\Enabled=false
WebUI\\Port={web}

[BitTorrent]
Session\\Port={port}
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\QueueingSystemEnabled=false
Session\\AddTorrentStopped=false
Session\\TorrentContentLayout=Original
Session\\UseUPnP=false

[Network]
PortForwardingEnabled=false
"""


def _qbittorrent(source: str, folder: Path, port: int, settings: Path) -> list[str]:
    place = settings / "qBittorrent" / "config"
    place.mkdir(parents=True)
    (place / "qBittorrent.conf").write_text(_QBITTORRENT.format(port=port, web=port + 1))
    return ["qbittorrent-nox", f"--profile={settings}", f"--save-path={folder}", "--add-paused=false", source]


CLIENTS = (
    Client("aria2", "aria2c", "aria2", _aria2),
    Client("transmission", "transmission-cli", "transmission-cli", _transmission),
    Client("qbittorrent", "qbittorrent-nox", "qbittorrent-nox", _qbittorrent, takes_hybrid=True),
)
