"""Which interfaces get an endpoint of their own, and when; the endpoints here are fakes."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from coterie.net.quic.cables import (
    CABLES_MAX,
    SETTLED_LOOKS,
    Cable,
    Cables,
    is_on_cable,
    link_only,
    with_scope,
    without_scope,
)


@dataclass
class Ip:
    """As `ifaddr` gives it."""

    ip: Any

    @property
    def is_IPv6(self) -> bool:
        return isinstance(self.ip, tuple)


@dataclass
class Adapter:
    """As `ifaddr` gives it."""

    index: int
    ips: list[Ip]


def adapter(index: int, *ips: str) -> Adapter:
    return Adapter(index, [Ip((ip, 0, index) if ":" in ip else ip) for ip in ips])


LOOPBACK = adapter(1, "127.0.0.1", "::1")


@dataclass
class FakeEndpoint:
    """An endpoint at `cable`."""

    cable: Cable
    closed: list[Cable]

    def bound_sockets(self) -> list[str]:
        return ["127.0.0.1:5", f"[{self.cable.ip}%{self.cable.scope}]:{4000 + self.cable.scope}"]

    async def close(self) -> None:
        self.closed.append(self.cable)


@dataclass
class World:
    """What `Cables` sees of a machine."""

    cables: list[Cable] = field(default_factory=list)
    is_all: bool = False
    used: list[int] = field(default_factory=list)
    closed: list[Cable] = field(default_factory=list)

    def made(self) -> Cables:
        async def bind(cable: Cable) -> FakeEndpoint:
            return FakeEndpoint(cable, self.closed)

        return Cables(bind, in_use=lambda: self.used, look=lambda: (list(self.cables), self.is_all))


def cable(number: int) -> Cable:
    return Cable(number, f"fe80::{number}")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([LOOPBACK], ([], True)),
        ([LOOPBACK, adapter(2, "fe80::2")], ([cable(2)], True)),
        ([LOOPBACK, adapter(2, "169.254.7.7", "fe80::2")], ([cable(2)], True)),
        ([LOOPBACK, adapter(2, "169.254.7.7")], ([], True)),
        ([LOOPBACK, adapter(2, "192.168.1.7", "fe80::2")], ([], False)),
        ([LOOPBACK, adapter(2, "2a0f::7", "fe80::2"), adapter(3, "fe80::3")], ([cable(3)], False)),
        ([LOOPBACK, adapter(2, "fd00::7", "fe80::2")], ([], False)),
    ],
)
def test_a_cable_is_an_interface_with_nothing_better_than_a_link_local_address(
    found: list[Adapter], expected: tuple[list[Cable], bool]
) -> None:
    assert link_only(found) == expected


def test_an_interface_stands_in_no_address_but_those_that_this_machine_dials() -> None:
    assert with_scope("[fe80::1]:4000", 2) == "[fe80::1%2]:4000"
    assert without_scope("[fe80::1%2]:4000") == without_scope("[fe80::1]:4000") == "[fe80::1]:4000"
    assert without_scope("http://relay%2:80") == "http://relay%2:80"
    assert is_on_cable("[fe80::1]:4000")
    assert is_on_cable("[FEBF::1]:4000")
    assert not any(map(is_on_cable, ["[fec0::1]:4", "[fd00::1]:4", "169.254.1.1:4", "http://[fe80::1]:80"]))


def test_where_there_is_nothing_else_an_endpoint_is_bound_at_once() -> None:
    async def scene() -> None:
        made = World([cable(2)], is_all=True).made()
        await made.follow()
        assert made.addresses == ["[fe80::2]:4002"]

    asyncio.run(scene())


def test_an_interface_that_may_be_about_to_get_an_address_is_waited_for() -> None:
    async def scene() -> None:
        world = World([cable(2)])
        made = world.made()
        for _ in range(SETTLED_LOOKS - 1):
            await made.follow()
            assert made.addresses == []
        world.cables = []  # it got one
        await made.follow()
        world.cables = [cable(2)]
        await made.follow()
        assert made.addresses == []
        await made.follow()
        assert made.addresses == ["[fe80::2]:4002"]

    asyncio.run(scene())


def test_one_cable_more_than_the_bound_waits_until_another_is_pulled() -> None:
    async def scene() -> None:
        world = World([cable(n) for n in range(1, CABLES_MAX + 2)], is_all=True)
        made = world.made()
        await made.follow()
        assert len(made.addresses) == CABLES_MAX
        del world.cables[0]
        await made.follow()
        assert world.closed == [cable(1)]
        assert made.addresses[-1] == f"[fe80::{CABLES_MAX + 1}]:{4000 + CABLES_MAX + 1}"

    asyncio.run(scene())


def test_an_endpoint_stays_while_a_connection_goes_through_it() -> None:
    async def scene() -> None:
        world = World([cable(2)], is_all=True)
        made = world.made()
        await made.follow()
        world.cables, world.used = [], [0, 2]
        await made.follow()
        assert made.addresses
        assert not world.closed
        world.used = [0]
        await made.follow()
        assert not made.addresses
        assert world.closed == [cable(2)]

    asyncio.run(scene())
