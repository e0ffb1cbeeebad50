"""Contents of live folders between nodes: what comes is what was named, from all who have it, for who may read."""

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App
from coterie.apps.folders import content as c
from coterie.apps.folders.membership import resource_of
from coterie.apps.folders.messages import PROTOCOL, SMALL_BYTES, SMALL_BYTES_MAX, Wanted, check
from coterie.content import Store
from coterie.content import manifest as m
from coterie.content.builder import build_blob
from coterie.content.chunker import pack_small
from coterie.content.store import KnownFile
from coterie.errors import AccessDenied, CoterieError, NotFound, PeerError
from coterie.testing import Cast, play

FOLDER = b"f" * 16


class Giver:
    """An app with nothing but contents."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.contents: c.FolderContents

    async def start(self) -> None:
        self.contents = c.FolderContents(
            self.context.me.peer_id,
            self.context.blobs.store,
            self.context.access,
            self.context.blobs.rates.up,
        )
        self.context.net.register(c.CONTENTS, self.contents.handle)

    async def close(self) -> None:
        self.contents.close()


APP = App(
    name="contentstest",
    summary="Gives contents.",
    create="tests.apps.folders.test_content:Giver",
    commands="tests.apps.folders.test_content",
    kinds=(ResourceKind("folders", Verb.READ, "contents"),),
)


def known(store: Store, path: Path, data: bytes) -> tuple[bytes, bytes]:
    """A file with `data`, which the content store knows: (content id, packed chunks)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    packed = pack_small(data) if len(data) <= 128 << 10 else cut(data)
    status = path.stat()
    store.add_locations(
        [KnownFile(str(path), len(data), status.st_mtime_ns, status.st_ino, status.st_dev, packed)]
    )
    return build_blob(m.unpack_chunks(packed), lambda node, raw: None).id, packed


def cut(data: bytes) -> bytes:
    return b"".join(pack_small(data[at : at + (64 << 10)]) for at in range(0, len(data), 64 << 10))


def contents_of(seed: int) -> list[bytes]:
    """An empty one, some small, and one so large that its chunks need a node of their own."""
    random = Random(seed)
    sizes = (0, 1, 1000, 100_000, 40 * (64 << 10))
    return [random.randbytes(size) for size in sizes]


