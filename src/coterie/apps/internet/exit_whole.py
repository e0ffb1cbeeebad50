"""A whole-system exit: everything that programs of this computer send goes by an exit, or nowhere.

TCP is redirected into streams, questions to the DNS are answered by the exit's resolver, UDP and echo requests go by a
TUN device. What was changed of the computer is undone by `stop` alone: when the node ends, however it ends, the kernel
keeps the door closed until the node is back or `stop` was asked for.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from coterie.apps.context import Context
from coterie.apps.internet.exit_door import Door
from coterie.apps.internet.exit_machine import Machine
from coterie.apps.internet.exit_names import Names
from coterie.apps.internet.exit_networks import (
    LOOK_S,
    NETWORKS_MAX,
    SETTLE_S,
    changes,
    here,
    read_network,
)
from coterie.apps.internet.exit_rules import DEVICE, Plan, Split, read_rules
from coterie.apps.internet.exit_tun import Device, TunFlow
from coterie.apps.internet.records import WholeRecord
from coterie.errors import CoterieError, UsageError
from coterie.services.carry.datagrams import Program
from coterie.services.local import Port
from coterie.services.local.dns_port import DnsPort
from coterie.tasks import Tasks
from coterie.texts import tr

log = logging.getLogger(__name__)


class Ways(Protocol):
    """What carries it: the exits in use."""

    async def carry(self, host: str, port: int, program: socket.socket) -> None:
        """A TCP connection, until both sides have finished."""
        ...

    async def carry_flow(self, program: Program, kind: str = "udp") -> None:
        """Datagrams ("udp") or echo requests ("ping"), until one side is silent."""
        ...

    async def ask_name(self, message: bytes) -> bytes:
        """The answer of the exit's resolver to a message of the DNS."""
        ...


def checked(record: WholeRecord) -> Split:
    """What the rules mean. Raises `UsageError`: one cannot be."""
    if len(record.at) > NETWORKS_MAX:
        raise UsageError(tr("{networks_max} networks at most", networks_max=NETWORKS_MAX))
    record.at = [read_network(text) for text in record.at]
    split = Split(direct=read_rules(record.direct), only=read_rules(record.only), local=record.local)
    _ids(split)
    return split


def _ids(split: Split) -> dict[str, int]:
    """The ids of the users that rules name. Raises `UsageError`."""
    import pwd

    found = {}
    for rule in (*split.direct, *split.only):
        if rule.user:
            try:
                found[rule.user] = pwd.getpwnam(rule.user).pw_uid
            except KeyError:
                raise UsageError(tr("this computer has no user '{user}'", user=rule.user)) from None
    return found


