"""A new `get` waits for a giver that is off, as a running one does."""

import asyncio
from pathlib import Path

import pytest

from coterie.apps.command import Progress
from coterie.errors import LimitExceeded, NotFound, TransportError
from coterie.net import MemoryNetwork
from coterie.transfer import wanted
from tests.apps.files.nodes import memory_node
from tests.support import run


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "RETRY_S", (0.005,))


def source(folder: Path) -> Path:
    (folder / "note").write_text("hello")
    return folder / "note"


def test_a_detached_get_waits_and_begins_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            ticket = (await anna.files.share(source(tmp_path))).ticket
        async with memory_node(network, tmp_path / "ben") as ben:
            said = await ben.files.get_detached(ticket, tmp_path / "copy")
            assert "as soon as it is there and" in said.text()
            (line,) = await ben.files.transfers()
            assert (line.id, line.state, line.path) == (said.id, "waiting", str(tmp_path / "copy"))
        async with memory_node(network, tmp_path / "ben") as ben:  # both were restarted
            async with memory_node(network, tmp_path / "anna"):
                while (await ben.files.transfers())[0].state != "done":
                    await asyncio.sleep(0)
            (line,) = await ben.files.transfers()
            assert line.id == said.id
        assert (tmp_path / "copy").read_text() == "hello"

    run(main())


def test_a_get_waits_where_it_is_told_to_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        steps: list[Progress] = []
        async with memory_node(network, tmp_path / "anna") as anna:
            ticket = (await anna.files.share(source(tmp_path))).ticket
        async with memory_node(network, tmp_path / "ben") as ben:
            with pytest.raises(TransportError):
                await ben.files.get(ticket, tmp_path / "copy")
            with pytest.raises(TransportError):
                await ben.files.get_detached(ticket, tmp_path / "copy", wait=False)
            assert await ben.files.transfers() == []
            getting = asyncio.ensure_future(
                ben.files.get(ticket, tmp_path / "copy", wait=True, progress=steps.append)
            )
            while len(steps) < 2:
                await asyncio.sleep(0)
            async with memory_node(network, tmp_path / "anna"):
                await getting
            assert steps[0].phase == "waiting"
            assert "next try in" in steps[0].note
        assert (tmp_path / "copy").read_text() == "hello"

    run(main())


def test_what_waits_can_be_paused_and_cancelled_and_an_end_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            shared = await anna.files.share(source(tmp_path))
            gone = (await anna.files.share(source(tmp_path).parent / "note", name="gone")).ticket
            other = tmp_path / "other"
            other.write_text("other")
            ended = await anna.files.share(other)
            await anna.files.unshare(ended.id)
        async with memory_node(network, tmp_path / "ben") as ben:
            first = await ben.files.get_detached(shared.ticket, tmp_path / "a")
            second = await ben.files.get_detached(gone, tmp_path / "b")
            third = await ben.files.get_detached(ended.ticket, tmp_path / "c")
            await ben.files.pause(first.id)
            await ben.files.cancel(second.id)
            async with memory_node(network, tmp_path / "anna"):
                while {t.id: t.state for t in await ben.files.transfers()}[third.id] != "failed":
                    await asyncio.sleep(0)
                states = {t.id: (t.state, t.note) for t in await ben.files.transfers()}
                assert states[first.id] == ("paused", "")
                assert "does not share this" in states[third.id][1]
                assert second.id not in states
                await ben.files.resume(first.id)
                while {t.id: t.state for t in await ben.files.transfers()}[first.id] != "done":
                    await asyncio.sleep(0)
            with pytest.raises(NotFound):
                await ben.files.pause(second.id)
        assert (tmp_path / "a").read_text() == "hello"
        assert not (tmp_path / "b").exists()

    run(main())


def test_those_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "WANTED_MAX", 2)

    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            ticket = (await anna.files.share(source(tmp_path))).ticket
        async with memory_node(network, tmp_path / "ben") as ben:
            for name in ("a", "b"):
                await ben.files.get_detached(ticket, tmp_path / name)
            with pytest.raises(LimitExceeded, match="2 transfers wait"):
                await ben.files.get_detached(ticket, tmp_path / "c")

    run(main())
