"""Whole nodes on a simulated network that crash and come back: what a `World` does for cores, for programs.

@asynccontextmanager
async def live(name, endpoint):          # one life of one node, from start to end
    driver = NetDriver(Core(), endpoint, PROTOCOL, on_output={}, strangers=True)
    yield driver
    await driver.close()

async def main(random: Random) -> None:
    network = SimNetwork(random, Link(latency=0.05))
    async with Residents(network, live, seed=1) as residents:
        for name in range(100):
            await residents.add(name, host=Host(up_bytes_per_s=1e6))
        Churn(residents, range(20, 100), online=exponential(3600), offline=exponential(3600))
        await asyncio.sleep(24 * 3600)   # takes no time
"""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self

from coterie.errors import CoterieError, UsageError
from coterie.net import Endpoint, NetLimits
from coterie.sim.host import Host
from coterie.sim.network import SimNetwork

Live = Callable[[Hashable, Endpoint], AbstractAsyncContextManager[Any]]

RESIDENTS_MAX = 1_000  # whole nodes, each with an endpoint: about 100 MB; take cores in a `World` for more


class _Resident:
    """One node: its place stays, its lives come and go."""

    __slots__ = ("changing", "is_up", "limits", "node", "stack")

    def __init__(self, limits: NetLimits | None) -> None:
        self.limits = limits
        self.is_up = False
        self.node: Any = None  # what `live` gave, once it has begun
        self.stack: AsyncExitStack | None = None
        self.changing: asyncio.Task[None] | None = None  # the last change, which the next one waits for


class Residents:
    """Nodes by name, each with an endpoint of the network; `Churn` takes it as it takes a `World`.

    Args:
        network: where they live. What happens to them there, `network` does: cuts, links, hosts.
        live: one life of one node: a context manager called with (name, endpoint), the endpoint started. A crash
            leaves it too, when nothing it says is heard any more: there it frees what it took.
        seed: of `Churn`.
        forget: called with the name when a node comes back without its disk.
    """

    def __init__(
        self,
        network: SimNetwork,
        live: Live,
        *,
        seed: int = 0,
        forget: Callable[[Hashable], None] = lambda name: None,
    ) -> None:
        self.seed = seed
        self._network = network
        self._live = live
        self._forget = forget
        self._residents: dict[Hashable, _Resident] = {}
        self._timers: dict[asyncio.TimerHandle, None] = {}
        self._failed: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all of them in order; raises what a life raised that had no business to."""
        for timer in self._timers:
            timer.cancel()
        for name, resident in self._residents.items():
            if resident.is_up:
                resident.is_up = False
                self._change(resident, self._end(resident), f"{name!r} ends")
        for resident in self._residents.values():
            if resident.changing is not None:
                await resident.changing
        if self._failed is not None:
            raise self._failed

    async def add(self, name: Hashable, *, host: Host | None = None, limits: NetLimits | None = None) -> Any:
        """A new node, begun; what `live` gave for it."""
        if name in self._residents:
            raise UsageError(f"there is already a node {name!r}")
        if len(self._residents) >= RESIDENTS_MAX:
            raise UsageError(f"{RESIDENTS_MAX} whole nodes live here (RESIDENTS_MAX): put cores into a World")
        if host is not None:
            self._network.settle(name, host)
        self._residents[name] = resident = _Resident(limits)
        self._come(name, resident)
        assert resident.changing is not None  # noqa: S101  (made by the line before)
        await resident.changing
        if self._failed is not None:
            raise self._failed
        return resident.node

    def node(self, name: Hashable) -> Any:
        """What `live` gave for the present life of `name`; None while it is down or still begins."""
        return self._of(name).node

    # ---- what `Churn` asks of a stage

    @property
    def now(self) -> float:
        """The loop's time, s."""
        return asyncio.get_running_loop().time()

    def is_up(self, name: Hashable) -> bool:
        """Whether `name` lives now."""
        return self._of(name).is_up

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Call `action` at time `at`, s."""

        def act() -> None:
            del self._timers[timer]
            action()

        timer = asyncio.get_running_loop().call_at(at, act)
        self._timers[timer] = None

    def crash(self, name: Hashable) -> None:
        """As a power cut: nothing more comes from it; others lose their connections to it after a while."""
        resident = self._of(name)
        if not resident.is_up:
            raise UsageError(f"{name!r} is down already")
        resident.is_up = False
        resident.node = None
        self._network.vanish(name)
        self._change(resident, self._end(resident), f"{name!r} crashes")

    def restart(self, name: Hashable, *, forget: bool = False) -> None:
        """A new life, from the next turn of the loop on. `forget`: its disk is lost."""
        resident = self._of(name)
        if resident.is_up:
            raise UsageError(f"{name!r} is up already")
        if forget:
            self._forget(name)
        self._come(name, resident)

    # ---- lives

    def _of(self, name: Hashable) -> _Resident:
        try:
            return self._residents[name]
        except KeyError:
            raise UsageError(f"there is no node {name!r} here") from None

    def _come(self, name: Hashable, resident: _Resident) -> None:
        resident.is_up = True
        endpoint = self._network.endpoint(name, limits=resident.limits)
        self._change(resident, self._begin(name, resident, endpoint), f"{name!r} begins")

    def _change(self, resident: _Resident, work: Any, name: str) -> None:
        before = resident.changing

        async def change() -> None:
            if before is not None:
                await before
            try:
                await work
            except Exception as error:  # noqa: BLE001 - `__aexit__` raises it: there is nobody else to tell
                self._failed = self._failed or error

        resident.changing = asyncio.get_running_loop().create_task(change(), name=name)

    async def _begin(self, name: Hashable, resident: _Resident, endpoint: Endpoint) -> None:
        resident.stack = AsyncExitStack()
        await resident.stack.enter_async_context(endpoint)
        try:
            node = await resident.stack.enter_async_context(self._live(name, endpoint))
        except CoterieError:
            if resident.is_up:  # else it crashed while it began
                raise
        else:
            resident.node = node if resident.is_up else None

    async def _end(self, resident: _Resident) -> None:
        stack, resident.stack, resident.node = resident.stack, None, None
        if stack is not None:
            await stack.aclose()
