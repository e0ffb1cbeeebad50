"""Pictures of a phone in a live folder: by the date they were taken, none twice, on all computers."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coterie.apps.folders.app import APP
from coterie.content.names import PARTIAL_PREFIX
from coterie.control.browsers import Browser
from coterie.errors import NotFound, StorageError
from coterie.node import Node
from coterie.testing import Cast, play, raised
from coterie.web.arrivals import Arrivals, Finish
from coterie.web.camera import landing_place, put_away, taken_on
from coterie.web.uploads import UploadFolder
from coterie.web.uploads.rules import Named
from tests.apps.folders.test_folders import files_in, pair, until
from tests.web.uploads.serve import BATCH

TODAY = date(2026, 11, 28)


def a_picture(*dates: str, words: bytes = b"red") -> bytes:
    """The beginning of a JPEG with these dates in its Exif part."""
    return b"\xff\xd8\xff\xe1\x00\x99Exif\0\0MM\0*" + b"".join(one.encode() + b"\0" for one in dates) + words


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("IMG_1.jpg", a_picture("2024:03:09 10:11:12"), date(2024, 3, 9)),
        (
            "IMG_20200101_101112.jpg",
            a_picture("2025:01:01 00:00:00", "2024:12:31 23:59:59"),
            date(2024, 12, 31),
        ),
        ("IMG_20240309_101112.jpg", b"\xff\xd8", date(2024, 3, 9)),
        ("2024-03-09 10.11.12.mp4", b"", date(2024, 3, 9)),
        ("VID-20240309-WA0001.mp4", b"", date(2024, 3, 9)),
        ("IMG_1.jpg", a_picture("2024:13:09 10:11:12"), None),
        ("IMG_1.jpg", b"2024:03:09 10:11:12\0", None),
        ("12345202403091.jpg", b"", None),
    ],
)
def test_when_a_picture_was_taken(name: str, head: bytes, expected: date | None) -> None:
    assert taken_on(name, head) == expected


def test_pictures_get_their_place_and_none_is_there_twice(tmp_path: Path) -> None:
    place = landing_place(tmp_path)
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "best.jpg").write_bytes(a_picture("2024:03:09 10:11:12", words=b"known"))
    (tmp_path / "2024" / "03").mkdir(parents=True)
    (tmp_path / "2024" / "03" / "1.jpg").write_bytes(b"another")
    (place / "trip").mkdir(parents=True)
    for name, data in (
        ("1.jpg", a_picture("2024:03:09 10:11:12")),
        ("2.jpg", a_picture("2024:03:09 10:11:12")),
        ("trip/3.jpg", a_picture("2024:03:09 10:11:12", words=b"known")),
        ("trip/4.png", b"no date"),
    ):
        (place / name).write_bytes(data)
    landed = [str(place / name) for name in ("1.jpg", "2.jpg", "trip")]
    assert put_away(landed, tmp_path, TODAY) == (2, 2)
    assert {*files_in(tmp_path)} == {"album/best.jpg", "2024/03/1.jpg", "2024/03/1 (2).jpg", "2026/11/4.png"}
    assert put_away(landed, tmp_path, TODAY) == (0, 0), "asked again after a crash"
    assert not any(path.name.startswith(PARTIAL_PREFIX) for path in tmp_path.iterdir())


def arrivals_of(node: Node, folder: UploadFolder, camera: str) -> Arrivals:
    phones = SimpleNamespace(camera_of=lambda phone: camera if phone == "1" else "")
    services = {"folders": node.service("folders"), "phone": phones}
    known = SimpleNamespace(service=services.__getitem__)
    uploads: Any = SimpleNamespace(folder=folder)
    return Arrivals(known, uploads, lambda words: None, lambda browser: Path("/nowhere"), lambda id_: None)  # type: ignore[arg-type,return-value]


def test_what_a_phone_uploads_arrives_on_all_computers(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        folder = UploadFolder(tmp_path / "up")
        phone = Browser(id="phone-1", name="x", rights=("upload",), created=0, seen=0, digest="")
        arrivals = arrivals_of(anna, folder, "projects")
        for batch in (BATCH, BATCH[:-1] + "x"):
            for name in ("1.jpg", "2.jpg"):
                data = a_picture("2024:03:09 10:11:12", words=name.encode())
                upload = folder.create("phone-1", Named((name,), batch), len(data))
                writing = folder.write(upload)
                writing.write(data)
                writing.close(is_whole=True)
            said = await arrivals.finish(phone, Finish(batch, "camera"))
        assert said == "0 pictures are in here; 2 were there already"
        await until(lambda: {*files_in(there)} == {"2024/03/1.jpg", "2024/03/2.jpg"}, "both pictures")
        assert files_in(here) == files_in(there)
        other = Browser(id="phone-2", name="y", rights=("upload",), created=0, seen=0, digest="")
        with raised(NotFound, "no live folder is set"):
            await arrivals.finish(other, Finish(BATCH, "camera"))
        with raised(NotFound, "is not here"):
            await arrivals_of(anna, folder, "Elsewhere").finish(phone, Finish(BATCH, "camera"))

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_no_picture_leaves_the_folder_by_a_link_that_somebody_put_there(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    place = landing_place(folder)
    for one in (place, outside):
        one.mkdir(parents=True)
    (place / "1.jpg").write_bytes(a_picture("2024:03:09 10:11:12"))
    (folder / "2024").symlink_to(outside)
    with raised(StorageError, "2024 is a link"):
        put_away([str(place / "1.jpg")], folder, TODAY)
    (folder / "2024").unlink()
    (folder / "2024").mkdir()
    (folder / "2024/03").symlink_to("../../outside")
    with raised(StorageError, "03 is a link"):
        put_away([str(place / "1.jpg")], folder, TODAY)
    assert list(outside.iterdir()) == []
    (folder / "2024/03").unlink()
    assert put_away([str(place / "1.jpg")], folder, TODAY) == (1, 0)
    assert (folder / "2024/03/1.jpg").is_file()


def test_pictures_wait_while_the_disk_of_their_folder_is_away(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        folder = UploadFolder(tmp_path / "up")
        phone = Browser(id="phone-1", name="x", rights=("upload",), created=0, seen=0, digest="")
        arrivals = arrivals_of(anna, folder, "projects")
        outside = tmp_path / "outside"
        outside.mkdir()
        landing_place(here).symlink_to(outside)  # by somebody else who may write there
        data = a_picture("2024:03:09 10:11:12")
        writing = folder.write(folder.create("phone-1", Named(("1.jpg",), BATCH), len(data)))
        writing.write(data)
        writing.close(is_whole=True)
        here.rename(tmp_path / "away")
        here.mkdir()
        await until(lambda: anna.folders.lines()[0].state == "gone", "the disk is away")
        with raised(StorageError, "has lost its marker"):
            await arrivals.finish(phone, Finish(BATCH, "camera"))
        assert list(here.iterdir()) == [], "nothing is put in its place"
        here.rmdir()
        (tmp_path / "away").rename(here)
        await until(lambda: anna.folders.lines()[0].state == "in sync", "it is back")
        await arrivals.finish(phone, Finish(BATCH, "camera"))
        await until(lambda: {*files_in(there)} == {"2024/03/1.jpg"}, "the picture")
        assert list(outside.iterdir()) == []

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
