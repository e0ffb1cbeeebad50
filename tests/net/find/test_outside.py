"""Who reaches a computer from elsewhere, and what would change that: one judgement for all that is known."""

from typing import Any

import pytest

from coterie.net.find.outside import Facts, judge, unreached

HOME, PUBLIC, IPV6 = "192.168.1.7:4433", "203.0.113.5:4433", "[2a0f:10::7]:4433"
RELAY = "http://198.51.100.2:4433"


@pytest.mark.parametrize(
    ("facts", "reached", "because"),
    [
        ({"own": []}, "no", "on no network"),
        ({"own": ["127.0.0.1:4433"]}, "no", "on no network"),
        ({"own": ["[fe80::7]:4433", "169.254.1.7:4433", "127.0.0.1:4433"]}, "no", "on the same cable"),
        ({"own": [PUBLIC], "level": "local"}, "no", "reach` is local"),
        ({"own": [HOME, PUBLIC]}, "yes", "an address of the internet"),
        ({"own": [HOME], "mapped": [PUBLIC]}, "yes", f"lets others in at {PUBLIC}"),
        ({"own": [HOME], "relays": [RELAY]}, "yes", f"a contact's relay, {RELAY}"),
        ({"own": [HOME]}, "no", "lets nobody in"),
        ({"own": [HOME], "nat": "varies"}, "no", "lets nobody in"),
        ({"own": [HOME], "nat": "same"}, "perhaps", "calls at the same time"),
        ({"own": [HOME, IPV6]}, "perhaps", "IPv6"),
        ({"own": [HOME], "level": "internet", "listens": True}, "perhaps", "keeps ports"),
        ({"own": [HOME], "level": "internet", "directory": "UDP is blocked"}, "no", "UDP is blocked"),
    ],
)
def test_who_gets_in(facts: dict[str, Any], reached: str, because: str) -> None:
    found = judge(Facts(**{"level": "circle", **facts}))
    assert found.reached == reached
    assert because in found.because
    assert bool(found.change) is (reached != "yes")


def test_what_would_change_it_is_said_and_the_level_is_offered_where_it_adds_a_way() -> None:
    found = judge(Facts(level="circle", own=[HOME], mapping="none: the router 192.168.1.1 maps no port"))
    assert "maps no port" in found.change
    assert HOME in found.change
    assert "config set reach internet" in found.change
    assert found.text().startswith("from outside nobody reaches this computer, because ")
    assert found.offers
    assert not judge(Facts(level="internet", own=[HOME])).offers
    assert not judge(Facts(level="local", own=[HOME])).offers
    assert not judge(Facts(level="circle", own=[PUBLIC])).offers
    assert "IPv6" not in judge(Facts(level="circle", own=[HOME, IPV6])).change


@pytest.mark.parametrize(
    ("tried", "says"),
    [
        ([], "No address of it is known"),
        ([HOME], "inside a home"),
        ([HOME, PUBLIC], "a router in between"),
        ([HOME, RELAY], "not at its relay either"),
    ],
)
def test_who_was_not_reached_is_told_what_would_help(tried: list[str], says: str) -> None:
    assert says in unreached(tried)
