"""The drive as programs see it: listings, ranges, dates, tags, errors, and who may use it."""

import asyncio
import http.client
import os
import random
import time
from email.utils import formatdate
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coterie.apps.drive import listener
from coterie.transfer import supply
from tests.apps.drive.web import Drive, drive
from tests.apps.files.nodes import RunningNode, coterie, result
from tests.apps.files.test_places import BIG, photos
from tests.support import run

DAV = "{DAV:}"
LOCK = b"""<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype></D:lockinfo>"""
MIB = 1 << 20


async def listed(at: Drive, path: str) -> dict[str, ElementTree.Element]:
    """The properties of a folder's members, by address."""
    answer = await at.ask("PROPFIND", path, Depth="1")
    assert answer.status == 207, answer
    found = ElementTree.fromstring(answer.body)
    return {one.findtext(f"{DAV}href") or "": one for one in found.iter(f"{DAV}response")}


def test_places_are_folders_with_sizes_dates_and_tags(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await anna.files.share(photos(tmp_path), to=[str(at.node.peer_id)])
            top = f"{at.name}/photos"
            assert f"/{at.name}/" in await listed(at, "")
            assert list(await listed(at, at.name)) == [f"/{at.name}/", f"/{top}/"]
            assert list(await listed(at, f"{top}/2024")) == [
                f"/{top}/2024/", f"/{top}/2024/a.jpg", f"/{top}/2024/big.mov", f"/{top}/2024/summer/"
            ]  # fmt: skip
            film = (await listed(at, f"{top}/2024/big.mov"))[f"/{top}/2024/big.mov"]
            assert film.findtext(f".//{DAV}getcontentlength") == str(len(BIG))
            when = (tmp_path / "photos/2024/big.mov").stat().st_mtime
            assert film.findtext(f".//{DAV}getlastmodified") == formatdate(when, usegmt=True)
            got = await at.ask("GET", f"{top}/2024/big.mov")
            assert (got.status, got.body) == (200, BIG)
            assert got.headers["etag"] == film.findtext(f".//{DAV}getetag")
            again = await at.ask("GET", f"{top}/2024/big.mov", If_None_Match=got.headers["etag"])
            assert again.status == 304

    run(scene())


def test_ranges_anywhere_and_behind_the_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await anna.files.share(photos(tmp_path), to=[str(at.node.peer_id)])
            path = f"{at.name}/photos/2024/big.mov"
            seed = random.randrange(1 << 32)
            rng = random.Random(seed)
            for _ in range(12):
                first = rng.randrange(len(BIG))
                last = min(len(BIG) - 1, first + rng.choice([0, 1, 70_000, 3 * MIB]))
                got = await at.ask("GET", path, Range=f"bytes={first}-{last}")
                assert (got.status, got.body) == (206, BIG[first : last + 1]), seed
                assert got.headers["content-range"] == f"bytes {first}-{last}/{len(BIG)}"
            assert (await at.ask("GET", path, Range="bytes=-5")).body == BIG[-5:]
            assert (await at.ask("GET", path, Range=f"bytes={len(BIG)}-")).status == 416

    run(scene())


def test_what_is_only_to_be_read_is_not_changed_by_any_method(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)])
            here = f"{at.name}/photos"
            away = f"http://drive.localhost:{at.port}/{here}/other"
            for method, path, headers in (
                ("PUT", f"{here}/new", {}), ("PUT", f"{here}/readme", {}), ("DELETE", f"{here}/2024", {}),
                ("DELETE", f"{here}/readme", {}), ("MKCOL", f"{here}/folder", {}), ("MKCOL", f"{at.name}/share", {}),
                ("MOVE", f"{here}/readme", {"Destination": away}), ("COPY", f"{here}/readme", {"Destination": away}),
                ("LOCK", f"{here}/null", {}), ("PUT", "file", {}), ("MKCOL", "computer", {}), ("DELETE", here, {}),
                ("DELETE", at.name, {}),
            ):  # fmt: skip
                body = {"PUT": b"x", "LOCK": LOCK}.get(method)
                answer = await at.ask(method, path, body, **headers)
                assert answer.status in (403, 405, 409), (method, path, answer)
            assert sorted(one.name for one in top.iterdir()) == ["2023", "2024", "readme"]
            assert (top / "readme").read_bytes() == b""

    run(scene())


def test_errors_have_their_status_and_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "SILENT_S", 0.5)

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await anna.files.share(photos(tmp_path), to=[str(at.node.peer_id)])
            top = f"{at.name}/photos"
            for path, status in ((f"{top}/none", 404), ("nobody", 404), (f"{top}/../x", 404)):
                assert (await at.ask("GET", path)).status == status, path
            for depth in ({"Depth": "infinity"}, {}):
                answer = await at.ask("PROPFIND", "", **depth)
                assert answer.status == 403
                assert b"propfind-finite-depth" in answer.body
            await anna.files.unshare("photos")
            began = time.monotonic()
            while (status := (await at.ask("GET", f"{top}/2024/a.jpg")).status) == 200:
                assert time.monotonic() < began + 5
                await asyncio.sleep(0.1)
            assert status in (403, 404)

    run(scene())