class Whole:
    """The whole-system exit of one node. All methods belong to its event loop."""

    def __init__(self, context: Context, ways: Ways) -> None:
        self._context = context
        self._ways = ways
        self._machine = Machine(context.data.folder)
        self._turn = asyncio.Lock()
        self._split: Split | None = None
        self._door: Door | None = None
        self._names: DnsPort | None = None
        self._ports: list[Port] = []
        self._device: Device | None = None
        self._is_watching = False
        self._tasks: Tasks | None = None  # of the ports
        self._at: Sequence[str] = ()
        self.trouble = ""  # why it is not as asked for, for people

    @property
    def is_changed(self) -> bool:
        """Whether the computer may be changed, by this run of the node or an earlier one."""
        return self._machine.is_changed

    @property
    def state(self) -> str:
        """For people."""
        if self.trouble:
            return self.trouble
        if self._device is not None:
            return tr("on: nothing but the node itself leaves this computer by another way")
        if self._split is not None:
            return tr("off on this network, which is not one of those asked for")
        if self._machine.is_changed:
            return tr("closed since the node ended: nothing leaves this computer")
        return tr("off")

    @property
    def flows(self) -> int:
        """Of datagrams, now."""
        return self._device.flows if self._device is not None else 0

    async def start(self, record: WholeRecord) -> None:
        """Set it up, or anew. On a network that is not one of `record.at` it waits for one that is.

        Raises:
            UsageError: a rule cannot be, or this computer does not let it be done. Then everything is as it was; a door
            that was closed before stays closed.
        """
        split = checked(record)
        await self._machine.check()
        async with self._turn:
            await self._down(is_open=False)
            self._split, self._at, self.trouble = split, record.at, ""
            if not self._at or here().is_one_of(self._at):
                await self._up(split, is_open_after=not self._machine.is_changed)
            else:
                await self._machine.undo()
        if self._at and not self._is_watching:
            self._is_watching = True
            self._context.jobs.keep(self._watch, "looking on which network this is")

    async def stop(self) -> None:
        """Undo everything, also what an earlier run of the node left. Raises `UsageError` where something stays."""
        async with self._turn:
            self._split, self.trouble = None, ""
            await self._down(is_open=True)

    async def close(self) -> None:
        """The node ends: the door stays closed."""
        async with self._turn:
            await self._down(is_open=False)

    async def _up(self, split: Split, *, is_open_after: bool) -> None:
        """Raises `UsageError`; `is_open_after`: then the computer is as it was, else its door stays closed."""
        try:
            self._open_ports(split)
            assert self._door is not None  # noqa: S101  (just made)
            assert self._names is not None  # noqa: S101
            assert self._tasks is not None  # noqa: S101
            around = await self._machine.enter()
            self._device = Device(DEVICE, self._serve, self._tasks.start)
            await self._machine.route()
            plan = Plan(
                home=self._machine.owner,
                cgroup=around.cgroup,
                level=around.level,
                uid=os.geteuid(),
                udp=around.udp,
                tcp=around.tcp,
                door=self._door.number,
                names=self._names.number,
                split=split,
                users=_ids(split),
            )
            await self._machine.close_doors(plan)
        except BaseException:
            self._split = None
            await self._down(is_open=is_open_after)
            raise

    async def _down(self, *, is_open: bool) -> None:
        """Ports and the device go. `is_open`: what was changed of the computer, too."""
        device, self._device = self._device, None
        if is_open:
            await self._machine.undo()
        if device is not None:
            await device.close()
        ports, self._ports = self._ports, []
        for port in ports:
            await port.close()
        self._door = self._names = None

    def _open_ports(self, split: Split) -> None:
        names = Names(split, self._ways.ask_name, self._machine.learn)
        self._ports = [
            self._context.local.port(
                "whole", self._kept(partial(Door, self._ways.carry)), note=tr("TCP of this whole computer")
            ),
            self._context.local.port(
                "whole-names",
                self._kept(partial(DnsPort, names.ask)),
                note=tr("names for this whole computer"),
            ),
        ]

    def _kept(
        self, make: Callable[[str, Tasks], "Door | DnsPort"]
    ) -> Callable[[str, Tasks], "Door | DnsPort"]:
        def made(name: str, tasks: Tasks) -> Door | DnsPort:
            self._tasks, listener = tasks, make(name, tasks)
            if isinstance(listener, Door):
                self._door = listener
            else:
                self._names = listener
            return listener

        return made

    async def _serve(self, flow: TunFlow) -> None:
        await self._ways.carry_flow(flow, "ping" if flow.is_echo else "udp")

    async def _watch(self) -> None:
        """Goes up and down with the network, where that was asked for."""
        with changes() as changed:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                    await asyncio.sleep(SETTLE_S)
                changed.clear()
                async with self._turn:
                    await self._look()

    async def _look(self) -> None:
        is_wanted, split = here().is_one_of(self._at), self._split
        if split is None or not self._at or is_wanted == (self._device is not None):
            return
        try:
            if is_wanted:
                await self._up(split, is_open_after=False)
            else:
                await self._down(is_open=True)
            self.trouble = ""
        except CoterieError as error:
            self._split, self.trouble = split, str(error)
            log.warning("the whole-system exit: %s", error)
