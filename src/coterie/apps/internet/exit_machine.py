"""What a whole-system exit changes of this computer, and how that is undone: a table of nftables, a rule of routing, a
device, a control group for the node.

Before anything is changed it stands in a journal on disk. What the journal names is undone by `undo`, as often as it
takes, whether the node that made it lives or not. Until then the table lets nothing out but what its rules leave open.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from coterie.apps.internet.exit_journal import Journal, end_journal, is_changed, read_journal, write_journal
from coterie.apps.internet.exit_rules import (
    DEVICE,
    ROUTES,
    TABLE,
    TUNNEL,
    Plan,
    add_hosts,
    remove_table,
    table,
)
from coterie.errors import UsageError
from coterie.texts import tr

CGROUPS = "/sys/fs/cgroup"  # where nft looks for the paths of groups
GROUP = "coterie-exit-"  # and some digits that stand for the home: another node has its own
COMMAND_S = 10.0  # nft and ip answer in milliseconds; guess: a machine that swaps
ADDRESS_4 = "192.0.0.6/32"  # RFC 7335: for the one end of a tunnel that has an IPv4 address of no network
ADDRESS_6 = "fd63:6f74:6572:6965::1/128"  # RFC 4193, of no site
DEVICE_BYTES = 65_535  # MTU: datagrams come whole, however large
QUEUE_PACKETS = 5_000  # between the kernel and us: a second of what we carry
LAST_METRIC = 4_000_000_000  # of the route for computers that have no other: any other goes first
_PROGRAMS = {"nft": "nftables", "ip": "iproute2"}


class Surroundings(msgspec.Struct, frozen=True):
    """What of the table's plan this computer decides: the node's group and ports."""

    cgroup: str
    level: int
    udp: list[int]
    tcp: list[int]


class Machine:
    """This computer, as one node changes it. One call at a time."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the app's own."""
        self.owner = str(folder)  # stands in the table: a second node does not take it away
        self._folder = folder

    @property
    def is_changed(self) -> bool:
        """Whether something may have been changed, by this run of the node or an earlier one."""
        return is_changed(self._folder)

    async def check(self) -> None:
        """Raises `UsageError`: this computer cannot do it, the node may not, or another node does it already."""
        for program, package in _PROGRAMS.items():
            if shutil.which(program) is None:
                raise UsageError(
                    tr(
                        "a whole-system exit needs the program {program}: install {package}",
                        program=program,
                        package=package,
                    )
                )
        if os.geteuid() != 0:
            raise UsageError(
                tr("a whole-system exit changes the network of this computer: the node has to run as root")
            )
        if not Path("/dev/net/tun").exists():
            raise UsageError(tr("this computer has no /dev/net/tun: load the kernel's module tun"))
        said = await _run("nft", "list", "tables")
        if f"table inet {TABLE}" in said and not self.is_changed:
            listed = await _run("nft", "list", "table", "inet", TABLE)
            owner = listed.partition('comment "')[2].partition('"')[0]
            raise UsageError(
                tr(
                    "a whole-system exit of another node ({owner}) holds the network of this computer: end it there "
                    "with `coterie internet stop`",
                    owner=owner or "?",
                )
            )

    async def enter(self) -> Surroundings:
        """Put the node into a group of its own; what the table has to know of it. Raises `UsageError`."""
        mount, path = own_group()
        own = mount / path.lstrip("/")
        ports = await asyncio.to_thread(
            own_ports
        )  # of sockets from before: the kernel counts them to the old group
        name = GROUP + hashlib.sha256(self.owner.encode()).hexdigest()[:8]
        group = own if own.name == name else own / name
        write_journal(self._folder, Journal(str(group)))
        try:
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            raise UsageError(
                tr(
                    "the node gets no cgroup of its own at {place}: {strerror}",
                    place=group,
                    strerror=error.strerror,
                )
            ) from None
        return Surroundings(
            str(group.relative_to(CGROUPS)), len(group.relative_to(mount).parts), ports["udp"], ports["tcp"]
        )

    async def route(self) -> None:
        """Addresses, routes and rules of the device, which is there already. Raises `UsageError`."""
        await _run(
            "ip", "link", "set", DEVICE, "mtu", str(DEVICE_BYTES), "txqueuelen", str(QUEUE_PACKETS), "up"
        )
        _loosen(DEVICE)
        for version, address in (("-4", ADDRESS_4), ("-6", ADDRESS_6)):
            if version == "-6" and not Path("/proc/net/if_inet6").exists():
                continue
            await _unrule(version)
            await _run("ip", version, "address", "add", address, "dev", DEVICE)
            await _run("ip", version, "route", "add", "default", "dev", DEVICE, "table", str(ROUTES))
            await _run("ip", version, "route", "add", "default", "dev", DEVICE, "metric", str(LAST_METRIC))
            await _run(
                "ip",
                version,
                "rule",
                "add",
                "fwmark",
                hex(TUNNEL),
                "lookup",
                str(ROUTES),
                "pref",
                str(ROUTES),
            )

    async def close_doors(self, plan: Plan) -> None:
        """From here on the table rules: all at once, instead of one that was there. Raises `UsageError`."""
        await _run("nft", "-f", "-", asked=table(plan))

    async def learn(self, addresses: list[tuple[str, int]]) -> None:
        """These addresses, each for some seconds, are of hosts that rules name. Raises `UsageError`."""
        await _run("nft", "-f", "-", asked=add_hosts(addresses))

    async def undo(self) -> None:
        """Everything as it was. Nothing to undo is no fault.

        Raises:
            UsageError: something stays changed; says what, and how to undo it by hand. The journal stays, too.
        """
        if not self.is_changed:
            return
        journal = read_journal(self._folder)
        failed = []
        for words, asked in (("nft -f -", remove_table()), (f"ip link delete {DEVICE}", None)):
            try:
                await _run(*words.split(), asked=asked)
            except UsageError as error:
                if asked is not None:  # the device is gone with the node that made it
                    failed.append(str(error))
        for version in ("-4", "-6"):
            with contextlib.suppress(UsageError):
                await _unrule(version)
        if failed:
            raise UsageError(
                tr(
                    "the network of this computer is still changed ({failed}); by hand: nft delete table inet {table}",
                    failed="; ".join(failed),
                    table=TABLE,
                )
            )
        _leave(Path(journal.group) if journal.group else None)
        end_journal(self._folder)


