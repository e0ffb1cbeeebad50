"""A keeper who lies over the network: nothing of it gets into the folder, and the truth comes from others."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from blake3 import blake3

from coterie.apps.folders.app import APP
from coterie.apps.folders.book import batch
from coterie.apps.folders.kept_messages import ID_BYTES
from coterie.apps.folders.kept_store import KeptStore
from coterie.apps.folders.sealed_contents import Opening, pieces_max
from coterie.content.hashing import read_files
from coterie.content.manifest import unpack_chunks
from coterie.content.scan import FoundFile
from coterie.content.sealed import pieces
from coterie.errors import PeerError
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import files_in, until
from tests.apps.folders.test_keepers import has_told, kept_by_carl
from tests.apps.folders.test_kept import ANNA, sealing_of

DATA = b"the true content, in a chunk of its own. " * 400
Lists = list[tuple[bytes, int, int, bytes]]


def damaged(texts: list[bytes]) -> list[bytes]:
    return [text[:-1] + bytes([text[-1] ^ 1]) for text in texts]


def without(given: list[Any]) -> list[Any]:
    return []


def repeated(lists: Lists) -> Lists:
    """Each content is its first chunk, ten times: to fill the disk of who gets it."""
    return [(tag, 0, 10, ids[:ID_BYTES] * 10) for tag, _, _, ids in lists]


def endless(lists: Lists) -> Lists:
    return [(tag, 0, 1 << 40, ids) for tag, _, _, ids in lists]


@pytest.mark.parametrize(
    ("method", "lie", "said"),
    [
        ("chunks", damaged, "a chunk that is missing or damaged"),
        ("lists", repeated, "a content that is longer than it is"),
        ("lists", endless, "a content of more chunks than it can have"),
        ("lists", without, ""),
    ],
    ids=["damaged", "repeated", "endless", "no lists"],
)
def test_wrong_contents_are_not_taken_and_the_true_ones_come_from_who_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, lie: Callable[[Any], Any], said: str
) -> None:
    true: Callable[..., Any] = getattr(KeptStore, method)

    async def story(cast: Cast) -> None:
        anna, ben, _, here, _ = await kept_by_carl(cast, tmp_path)
        there = tmp_path / "there"
        expected = {"a.bin": DATA, "b.bin": DATA[::-1]}
        for name, data in expected.items():
            (here / name).write_bytes(data)
        await until(lambda: has_told(anna, 2), "carl has it")
        await until(lambda: bool(ben.folders.lines()), "the offer to ben")
        await cast.stop("anna")
        monkeypatch.setattr(KeptStore, method, lambda *args: lie(true(*args)))
        await ben.folders.join("anna/Projects", there, yes=False)
        await until(lambda: ben.folders.lines()[0].missing == 2, "ben knows that there are two")
        if said:
            await until(lambda: said in ben.folders.lines()[0].note, f"it is said: {said}")
        assert files_in(there) == {}, "nothing of it is taken"
        await cast.node("anna")
        await until(lambda: files_in(there) == expected, "all of it, from anna")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_who_drops_what_is_new_and_repeats_what_is_old_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, _, here, _ = await kept_by_carl(cast, tmp_path)
        there = tmp_path / "there"
        (here / "a.txt").write_text("first")
        await until(lambda: has_told(anna, 1), "carl has it")
        await until(lambda: bool(ben.folders.lines()), "the offer to ben")
        await ben.folders.join("anna/Projects", there, yes=False)
        await until(lambda: files_in(there) == {"a.txt": b"first"}, "ben has it")
        monkeypatch.setattr(KeptStore, "merge", lambda *_: [])
        monkeypatch.setattr(KeptStore, "batch", lambda self, replica, first: batch(self.data, b"", 0))
        (here / "a.txt").write_text("second")
        await until(lambda: files_in(there) == {"a.txt": b"second"}, "the edit, from anna herself")
        await cast.stop("anna")
        await cast.stop("ben")
        ben = await cast.node("ben")
        (there / "b.txt").write_text("by ben")
        await until(lambda: has_told(ben, 2), "carl says that he has it")
        assert files_in(there) == {"a.txt": b"second", "b.txt": b"by ben"}
        assert ben.folders.lines()[0].conflicts == 0
        await cast.node("anna")
        await until(lambda: files_in(here) == files_in(there), "anna has what carl dropped, from ben")
        assert files_in(here)["a.txt"] == b"second"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_file_of_sealed_chunks_is_as_long_as_it_is(tmp_path: Path) -> None:
    """In as many chunks as it can have, and no byte more."""
    sealing, content = sealing_of(ANNA), b"c" * 32
    (text,) = sealing.chunk(b"x")
    for size, fault in ((3, "under the name of another"), (2, "longer than it is")):
        opening = Opening(sealing, {content: blake3(text).digest() * 3}, {content: size}, tmp_path)
        opening.take([text] * 3)
        assert fault in opening.fault
        assert opening.close() == {}
    assert list(tmp_path.iterdir()) == []
    opening = Opening(sealing, {content: blake3(text).digest()}, {content: 1}, tmp_path)
    with pytest.raises(PeerError, match="gives no chunks"):
        opening.take([])
    assert pieces_max(0) >= 1
    for size in (1, 1_000, 5_000, 300_000, 3_000_000):
        data = Random(size).randbytes(size)
        assert sum(len(pieces(len(chunk))) for chunk in chunks_of(data, tmp_path)) <= pieces_max(size)


def chunks_of(data: bytes, place: Path) -> list[bytes]:
    """As a file with it is cut."""
    path = place / "file"
    path.write_bytes(data)
    found = FoundFile(str(place), path.name, 0, 0, 0, 0, False)
    found.update(path.stat())
    ids = [
        chunk
        for read in read_files([found], 1, Event())
        for file in read.files
        for chunk in unpacked(file.chunks)
    ]
    path.unlink()
    sizes = [size for _, size in ids]
    return [data[at : at + size] for at, size in zip(accumulate([0, *sizes]), sizes, strict=False)]


def unpacked(chunks: bytes | None) -> list[tuple[bytes, int]]:
    return unpack_chunks(chunks or b"")
