"""Which browsers may use the page: let in once, forgotten when they are not used, gone when they are removed."""

from pathlib import Path

import pytest

from coterie.control.browsers import (
    BROWSERS_MAX,
    DISUSE_S,
    KEY_LASTS_S,
    KEYS_MAX,
    Browsers,
    say_agent,
)
from coterie.errors import LimitExceeded, NotFound

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def browsers(tmp_path: Path, clock: Clock) -> Browsers:
    return Browsers(tmp_path / "browsers.json", clock)


def opened(browsers: Browsers, agent: str = FIREFOX) -> str:
    found = browsers.redeem(browsers.new_key(), agent)
    assert found is not None
    return found[1]


def test_a_key_opens_once_and_the_secret_stays_good(browsers: Browsers, tmp_path: Path) -> None:
    key = browsers.new_key()
    first = browsers.redeem(key, FIREFOX)
    assert first is not None
    assert browsers.redeem(key, FIREFOX) is None
    browser, secret = first
    assert browser.name == "Firefox on Linux"
    assert browser.may("anything")
    assert browsers.find(secret) == browser
    assert browsers.find(secret + "x") is None
    assert secret not in (tmp_path / "browsers.json").read_text()
    assert Browsers(tmp_path / "browsers.json", Clock()).find(secret) == browser


def test_a_key_lasts_a_minute(browsers: Browsers, clock: Clock) -> None:
    key, late = browsers.new_key(), browsers.new_key()
    clock.now += KEY_LASTS_S
    assert browsers.redeem(key, "") is not None
    clock.now += 0.001
    assert browsers.redeem(late, "") is None


def test_of_too_many_keys_the_oldest_is_void(browsers: Browsers) -> None:
    first, *others = [browsers.new_key() for _ in range(KEYS_MAX + 1)]
    assert browsers.redeem(first, "") is None
    assert all(browsers.redeem(key, "") for key in others)


def test_a_browser_that_is_not_used_is_forgotten(browsers: Browsers, clock: Clock) -> None:
    secret = opened(browsers)
    clock.now += DISUSE_S
    assert browsers.find(secret) is not None
    clock.now += DISUSE_S
    assert browsers.find(secret) is not None
    clock.now += DISUSE_S + 1
    assert browsers.find(secret) is None
    assert browsers.all() == []


def test_who_is_removed_by_another_process_is_out_at_once(
    browsers: Browsers, tmp_path: Path, clock: Clock
) -> None:
    secret, other = opened(browsers), opened(browsers)
    browser = browsers.find(secret)
    assert browser is not None
    Browsers(tmp_path / "browsers.json", clock).remove(browser.id)
    assert browsers.find(secret) is None
    assert browsers.still(browser) is None
    assert browsers.find(other) is not None


def test_two_of_one_name_are_told_apart_by_their_ids(browsers: Browsers) -> None:
    opened(browsers), opened(browsers)
    with pytest.raises(NotFound, match="ids"):
        browsers.remove("Firefox on Linux")
    assert browsers.remove(browsers.all()[0].id)
    assert browsers.remove("Firefox on Linux")


def test_there_is_room_for_so_many(browsers: Browsers) -> None:
    for _ in range(BROWSERS_MAX):
        opened(browsers)
    with pytest.raises(LimitExceeded):
        opened(browsers)


def test_a_damaged_file_lets_nobody_in(browsers: Browsers, tmp_path: Path) -> None:
    secret = opened(browsers)
    (tmp_path / "browsers.json").write_bytes(b"{")
    assert browsers.find(secret) is None


def test_few_rights_are_few(browsers: Browsers) -> None:
    found = browsers.redeem(browsers.new_key("phone", ("look",)), "")
    assert found is not None
    assert found[0].name == "phone"
    assert found[0].may("look")
    assert not found[0].may("answer")
    assert not found[0].may("")


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
            "Chromium on Android",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Safari/604.1",
            "Safari on iPhone",
        ),
        ("", "a browser"),
    ],
)
def test_what_a_browser_is_called(agent: str, said: str) -> None:
    assert say_agent(agent) == said
