"""What goes to others and comes from them in live folders keeps to the limits of the computer, as transfers do."""

import asyncio
from pathlib import Path
from random import Random

from coterie.apps.folders import pacing
from coterie.apps.folders.app import APP
from coterie.apps.folders.messages import SMALL_BYTES_MAX
from coterie.content.limit import BURST_S, ByteLimit, Rates
from coterie.testing import Cast, play
from coterie.transfer.limits import Limits
from tests.apps.folders.test_folders import files_in, pair, until
from tests.apps.folders.test_keepers import kept_by_carl

RATE = 400_000  # bytes/s
LARGE, SMALL = 700_000, 40_000


def data_of(size: int, seed: int = 0) -> bytes:
    return Random(f"{seed} {size}").randbytes(size)


def test_a_message_goes_whole_and_the_next_waits_for_it() -> None:
    async def story() -> None:
        limit, loop = ByteLimit(1_000_000), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(3):
            await pacing.wait(limit)
            pacing.went(limit, 400_000)
        assert 2 * 0.4 - BURST_S <= loop.time() - began < 10
        pacing.went(limit, 100_000_000)
        loop.call_later(0.1, setattr, limit, "bytes_per_s", 0.0)
        await pacing.wait(limit)  # the limit was taken back meanwhile
        assert loop.time() - began < 10

    asyncio.run(story())


def test_what_the_owner_sets_holds_for_all_apps(tmp_path: Path) -> None:
    rates = Rates()
    Limits(tmp_path / "limits.json", rates).change(up=5, down=7, up_hours=None, down_hours=None)
    assert (rates.up.bytes_per_s, rates.down.bytes_per_s) == (5, 7)


def test_messages_are_small_where_the_rate_is() -> None:
    assert pacing.bytes_in_one(ByteLimit(), 1_000_000) == 1_000_000
    assert pacing.bytes_in_one(ByteLimit(100_000), 1_000_000) == pacing.MESSAGE_S * 100_000
    assert pacing.bytes_in_one(ByteLimit(10_000_000), 1_000_000) == 1_000_000
    assert pacing.bytes_in_one(ByteLimit(1), 1_000_000) == pacing.MESSAGE_BYTES_MIN


def test_contents_come_no_faster_than_either_side_allows(tmp_path: Path) -> None:
    """A large one, and many that are given at once."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        loop = asyncio.get_running_loop()
        for seed, limit in enumerate((anna.blobs.rates.up, ben.blobs.rates.down)):
            limit.bytes_per_s = RATE
            began = loop.time()
            (here / f"large {seed}").write_bytes(data_of(LARGE, seed))
            await until(lambda: files_in(there) == files_in(here), "the large one")
            assert loop.time() - began > (LARGE / RATE - BURST_S) * 0.8
            limit.bytes_per_s = 0.0
            for path in here.iterdir():
                if path.is_file():
                    path.unlink()
            await until(lambda: files_in(there) == {}, "it goes")
        anna.blobs.rates.up.bytes_per_s = RATE
        began = loop.time()
        for number in range(LARGE // SMALL):
            (here / f"{number}").write_bytes(data_of(SMALL + number))
        await until(lambda: files_in(there) == files_in(here), "the small ones")
        assert loop.time() - began > (LARGE - SMALL_BYTES_MAX) / RATE - BURST_S

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_is_kept_for_others_goes_no_faster(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, carl, here, _ = await kept_by_carl(cast, tmp_path)
        loop = asyncio.get_running_loop()
        anna.blobs.rates.up.bytes_per_s = RATE
        began = loop.time()
        (here / "large").write_bytes(data_of(3 * LARGE))
        await until(lambda: carl.folders.lines()[0].size > 3 * LARGE, "carl has it")
        await until(lambda: carl.folders.lines()[0].missing == 0, "and all of it")
        assert loop.time() - began > LARGE / RATE, "the first message goes at once"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
