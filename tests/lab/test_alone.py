"""Two homes and nobody else: IPv6 behind the firewalls of both routers. The other ways are in docs/nat-matrix.md."""

from tests.lab import alone, nat


def test_two_homes_with_ipv6_call_each_other_through_both_firewalls() -> None:
    pair = (nat.SYMMETRIC, nat.PORT_RESTRICTED)
    column = alone.measure(alone.WAYS["ipv6"], [pair])
    found = column.found[pair]
    assert found is not None
    assert found[1].startswith("[2a0f:10:"), found