def test_contents_come_verified_under_their_ids(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        giver, taker = anna.contentstest, ben.contentstest
        store = giver.context.blobs.store
        datas = contents_of(1)
        table = dict(known(store, tmp_path / "there" / str(i), data) for i, data in enumerate(datas))
        gathered = await giver.contents.gather(FOLDER, table, [*table, b"x" * 32])
        assert gathered.missing == (b"x" * 32,)
        assert (gathered.files, gathered.size) == (len(datas), sum(map(len, datas)))
        fetch = c.ContentFetch(taker.context, FOLDER, tmp_path / "arrived")
        with pytest.raises((AccessDenied, NotFound)):  # nobody said that ben may read it
            await fetch.run(gathered.root, [anna.peer_id], list(table))
        cast.permit(anna, ben, Verb.READ, resource_of(FOLDER))
        arrived = await fetch.run(gathered.root, [anna.peer_id], list(table))
        assert {content: one.path.read_bytes() for content, one in arrived.items()} == dict(
            zip(table, datas, strict=True)
        )
        assert {content: one.chunks for content, one in arrived.items()} == table
        await fetch.close()
        assert not list((tmp_path / "arrived").rglob("*"))
        assert taker.context.blobs.store.root(gathered.root) is None

    play(story, tmp_path, apps=[APP], in_real_time=True)


def test_a_content_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        giver, taker = anna.contentstest, ben.contentstest
        (right, _), (_, wrong_chunks) = (
            known(giver.context.blobs.store, tmp_path / "there" / name, name.encode())
            for name in ("one", "two")
        )
        gathered = await giver.contents.gather(FOLDER, {right: wrong_chunks}, [right])
        cast.permit(anna, ben, Verb.READ, resource_of(FOLDER))
        fetch = c.ContentFetch(taker.context, FOLDER, tmp_path / "arrived")
        with pytest.raises(PeerError, match="name of another"):
            await fetch.run(gathered.root, [anna.peer_id], [right])
        await fetch.close()

    play(story, tmp_path, apps=[APP], in_real_time=True)


def test_who_may_no_longer_read_gets_no_more(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        giver, taker = anna.contentstest, ben.contentstest
        content, chunks = known(giver.context.blobs.store, tmp_path / "there" / "one", b"secret")
        gathered = await giver.contents.gather(FOLDER, {content: chunks}, [content])
        cast.permit(anna, ben, Verb.READ, resource_of(FOLDER))
        anna.access.policy.withdraw(resource_of(FOLDER))
        anna.access.changed()
        fetch = c.ContentFetch(taker.context, FOLDER, tmp_path / "arrived")
        with pytest.raises(CoterieError):
            await fetch.run(gathered.root, [anna.peer_id], [content])
        await fetch.close()

    play(story, tmp_path, apps=[APP], in_real_time=True)


def test_trees_that_are_given_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "GIVEN_MAX", 2)

    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        giver, taker = anna.contentstest, ben.contentstest
        cast.permit(anna, ben, Verb.READ, resource_of(FOLDER))
        store = giver.context.blobs.store
        files = [known(store, tmp_path / "there" / str(i), b"%d" % i) for i in range(3)]
        roots = [
            (await giver.contents.gather(FOLDER, {content: chunks}, [content])).root
            for content, chunks in files
        ]
        fetch = c.ContentFetch(taker.context, FOLDER, tmp_path / "arrived")
        with pytest.raises(NotFound):
            await fetch.run(roots[0], [anna.peer_id], [files[0][0]])
        await fetch.close()
        fetch = c.ContentFetch(taker.context, FOLDER, tmp_path / "arrived")
        assert set(await fetch.run(roots[2], [anna.peer_id], [files[2][0]])) == {files[2][0]}
        await fetch.close()

    play(story, tmp_path, apps=[APP], in_real_time=True)


def test_small_contents_are_given_at_once_and_verified(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        datas = [b"", b"small", os.urandom(SMALL_BYTES), os.urandom(SMALL_BYTES + 1)]
        table = dict(known(store, tmp_path / "there" / str(i), data) for i, data in enumerate(datas))
        given = dict(c.read_small(store, table))
        assert list(given.values()) == datas[:3]
        (tmp_path / "arrived").mkdir()
        arrived = c.write_small(tmp_path / "arrived", given)
        assert {content: one.path.read_bytes() for content, one in arrived.items()} == given
        assert all(table[content] == one.chunks for content, one in arrived.items())
        with pytest.raises(PeerError, match="name of another"):
            c.write_small(tmp_path / "arrived", {next(iter(given)): b"something else"})


def test_no_more_is_given_at_once_than_fits_an_answer(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        files = [known(store, tmp_path / "there" / str(i), os.urandom(SMALL_BYTES)) for i in range(12)]
        given = c.read_small(store, dict(files))
        assert sum(len(data) for _, data in given) <= SMALL_BYTES_MAX
        assert 0 < len(given) < 12
        wanted = Wanted(bytes(32), 0, 0, [bytes(32)] * 4096, tuple(given))
        check(wanted)
        assert len(PROTOCOL.encode(wanted)) < PROTOCOL.frame_bytes_max
        with pytest.raises(PeerError):
            check(Wanted(bytes(32), 0, 0, [], ((bytes(32), bytes(SMALL_BYTES + 1)),)))


def test_known_chunks_make_a_file_and_unknown_ones_none(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        _, chunks = known(store, tmp_path / "there", os.urandom(200_000))
        assert c.write_known(store, chunks, tmp_path / "a" / "copy")
        assert (tmp_path / "a" / "copy").read_bytes() == (tmp_path / "there").read_bytes()
        assert not c.write_known(store, pack_small(b"never seen"), tmp_path / "a" / "other")
        assert not (tmp_path / "a" / "other").exists()
