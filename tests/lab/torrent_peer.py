"""A BitTorrent client of `libtorrent` with its own settings, told what to do as `peer.py` is: beside ours in the swarm.

python -m tests.lab.torrent_peer JSON, with {"number": its number, "folder": where its files are, "ip": its address}.
Commands: "share" {path}, "get" {ticket: a torrent file, peers: addresses}. Events: "ready", "shared", "progress",
"fetched". Nothing but the peers that are named is used: no DHT, no local discovery, no port mapping.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt

PORT = 6881
STEP_S = 0.05
PIECE_BYTES = 256 * 1024  # what libtorrent takes by itself for 100 MB


def say(event: str, **facts: Any) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


def share(session: Any, folder: Path, path: Path) -> str:
    """Make a torrent of a file, seed it; returns where the torrent file is."""
    files = lt.list_files(str(path))
    made = lt.create_torrent(files, PIECE_BYTES, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(path.parent))
    torrent = folder / "file.torrent"
    torrent.write_bytes(lt.bencode(made.generate()))
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(str(torrent))
    wanted.save_path = str(path.parent)
    wanted.flags |= lt.torrent_flags.seed_mode
    session.add_torrent(wanted)
    return str(torrent)


def get(session: Any, folder: Path, torrent: str, peers: list[str]) -> None:
    """Fetch it, say how far it is, then seed it until the program ends."""
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    wanted.save_path = str(folder)
    wanted.flags &= ~lt.torrent_flags.auto_managed
    wanted.flags &= ~lt.torrent_flags.paused
    handle = session.add_torrent(wanted)
    for peer in peers:
        handle.connect_peer((peer, PORT))
    said = 0.0
    while not (status := handle.status()).is_seeding:
        if time.monotonic() - said > 4 * STEP_S:
            said = time.monotonic()
            say("progress", bytes=status.total_wanted_done)
        time.sleep(STEP_S)
    done_at = time.monotonic()
    path = folder / status.name
    digest = blake3.blake3().update_mmap(path).hexdigest()
    say("fetched", bytes=path.stat().st_size, digest=digest, done_at=done_at)


def main(settings: dict[str, Any]) -> None:
    """Be the client of `settings` until standard input ends."""
    folder = Path(settings["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    session = lt.session(
        {
            "listen_interfaces": f"{settings['ip']}:{PORT}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": 0,
        }
    )
    say("ready", addresses=[f"{settings['ip']}:{PORT}"])
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "share":
            say("shared", id=command["id"], ticket=share(session, folder, Path(command["path"])))
        elif command["do"] == "get":
            get(session, folder, command["ticket"], command["peers"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
