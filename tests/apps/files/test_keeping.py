"""What the content store keeps for shares, downloads and other apps: nobody has forgotten what another one needs."""

import asyncio
import secrets
from pathlib import Path

from coterie.content import Store
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.wire import Ticket
from tests.apps.files.nodes import memory_node, pair
from tests.support import run


def root_of(ticket: str) -> bytes:
    return Ticket.parse(ticket).content_id


async def begun(anna: Node, ben: Node, ticket: str, target: Path) -> str:
    """A download of ben that is paused in the middle; its id."""
    line = await ben.files.get_detached(ticket, target)
    for _ in range(10_000):
        if ben.files.partials() and ben.files.partials()[0].bytes:
            break
        await asyncio.sleep(0)
    await ben.files.pause(line.id)
    return line.id


def test_a_share_that_ends_leaves_a_download_of_the_same_content_what_it_needs(tmp_path: Path) -> None:
    async def main() -> None:
        source, twin = tmp_path / "large.bin", tmp_path / "twin.bin"
        source.write_bytes(secrets.token_bytes(20_000_000))
        twin.write_bytes(source.read_bytes())
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            transfer = await begun(anna, ben, ticket, tmp_path / "copy")
            assert root_of((await ben.files.share(twin)).ticket) == root_of(ticket)
            await ben.files.unshare(str(twin))
            await ben.collect_garbage()
            assert ben.store.root(root_of(ticket)) is not None
            await ben.files.resume(transfer)
            await ben.files.get(ticket, tmp_path / "copy")
            while ben.store.pins.of("transfer"):  # it is known where it lies only after it has come
                await asyncio.sleep(0.01)
            assert (tmp_path / "copy").read_bytes() == source.read_bytes()

            source.write_bytes(secrets.token_bytes(20_000_000))
            ticket = (await anna.files.share(source)).ticket
            cancelled = await begun(anna, ben, ticket, tmp_path / "cancelled")
            await ben.files.cancel(cancelled)
            assert ben.store.pins.of("transfer") == {}
            assert ben.store.root(root_of(ticket)) is None

    run(main())


def test_what_another_app_keeps_stays_when_its_share_ends_or_its_file_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        roots = []
        async with memory_node(network, tmp_path / "home") as anna:
            for name in ("kept", "ended"):
                (tmp_path / name).write_text(name)
                roots.append(root_of((await anna.files.share(tmp_path / name)).ticket))
            anna.store.pins.set("another", "kept", roots[:1])
            for name in ("kept", "ended"):
                await anna.files.unshare(name)
                (tmp_path / name).unlink()
            await anna.collect_garbage()
            assert [anna.store.manifest(root) is not None for root in roots] == [True, False]
        async with memory_node(network, tmp_path / "home") as anna:
            await anna.collect_garbage()
            assert anna.store.manifest(roots[0]) is not None

    run(main())


def test_pins_of_shares_and_downloads_are_made_anew_from_their_records(tmp_path: Path) -> None:
    """As after a crash between a record and its pin, and in a home of version 0.1."""

    async def main() -> None:
        network = MemoryNetwork()
        source, other = tmp_path / "large.bin", tmp_path / "other"
        source.write_bytes(secrets.token_bytes(20_000_000))
        other.write_text("other")
        async with memory_node(network, tmp_path / "anna") as anna:
            ticket = (await anna.files.share(source)).ticket
            async with memory_node(network, tmp_path / "ben") as ben:
                transfer = await begun(anna, ben, ticket, tmp_path / "copy")
                shared = await ben.files.share(other)
            with Store.open(tmp_path / "ben" / "store.db") as store:
                before = {owner: store.pins.of(owner) for owner in ("files", "transfer")}
                assert before == {
                    "files": {f"share/{shared.id}": [root_of(shared.ticket)]},
                    "transfer": {transfer: [root_of(ticket)]},
                }
                store.pins.replace("files", {"share/of-nobody": [bytes(32)]})
                store.pins.replace("transfer", {})
            async with memory_node(network, tmp_path / "ben") as ben:
                assert {owner: ben.store.pins.of(owner) for owner in ("files", "transfer")} == before

    run(main())
