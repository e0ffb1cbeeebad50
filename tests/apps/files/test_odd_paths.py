"""Shares that lie in, and targets that have, paths that are no UTF-8."""

import os
from pathlib import Path

from coterie.net import MemoryNetwork
from tests.apps.files.nodes import memory_node
from tests.support import run


def test_paths_that_are_no_utf8_are_shared_and_got(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/par\xffent"))
    source = odd / "source"
    source.mkdir(parents=True)
    (source / "\N{LATIN SMALL LETTER E WITH ACUTE}.txt").write_bytes(b"hello")

    async def main() -> None:
        network = MemoryNetwork()
        homes = tmp_path / "home-anna", tmp_path / "home-ben"
        async with memory_node(network, homes[0]) as anna, memory_node(network, homes[1]) as ben:
            ticket = (await anna.files.share(source)).ticket
            for target in (odd / "copy", odd / os.fsdecode(b"na\xfeme")):
                received = await ben.files.get(ticket, target)
                assert received.path == str(target)
                assert os.listdir(target) == ["\N{LATIN SMALL LETTER E WITH ACUTE}.txt"]
        async with memory_node(network, homes[0]) as anna, memory_node(network, homes[1]) as ben:
            assert [share.path for share in await anna.files.shares()] == [str(source)]
            (target / os.listdir(target)[0]).unlink()
            again = await ben.files.get(ticket, target)
            assert (again.is_update, again.back, again.replaced) == (True, os.listdir(target), 0)

    run(main())
