"""What programs note of files: kept over restarts, moved, copied and removed with them, and bounded."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from wsgidav.dav_error import DAVError

from coterie.apps.drive.properties import STEPS, VALUE_CHARS_MAX, KeptProperties
from coterie.services.data.database import Database
from coterie.services.data.quota import Quota
from tests.apps.drive.web import drive
from tests.apps.files.test_places import photos
from tests.support import run

NAME = "{urn:x}colour"


def database(path: Path) -> Database:
    made = Database(path / "db", Quota("drive", 100_000_000, "quota"))
    made.migrate(STEPS)
    return made


def noted(kept: KeptProperties, *urls: str) -> list[str | None]:
    return [kept.get_property(url, NAME) for url in urls]


def test_they_are_kept_and_go_along_with_what_they_are_of(tmp_path: Path) -> None:
    opened = database(tmp_path)
    kept = KeptProperties(opened)
    urls = ["/a/b/", "/a/b/c", "/a/b/d/e", "/a/b0", "/a/bc/", "/a/bc/f", "/a/b-/g", "/a/b%20x/h"]
    for url in urls:
        kept.write_property(url, NAME, f"<v>{url}</v>".encode())
    kept = KeptProperties(opened)
    assert noted(kept, *urls, "/a") == [*(f"<v>{url}</v>" for url in urls), None]
    assert kept.noted_in("/a/") == {"b": [NAME], "b0": [NAME], "bc": [NAME]}
    kept.move_properties("/a/b/", "/z/", with_children=True)
    assert noted(kept, "/z/", "/z/c", "/z/d/e") == ["<v>/a/b/</v>", "<v>/a/b/c</v>", "<v>/a/b/d/e</v>"]
    assert noted(kept, *urls[:3]) == [None] * 3
    assert noted(kept, *urls[3:]) == [f"<v>{url}</v>" for url in urls[3:]]
    kept.copy_properties("/z/c", "/a/b0")
    assert noted(kept, "/z/c", "/a/b0") == ["<v>/a/b/c</v>"] * 2
    kept.remove_properties("/z/")
    assert noted(kept, "/z/", "/z/c", "/z/d/e") == [None] * 3
    kept.move_properties(
        "/a/b0", "/a/bc/", with_children=True
    )  # instead of a folder: what was in it is of it no more
    assert noted(kept, "/a/bc", "/a/bc/f", "/a/b-/g") == ["<v>/a/b/c</v>", None, "<v>/a/b-/g</v>"]
    kept.remove_property("/a/bc", NAME)
    assert kept.get_properties("/a/bc") == []


def test_they_are_bounded(tmp_path: Path) -> None:
    kept = KeptProperties(database(tmp_path), most=2)
    kept.write_property("/a", NAME, b"x" * VALUE_CHARS_MAX)
    with pytest.raises(DAVError) as raised:
        kept.write_property("/a", NAME, b"x" * (VALUE_CHARS_MAX + 1))
    assert raised.value.value == 413
    kept.write_property("/b", NAME, b"x")
    for dry_run in (True, False):
        with pytest.raises(DAVError) as raised:
            kept.write_property("/c", NAME, b"x", dry_run)
        assert raised.value.value == 507
    kept.remove_property("/b", NAME)
    kept.write_property("/c", NAME, b"x")


def test_the_drive_knows_them_after_a_restart_and_nobody_else_sees_them(tmp_path: Path) -> None:
    body = (
        b'<D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop>'
        b"<Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
    )

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
            here = f"{at.name}/photos"
            assert (await at.ask("PROPPATCH", f"{here}/2024/a.jpg", body)).status == 207
            await at.node.drive.switch(is_on=False)
            line = await at.node.drive.switch(is_on=True)
            assert line.url == at.url
            for path in ("2024/a.jpg", "2024"):
                found = await at.ask("PROPFIND", f"{here}/{path}", Depth="1")
                assert found.body.count(b"00000020") == 1, path
                ElementTree.fromstring(found.body)
            to = f"http://drive.localhost:{at.port}/{here}/moved"
            assert (await at.ask("MOVE", f"{here}/2024", Destination=to)).status == 201
            assert b"00000020" in (await at.ask("PROPFIND", f"{here}/moved/a.jpg", Depth="0")).body
            assert (await at.ask("DELETE", f"{here}/moved")).status == 204
            for method, name in (("MKCOL", "moved"), ("PUT", "moved/a.jpg")):
                assert (await at.ask(method, f"{here}/{name}")).status == 201
            assert b"00000020" not in (await at.ask("PROPFIND", f"{here}/moved", Depth="1")).body
            assert sorted(p.name for p in top.iterdir()) == ["2023", "moved", "readme"]

    run(scene())
