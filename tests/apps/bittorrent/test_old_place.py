"""What version 0.1 kept of torrents in the folder of `files` goes on, whatever interrupted its move."""

import json
import os
from pathlib import Path

import pytest

from coterie.apps.bittorrent import old_place
from coterie.apps.bittorrent.old_place import take_over
from coterie.errors import StorageError
from coterie.net import MemoryNetwork
from tests.apps.bittorrent.test_torrents import contents, fill, node, until
from tests.support import run

NEW_FIELDS = {"down", "up", "priority", "state", "note"}


def put_back(home: Path) -> None:
    """Make of a home of now one of version 0.1, as far as torrents go."""
    now, then = home / "apps" / "bittorrent", home / "apps" / "files"
    for name in old_place.FOLDERS:
        os.replace(now / name, then / name)
    for path in (then / "seeds").glob("*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in NEW_FIELDS}))
    for path in (then / "downloads").glob("*.json"):
        record = json.loads(path.read_text())
        left_out = NEW_FIELDS - {"state", "note"}
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in left_out}))


def test_seeds_and_downloads_of_version_0_1_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        network = MemoryNetwork()
        async with node(network, tmp_path / "anna") as anna:
            shared = await anna.files.share(source, bittorrent=True)
            torrent = tmp_path / "photos.torrent"
            torrent.write_bytes(Path(shared.torrent).read_bytes())
        async with node(network, tmp_path / "ben") as ben:
            begun = await ben.files.get_detached(str(torrent), tmp_path / "got")
            await until(lambda: list(tmp_path.glob(".coterie-partial*")))
        put_back(tmp_path / "anna")
        put_back(tmp_path / "ben")
        async with node(network, tmp_path / "anna") as anna, node(network, tmp_path / "ben") as ben:
            assert (await anna.bittorrent.magnet("photos")).magnet == shared.magnet
            assert [line.state for line in await anna.files.transfers()] == ["seeding"]
            got = await ben.files.get(shared.magnet, tmp_path / "got")
            assert got.id == begun.id
            assert contents(Path(got.path)) == contents(source)
        for home in (tmp_path / "anna", tmp_path / "ben"):
            assert not [name for name in old_place.FOLDERS if (home / "apps" / "files" / name).exists()]

    run(story(), 60)


def test_a_move_that_was_cut_off_goes_on_and_what_is_there_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "files", tmp_path / "bittorrent"
    for name in old_place.FOLDERS:
        (old / name).mkdir(parents=True)
        (old / name / "a.json").write_text("old")
        (old / name / "b.json").write_text("old")
    (new / "seeds").mkdir(parents=True)
    (new / "seeds" / "a.json").write_text("new")
    take_over(new, old)
    take_over(new, old)
    assert sorted(path.name for path in (new / "torrents").iterdir()) == ["a.json", "b.json"]
    assert (new / "seeds" / "a.json").read_text() == "new"
    assert (new / "seeds" / "b.json").read_text() == "old"
    assert (old / "seeds" / "a.json").read_text() == "old"  # nothing is deleted
    assert not (old / "downloads").exists()


def test_a_home_without_torrents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bittorrent").mkdir()
    take_over(tmp_path / "bittorrent", tmp_path / "files")
    assert os.listdir(tmp_path / "bittorrent") == []


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    old, new = tmp_path / "files", tmp_path / "bittorrent"
    (old / "seeds").mkdir(parents=True)
    (old / "seeds" / "a.json").write_text("old")
    new.mkdir()
    (new / "seeds").write_text("a file where a folder is to be")
    with pytest.raises(StorageError, match="cannot be moved"):
        take_over(new, old)
