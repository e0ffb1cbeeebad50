"""Who answers the questions of a whole computer: the exit, or its own servers; what the kernel learns of it."""

import pytest

from coterie.apps.internet import exit_names
from coterie.apps.internet.exit_names import KNOWN_S_MIN, Names, resolve_at_exit
from coterie.apps.internet.exit_rules import Split, read_rules
from coterie.errors import PeerError, TransportError
from coterie.wire import dns
from tests.support import run

Learnt = list[tuple[str, int]]


def answered(message: bytes, address: bytes) -> bytes:
    """With one address."""
    return dns.answer(dns.read_question(message), [dns.Record(dns.A, address, 5)])


async def at_exit(message: bytes) -> bytes:
    """What the exit answers."""
    return answered(message, b"\1\1\1\1")


async def here(message: bytes, *, is_behind: bool = False) -> bytes:
    """What a server of this computer answers; for an exit any, for a whole computer one behind it."""
    return answered(message, b"\2\2\2\2" if is_behind else b"\x0a\0\0\1")


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of this computer are not asked."""
    monkeypatch.setattr(exit_names, "ask_servers", here)


def ask(split: Split, name: str, by_exit: exit_names.Ask = at_exit) -> tuple[int, Learnt, Learnt]:
    """The code and addresses of the answer, and what the kernel learnt before."""
    learnt: Learnt = []

    async def learn(addresses: Learnt) -> None:
        learnt.extend(addresses)

    message = run(Names(split, by_exit, learn).ask(dns.question(7, name, dns.A)))
    return message[3] & 15, dns.read_addresses(message), learnt


def test_names_are_asked_at_the_exit_but_for_those_that_rules_leave_out() -> None:
    split = Split(direct=read_rules(["example.com"]))
    assert ask(split, "other.org") == (dns.NO_ERROR, [("1.1.1.1", 5)], [])
    learnt = [("2.2.2.2", KNOWN_S_MIN)]
    assert ask(split, "www.example.com") == (dns.NO_ERROR, [("2.2.2.2", 5)], learnt)


def test_with_only_some_hosts_by_the_exit_all_others_are_asked_here() -> None:
    split = Split(only=read_rules(["example.com"]))
    assert ask(split, "other.org") == (dns.NO_ERROR, [("2.2.2.2", 5)], [])
    assert ask(split, "example.com") == (dns.NO_ERROR, [("1.1.1.1", 5)], [("1.1.1.1", KNOWN_S_MIN)])


def test_an_exit_that_is_gone_is_never_replaced_by_a_server_here() -> None:
    async def gone(message: bytes) -> bytes:
        raise TransportError("no exit was reached")

    assert ask(Split(), "other.org", gone) == (dns.SERVER_FAILURE, [], [])


def test_rubbish_of_an_exit_is_a_failure() -> None:
    async def rubbish(message: bytes) -> bytes:
        return b"\0" * 11

    assert ask(Split(only=read_rules(["a.org"])), "a.org", rubbish) == (dns.SERVER_FAILURE, [], [])


def test_an_exit_gives_out_no_closed_name_and_no_closed_address() -> None:
    def said(name: str, *, name_is_open: bool, address_is_open: bool) -> int:
        async def is_open(asked: str, found: list[str]) -> bool:
            assert asked == name
            return address_is_open if found else name_is_open

        return run(resolve_at_exit(dns.question(7, name, dns.A), is_open))[3] & 15

    assert said("a.org", name_is_open=True, address_is_open=True) == dns.NO_ERROR
    assert said("a.org", name_is_open=True, address_is_open=False) == dns.REFUSED
    assert said("printer.local", name_is_open=False, address_is_open=True) == dns.REFUSED
    with pytest.raises(PeerError):
        run(resolve_at_exit(b"rubbish", lambda name, found: here(b"")))  # type: ignore[arg-type, return-value]
