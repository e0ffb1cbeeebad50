"""Trees of many small files: what is asked for together, also of and by nodes that do not know that yet."""

import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.files import service
from coterie.transfer import fetch
from coterie.transfer import messages as f
from coterie.transfer.giving_session import Session
from tests.apps.files.nodes import pair, tree_of
from tests.support import run

OLD = dataclasses.replace(f.PROTOCOL, versions=(1, f.JOINED_SINCE, f.MOVED_SINCE))
FOLDERS = 120


def folders(top: Path) -> Path:
    """Small folders within each other and beside each other, with small files, and a large one."""
    rng = random.Random(5)
    for number in range(FOLDERS):
        folder = top / f"{number % 7}" / f"{number:03}"
        folder.mkdir(parents=True)
        for name in range(number % 5):
            (folder / f"{name}").write_bytes(rng.randbytes(rng.choice([0, 1, 500, 3_000, 70_000])))
    (top / "large").write_bytes(rng.randbytes(6_000_000))
    return top


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many messages of each type givers are asked with."""
    counts: Counter[str] = Counter()
    weigh = Session._weigh

    async def count(self: Session, request: Any) -> Any:
        counts[type(request).__name__] += 1
        return await weigh(self, request)

    monkeypatch.setattr(Session, "_weigh", count)
    return counts


def test_small_folders_are_asked_for_together(tmp_path: Path, heard: Counter[str]) -> None:
    async def main() -> None:
        top = folders(tmp_path / "top")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(top)
            await ben.files.get(shared.ticket, tmp_path / "copy")
        assert tree_of(tmp_path / "copy") == tree_of(top)

    run(main())
    assert heard["GetMany"] > 0
    assert sum(heard.values()) < FOLDERS / 2, heard


@pytest.mark.parametrize("old", ["the asker", "the giver"])
def test_nothing_is_asked_for_together_where_one_does_not_know_that(
    tmp_path: Path, heard: Counter[str], old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PROTOCOL", OLD if old == "the giver" else f.PROTOCOL)
    monkeypatch.setitem(fetch.opening.__kwdefaults__, "protocol", OLD if old == "the asker" else f.PROTOCOL)

    async def main() -> None:
        top = folders(tmp_path / "top")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(top)
            await ben.files.get(shared.ticket, tmp_path / "copy")
        assert tree_of(tmp_path / "copy") == tree_of(top)

    run(main())
    assert heard["GetMany"] == 0
    assert heard["GetManifest"] >= FOLDERS
