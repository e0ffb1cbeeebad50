"""Transfers between two processes on loopback, beside the raw transport and outside tools."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.figures import Figure, Giver, free_port, installed, median, room, take
from bench.syncthing import syncthing
from coterie.content.file_steps import flush_tree

GB = 1_000_000_000
BLOCK_BYTES = 4 << 20
MEMORY_BYTES = 10 * GB
PAIRS = 3


def large_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    with path.open("wb") as file:
        left = size
        while left:
            block = os.urandom(min(left, BLOCK_BYTES))
            file.write(block)
            left -= len(block)
    return path


def one_file() -> list[Figure]:
    """1 GB over one QUIC stream, verified and on disk, beside a raw stream between the same two processes."""
    with room() as place, without_lanes():
        source = large_file(place / "large.bin", GB)
        giver = Giver(place / "a", [source])
        *rounds, memory = take(place / "b", giver, giver.shares[0], place / "got", raw_bytes=GB, rounds=PAIRS)
        gave = giver.end()
        ratios = [r["raw_s"] / r["get_s"] for r in rounds]
        rate = median([GB / 1e6 / r["get_s"] for r in rounds])
        raw = median([GB / 1e6 / r["raw_s"] for r in rounds])
        figures = [
            Figure("file_1gb", rate, "MB/s", raw, median(ratios), ">= 0.8 of a raw QUIC stream"),
            Figure("file_1gb_rss_taker", memory["rss_peak"] / 1e6, "MB"),
            Figure("file_1gb_rss_giver", gave["rss_peak"] / 1e6, "MB"),
        ]
        return figures + outside_file(source, place)


@contextmanager
def without_lanes() -> Iterator[None]:
    """The nodes of this block use QUIC only."""
    os.environ["COTERIE_BENCH_LANES"] = "false"
    try:
        yield
    finally:
        del os.environ["COTERIE_BENCH_LANES"]


def memory() -> list[Figure]:
    """10 GB through two processes: how much memory it takes. Needs 20 GB of disk."""
    with room() as place:
        source = place / "large.bin"
        need, free = 2 * MEMORY_BYTES + GB, shutil.disk_usage(place).free
        if free < need:
            raise SystemExit(
                f"the memory benchmark needs {need / GB:.0f} GB of disk, there are {free / GB:.0f}"
            )
        large_file(source, MEMORY_BYTES)
        giver = Giver(place / "a", [source])
        one, taker = take(place / "b", giver, giver.shares[0], place / "got")
        gave = giver.end()
        return [
            Figure("10gb_rate", MEMORY_BYTES / 1e6 / one["get_s"], "MB/s"),
            Figure("10gb_rss_taker", taker["rss_peak"] / 1e6, "MB", 200, None, "<= 200 MB"),
            Figure("10gb_rss_giver", gave["rss_peak"] / 1e6, "MB", 200, None, "<= 200 MB"),
        ]


def outside_tools() -> dict[str, Callable[[Path, Path], float | None]]:
    """Other tools: seconds that each takes for a file until it is on the disk, as ours is; None: not installed."""
    return {
        "beside_rsync_daemon": rsync_daemon,  # unencrypted
        "beside_scp": _scp,
        "beside_libtorrent": partial(_libtorrent, is_hybrid=False),
        "beside_libtorrent_hybrid": partial(_libtorrent, is_hybrid=True),
        "beside_syncthing": syncthing,
    }


def outside_file(source: Path, place: Path) -> list[Figure]:
    """The same file by other tools."""
    size = source.stat().st_size
    taken = {name: measure(source, place) for name, measure in outside_tools().items()}
    return [Figure(name, size / 1e6 / seconds, "MB/s") for name, seconds in taken.items() if seconds]


def flush(path: Path) -> None:
    """Bring a file to the disk; of a folder all of its file system, as a download of ours is brought there."""
    fd = os.open(path, os.O_RDONLY)
    if path.is_dir():
        flush_tree(fd, path)
    else:
        os.fsync(fd)
    os.close(fd)


def _wait_for_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


def rsync_daemon(source: Path, place: Path) -> float | None:
    """Seconds that an rsync daemon on loopback takes for `source`, which stays in a folder of `place` if it is one."""
    rsync = installed("rsync")
    if rsync is None:
        return None
    port = free_port()
    config = place / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[m]\npath = {source.parent}\n"
    )
    daemon = subprocess.Popen(
        [rsync, "--daemon", "--no-detach", f"--config={config}", f"--port={port}", "--address=127.0.0.1"]
    )
    target = Path(tempfile.mkdtemp(prefix="by-rsync-", dir=place))
    try:
        _wait_for_port(port)
        began = time.perf_counter()
        subprocess.run([rsync, "-a", f"rsync://127.0.0.1:{port}/m/{source.name}", f"{target}/"], check=True)
        flush(target / source.name)
        return time.perf_counter() - began
    finally:
        daemon.terminate()
        daemon.wait()
        if not source.is_dir():
            shutil.rmtree(target, ignore_errors=True)


def _scp(source: Path, place: Path) -> float | None:
    """Seconds that scp takes to a throw-away SSH server on loopback."""
    scp, sshd, keygen = (
        installed("scp"),
        installed("sshd") or installed("/usr/sbin/sshd"),
        installed("ssh-keygen"),
    )
    if not (scp and sshd and keygen) or os.getuid() != 0:
        return None
    room_ = place / "ssh"
    room_.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(room_ / name)], check=True)
    shutil.copy(room_ / "user.pub", room_ / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    options = [
        f"Port={port}",
        "ListenAddress=127.0.0.1",
        f"HostKey={room_ / 'host'}",
        f"AuthorizedKeysFile={room_ / 'authorized'}",
        f"PidFile={room_ / 'pid'}",
        "StrictModes=no",
        "UsePAM=no",
        "PermitRootLogin=yes",
        "Subsystem=sftp internal-sftp",  # what scp speaks today
    ]
    server = subprocess.Popen(
        [sshd, "-D", "-f", "/dev/null", *(f"-o{o}" for o in options)], stderr=subprocess.DEVNULL
    )
    client = [
        "-q",
        "-P",
        str(port),
        "-i",
        str(room_ / "user"),
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
    ]
    target = place / "by-scp"
    try:
        _wait_for_port(port)
        began = time.perf_counter()
        done = subprocess.run([scp, *client, f"root@127.0.0.1:{source}", str(target)], check=False)
        if done.returncode:
            return None
        flush(target)
        return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()
        target.unlink(missing_ok=True)
        shutil.rmtree(room_)


def _libtorrent(source: Path, place: Path, *, is_hybrid: bool) -> float | None:
    """Seconds from adding the torrent to all pieces on disk, libtorrent to libtorrent over TCP on loopback.

    Hybrid torrents are what it makes when nothing is said; v1 alone costs it one hash of each byte instead of two.
    """
    try:
        import libtorrent as lt
    except ImportError:
        return None
    # Over TCP, as it is fastest here: its uTP makes 9 MB/s on loopback.
    quiet = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
             "enable_outgoing_utp": False, "enable_incoming_utp": False,
             "alert_mask": 0, "allow_multiple_connections_per_ip": True}  # fmt: skip
    storage = lt.file_storage()
    lt.add_files(storage, str(source))
    made = lt.create_torrent(storage, 0, 0 if is_hybrid else lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(source.parent))
    info = lt.torrent_info(made.generate())
    target = place / "by-libtorrent"
    target.mkdir()
    seeder = lt.session({**quiet, "listen_interfaces": "127.0.0.1:0"})
    leecher = lt.session({**quiet, "listen_interfaces": "127.0.0.1:0"})
    seeder.add_torrent({"ti": info, "save_path": str(source.parent), "flags": lt.torrent_flags.seed_mode})
    began = time.perf_counter()
    handle = leecher.add_torrent({"ti": info, "save_path": str(target)})
    handle.connect_peer(("127.0.0.1", seeder.listen_port()))
    while not handle.status().is_seeding:
        if time.perf_counter() - began > 300:
            return None
        time.sleep(0.02)
    flush(target / source.name)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds
