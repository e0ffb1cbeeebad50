"""Lines of odd kinds between real nodes, small: the whole ones run by hand, `python -m tests.lab line NAME...`."""

from dataclasses import replace

import pytest

from tests.lab import lines


def test_a_line_as_slow_as_a_modem_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk takes longer than silence may last in a session."""
    monkeypatch.setitem(
        lines.CASES, "modem", replace(lines.CASES["modem"], mbit_per_s=0.064, file_bytes=100_000)
    )
    assert lines.measure("modem").ratio < 2


def test_a_round_trip_of_five_seconds_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lines.CASES, "very-far", replace(lines.CASES["very-far"], file_bytes=10_000))
    assert lines.measure("very-far").took_s < 60


@pytest.mark.parametrize("name", ["small-packets", "middle-packets"])
def test_a_router_that_swallows_large_packets_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No ICMP says so: what is sent is repeated and never acknowledged."""
    monkeypatch.setitem(lines.CASES, name, replace(lines.CASES[name], file_bytes=20_000_000))
    assert lines.measure(name).took_s < 20
