"""A new key between nodes: who was taken out of a folder reads nothing later, also not at who keeps it."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from coterie.apps.folders import kept_messages as wire
from coterie.apps.folders.app import APP
from coterie.apps.folders.folder_keys import FolderKeys, kept_id, open_keys
from coterie.apps.folders.kept_store import CHUNKS, KEPT_S, KeptStore
from coterie.apps.folders.sealing import Sealing
from coterie.apps.folders.store import FoldersStore
from coterie.errors import PeerError
from coterie.node import Node
from coterie.services.data.database import Database
from coterie.services.data.quota import Quota
from coterie.testing import Cast, play, raised
from coterie.wire.frames import Message
from tests.apps.folders.test_folders import files_in, until
from tests.apps.folders.test_keepers import QUOTA, has_told

BEFORE, LATER = "written while dora was in it", "written after dora was taken out"


def keys_of(homes: Path, name: str) -> FolderKeys:
    (file,) = (homes / name / "apps/folders/keys").glob("*")
    return open_keys(file.read_bytes())


def opened(kept: Path, keys: FolderKeys) -> Iterator[bytes]:
    """What somebody with these keys reads on the disk of the keeper."""
    sealing = Sealing(keys, bytes(32), bytes)
    for file in (kept / CHUNKS).rglob("*"):
        if file.is_file():
            try:
                yield sealing.open_chunk(file.read_bytes())
            except PeerError:
                continue


def sweep(database: Path, now: float) -> None:
    """What the keeper does once a day, at another time."""
    with closing(Database(database, Quota("folders", 1 << 30))) as opened_:
        store = FoldersStore(opened_)
        (row,) = store.folders()
        KeptStore(store, row, lambda by: True, clock=lambda: now).sweep()


async def asked(node: Node, keeper: Node, folder: bytes) -> Message | None:
    """What the keeper answers to `node`, which asks with a program of its own."""
    stream = await (await node.connect(keeper.peer_id)).open_stream(wire.KEEPING)
    await stream.send(wire.AskChunks(folder, []))
    return await stream.receive()


def test_who_is_taken_out_reads_nothing_later_and_the_keeper_has_only_what_is_new_in_the_end(
    tmp_path: Path,
) -> None:
    homes = tmp_path / "homes"

    async def story(cast: Cast) -> None:
        anna, ben, carl, dora = [await cast.node(name) for name in ("anna", "ben", "carl", "dora")]
        for one, other in ((anna, ben), (anna, carl), (anna, dora), (ben, carl), (carl, dora)):
            await cast.befriend(one, other)
        here, there, doras, kept = (tmp_path / name for name in ("here", "there", "doras", "kept"))
        here.mkdir()
        await anna.folders.new(here, ["ben", "dora:read", "carl:keep"], "Projects")
        await until(lambda: all(one.folders.lines() for one in (ben, carl, dora)), "the offers")
        await carl.folders.join(carl.folders.lines()[0].name, kept, yes=False, quota=QUOTA)
        await dora.folders.join("anna/Projects", doras, yes=False)
        (here / "a.txt").write_text(BEFORE)
        await until(lambda: bool(files_in(doras)), "dora has it")
        old = keys_of(homes, "dora")
        await until(lambda: set(opened(kept, old)) == {BEFORE.encode()}, "carl has it, for her key")
        assert await asked(dora, carl, kept_id(old.folder)) == wire.Chunks([])
        anna.folders.remove_member("Projects", "dora")
        (here / "b.txt").write_text(LATER)
        await until(lambda: keys_of(homes, "ben").epoch > old.epoch, "ben has the new key")
        new = keys_of(homes, "ben")
        both = {BEFORE.encode(), LATER.encode()}
        await until(lambda: has_told(anna, 2) and both <= set(opened(kept, new)), "carl has all, sealed anew")

        with raised(PeerError, "reset"):
            await asked(dora, carl, kept_id(old.folder))
        assert keys_of(homes, "dora") == old
        assert files_in(doras) == {"a.txt": BEFORE.encode()}, "what she has stays, and nothing comes"
        assert set(opened(kept, old)) == {BEFORE.encode()}, "what was there before, and nothing else"

        await cast.stop("anna")
        await cast.stop("carl")
        for seconds in (KEPT_S + 60, 2 * KEPT_S + 120):
            sweep(homes / "carl/apps/folders/data.db", time.time() + seconds)
        assert set(opened(kept, old)) == set(), "two months later nothing is left for the old key"
        carl = await cast.node("carl")
        await ben.folders.join("anna/Projects", there, yes=False)
        files = {"a.txt": BEFORE.encode(), "b.txt": LATER.encode()}
        await until(lambda: files_in(there) == files, "all of it, from carl, by the new key")

    play(story, homes, apps=[APP], in_real_time=True)