async def _unrule(version: str) -> None:
    """Rules of ours are as many as starts that died: all of them go."""
    for _ in range(64):
        try:
            await _run("ip", version, "rule", "del", "pref", str(ROUTES))
        except UsageError:
            return


def _loosen(device: str) -> None:
    """Answers come from the device to addresses of others: the kernel takes them for forged unless it is told."""
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("2")


def _leave(group: Path | None) -> None:
    """The node goes back to the group from which it came. A group that is not empty stays: it changes nothing."""
    if group is None or not group.is_dir():
        return
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def own_group() -> tuple[Path, str]:
    """Where control groups of version 2 are mounted, and which one the node is in. Raises `UsageError`."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [Path(words[1]) for words in mounts if words[2] == "cgroup2" and words[1].startswith(CGROUPS)]
    paths = [
        line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
    ]
    if not places or not paths:
        raise UsageError(
            tr(
                "this computer has no cgroups of version 2 at {cgroups}: nothing would tell the node's own "
                "traffic from that of other programs",
                cgroups=CGROUPS,
            )
        )
    return places[0], paths[0]


def own_ports() -> dict[str, list[int]]:
    """Ports of this process by "udp" and "tcp" (where it listens), IPv4 and IPv6."""
    inodes = set()
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{entry}")
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return {kind: sorted(set(_ports(kind, inodes))) for kind in ("udp", "tcp")}


def _ports(kind: str, inodes: set[str]) -> Iterator[int]:
    for suffix in ("", "6"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/net/{kind}{suffix}").read_text("ascii")
            yield from ports_in_table(text, inodes, is_listening=kind == "tcp")


def ports_in_table(text: str, inodes: set[str], *, is_listening: bool) -> list[int]:
    """Local ports of these sockets in the text of /proc/net/tcp or the like, with `is_listening` of servers only."""
    ports = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[9] in inodes and (words[3] == "0A" or not is_listening):
            ports.append(int(words[1].rpartition(":")[2], 16))
    return ports


async def _run(*words: str, asked: str | None = None) -> str:
    """What a program says. Raises `UsageError` with what it complains of."""
    try:
        running = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE if asked is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(COMMAND_S):
            said, complaint = await running.communicate(asked.encode() if asked is not None else None)
    except (OSError, TimeoutError) as error:
        raise UsageError(
            tr("{program} did not do its work: {reason}", program=words[0], reason=str(error) or "it hangs")
        ) from None
    if running.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UsageError(tr("{command} failed: {reason}", command=" ".join(words[:6]), reason=lines[0][:200]))
    return said.decode(errors="replace")
