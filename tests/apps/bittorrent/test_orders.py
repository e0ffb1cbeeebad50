"""What an owner does to transfers, done to torrents and to what is seeded: through the commands' own functions."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.command import commands_of
from coterie.apps.files import commands
from coterie.apps.invoke import Result, invoke
from coterie.errors import UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.bittorrent.test_torrents import node, pair, until
from tests.support import run

COMMANDS = {" ".join(command.path): command for command in commands_of("files", commands)}


async def order(node: Node, words: str, **given: Any) -> Any:
    """The result of a command of `files`, as every face gets it."""
    results = [item async for item in invoke(COMMANDS[words], node.files, given) if isinstance(item, Result)]
    return results[-1].value


def source_of(folder: Path, size: int) -> Path:
    path = folder / "large.bin"
    path.write_bytes(os.urandom(size))
    return path


def test_every_order_works_for_a_torrent(tmp_path: Path) -> None:
    async def story() -> None:
        source = source_of(tmp_path, 4_000_000)
        async with pair(tmp_path) as (anna, ben):
            link = (await anna.files.share(source, bittorrent=True)).magnet
            ben.files.limits.change(up=None, down=300_000, up_hours=None, down_hours=None)
            begun = (await ben.files.get_detached(link, tmp_path / "got")).id
            await until(lambda: ben.files.table.lines()[0].done)
            shown = await order(ben, "transfers show", transfer=begun)
            assert (shown["id"], shown["state"], shown["priority"]) == (begun, "running", "normal")
            assert shown["sources"]
            assert all(source["has_all"] for source in shown["sources"])
            assert sum(source["received"] for source in shown["sources"]) > 0
            assert shown["health"] >= 1
            assert 0 in shown["pieces"]
            assert 0 < sum(shown["pieces"]) < 100 * len(shown["pieces"])
            assert shown["rates"]
            shown = await order(ben, "transfers priority", transfer=begun, priority="high")
            assert shown["priority"] == "high"
            await order(ben, "transfers limit", transfer=begun, down="100kB/s", up="50kB/s")
            kept = tmp_path / "home-ben" / "apps" / "bittorrent" / "downloads" / f"{begun}.json"
            assert {"down": 100_000, "up": 50_000}.items() <= json.loads(kept.read_text()).items()
            assert (await order(ben, "transfers pause", transfer=begun))["did"] == "paused"
            assert [line["state"] for line in await order(ben, "transfers")] == ["paused"]
            await order(ben, "transfers limit", transfer=begun, down="0")
            ben.files.limits.change(up=None, down=0, up_hours=None, down_hours=None)
            assert (await order(ben, "transfers resume", transfer=begun))["did"] == "resumed"
            await until((tmp_path / "got").exists)
            with pytest.raises(UsageError, match="is done"):
                await until_done_then_pause(ben, begun)
            assert (await order(ben, "transfers cancel", transfer=begun))["did"] == "forgotten"
            assert await order(ben, "transfers") == []

    run(story(), 60)


async def until_done_then_pause(ben: Node, transfer: str) -> None:
    await until(lambda: ben.files.table.lines()[0].state == "done")
    await order(ben, "transfers pause", transfer=transfer)


def test_every_order_works_for_what_is_seeded(tmp_path: Path) -> None:
    async def story() -> None:
        source = source_of(tmp_path, 300_000)
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            (line,) = await order(anna, "transfers")
            assert (line["id"], line["state"], line["peer"]) == (shared.id, "seeding", "BitTorrent")
            assert line["done"] == line["size"] == shared.size
            await ben.files.get(shared.magnet, tmp_path / "one")
            assert (await order(anna, "transfers show", transfer=shared.id))["state"] == "seeding"
            assert (await order(anna, "transfers pause", transfer=shared.id))["did"] == "paused"
            assert (await anna.files.shares())[0].state == "ready; not on BitTorrent: paused"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await ben.files.get(shared.magnet, tmp_path / "two")
            assert (await order(anna, "transfers resume", transfer=shared.id))["did"] == "resumed"
            await ben.files.get(shared.magnet, tmp_path / "two")
            low = await order(anna, "transfers priority", transfer=shared.id, priority="low")
            assert low["priority"] == "low"
            limited = await order(anna, "transfers limit", transfer=shared.id, up="1MB/s")
            assert limited["id"] == shared.id
            assert (await order(anna, "transfers cancel", transfer=shared.id))["did"] == "ended"
            assert await order(anna, "transfers") == []
            (share,) = await anna.files.shares()
            assert (share.id, share.state) == (shared.id, "ready")

    run(story(), 60)


def test_a_pause_of_what_is_seeded_lasts_over_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        source = source_of(tmp_path, 1_000)
        network = MemoryNetwork()
        async with node(network, tmp_path / "home") as anna:
            shared = await anna.files.share(source, bittorrent=True)
            await order(anna, "transfers pause", transfer=shared.id)
        async with node(network, tmp_path / "home") as anna:
            assert [line["state"] for line in await order(anna, "transfers")] == ["paused"]
            await order(anna, "transfers resume", transfer=shared.id)
            again = await anna.files.share(source, bittorrent=True)
            assert again.id == shared.id

    run(story(), 60)