def test_pages_of_other_sites_and_other_names_are_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (_, at):
            for headers in (
                {"Host": f"evil.example:{at.port}"},
                {"Host": "drive.localhost:1"},
                {"Origin": "http://evil.example"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Origin": "null"},
                {"Origin": f"https://drive.localhost:{at.port}"},
                {"Origin": f"http://127.0.0.1:{at.port}"},  # a page of another service of this computer
                {"Host": "drive.localhost"},
                {"Host": f"drive.localhost.evil.example:{at.port}"},
                {"Host": f"drive.localhost:{at.port}@evil.example"},
                {"Host": ""},
                {"Sec-Fetch-Site": "same-site"},
            ):
                for method in ("GET", "PROPFIND", "PUT", "OPTIONS", "DELETE"):
                    assert (await at.ask(method, "", **headers)).status == 403, (headers, method)
            assert (await at.ask("OPTIONS", "")).headers["dav"].startswith("1,2")

    run(scene())


def test_names_that_are_no_text_are_refused_and_do_not_end_the_connection(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await anna.files.share(photos(tmp_path), to=[str(at.node.peer_id)])

            def ask() -> list[int]:
                connection = http.client.HTTPConnection("127.0.0.1", at.port or 0, timeout=20)
                statuses = []
                for method in ("GET", "PUT", "PROPFIND", "MKCOL", "DELETE"):
                    host = {"Host": f"drive.localhost:{at.port}", "Depth": "0"}
                    connection.request(method, f"/{at.name}/photos/%ff%fe", b"", host)
                    answer = connection.getresponse()
                    statuses.append(answer.status)
                    assert b"UTF-8" in answer.read()
                return statuses

            assert await at.in_thread(ask) == [400] * 5

    run(scene())


def test_in_a_browser_folders_are_links_and_nothing_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            (top / "<b>&.html").write_text("<script>fetch('/')</script>")
            await anna.files.share(top, to=[str(at.node.peer_id)])
            root = await at.ask("GET", "")
            assert root.status == 200
            assert f'<a href="/{at.name}/">' in root.body.decode()
            page = (await at.ask("GET", f"{at.name}/photos")).body.decode()
            assert f'<a href="/{at.name}/photos/%3Cb%3E%26.html">&lt;b&gt;&amp;.html</a>' in page
            assert f'<a href="/{at.name}/">..</a>' in page
            for path in (f"{at.name}/photos/<b>&.html", "", f"{at.name}/none"):
                headers = (await at.ask("GET", path)).headers
                assert "sandbox" in headers["content-security-policy"], path
                assert headers["x-content-type-options"] == "nosniff"

    run(scene())


def test_programs_of_other_users_are_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (_, at):
            assert (await at.ask("OPTIONS", "")).status == 200
            monkeypatch.setattr(listener, "is_trusted", lambda user: False)
            monkeypatch.setattr(listener, "caller_of", lambda accepted: 65_534)
            with pytest.raises((ConnectionError, OSError)):
                await at.ask("OPTIONS", "")
            line = next(one for one in at.node.ports.lines() if one.name == "drive/webdav")
            assert line.refused >= 1

    run(scene())


def test_ten_thousand_entries_are_listed_in_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = tmp_path / "many"
            top.mkdir()
            for number in range(10_000):
                (top / f"{number:05}.txt").write_bytes(b"x")
            await anna.files.share(top, to=[str(at.node.peer_id)])
            began = time.monotonic()
            answer = await at.ask("PROPFIND", f"{at.name}/many", Depth="1")
            assert answer.body.count(b"<D:response>") == 10_001
            assert time.monotonic() < began + 3

    run(scene())


def test_own_pipes_and_links_are_left_out_and_nothing_hangs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (_, at):
            top = photos(tmp_path)
            await at.node.files.share(top)
            os.mkfifo(top / "pipe")
            (top / "broken").symlink_to("nowhere")
            (top / "out").symlink_to("/etc")
            own = f"{at.node.peer_id}/photos"
            names = [path.rstrip("/").rpartition("/")[2] for path in await listed(at, own)]
            assert names == ["photos", "2023", "2024", "readme"]
            for name in ("pipe", "broken", "out", "out/passwd"):
                assert (await at.ask("GET", f"{own}/{name}")).status in (403, 404)

    run(scene())


def test_it_is_off_until_it_is_switched_on_and_stays_so_over_restarts(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    try:
        assert result(coterie(node.home, "--json", "drive"))["state"] == "off"
        on = node.call("drive", "on")
        assert on["url"].startswith("http://drive.localhost:")
        node.stop()
        node.up()
        again = node.call("drive")
        assert (again["state"], again["url"]) == ("on", on["url"])
        assert node.call("drive", "off")["state"] == "off"
    finally:
        node.stop()
