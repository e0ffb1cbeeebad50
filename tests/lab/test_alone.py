"""Two homes and nobody else: IPv6 behind the firewalls of both routers, the DHT. The rest is in docs/nat-matrix.md."""

import pytest

from tests.lab import alone, nat

LOOKS_S = 2.0


def test_two_homes_with_ipv6_call_each_other_through_both_firewalls() -> None:
    pair = (nat.SYMMETRIC, nat.PORT_RESTRICTED)
    column = alone.measure(alone.WAYS["ipv6"], [pair])
    found = column.found[pair]
    assert found is not None
    assert found[1].startswith("[2a0f:10:"), found


@pytest.mark.timeout(240)  # with dead nodes about, as here, it takes 15 s until an item hangs in the DHT
def test_two_homes_that_know_each_others_ids_meet_by_the_dht_where_one_router_keeps_ports() -> None:
    meet = [(nat.SYMMETRIC, nat.EASY), (nat.EASY, nat.PORT_RESTRICTED)]
    never = (nat.PORT_RESTRICTED, nat.SYMMETRIC)
    column = alone.measure(alone.WAYS["dht"], [*meet, never], looks_s=LOOKS_S)
    for pair in meet:
        assert column.found[pair] is not None, (pair, column.said[pair])
    assert any(address.startswith("198.51.100.") for address in column.observed[nat.SYMMETRIC, "a"]), (
        "who was met by the DHT did not tell where it sees us"
    )
    assert column.found[never] is None
    assert "dialled back, and neither got through" in column.said[never]
    assert "keeps ports on one side" in column.said[never]
