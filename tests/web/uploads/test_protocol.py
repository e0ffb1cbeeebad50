"""Each rule of tus 1.0.0 that servers have to keep, over HTTP."""

import asyncio
import base64
import hashlib
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from coterie.web.uploads import folder as uploads_folder
from coterie.web.uploads import rules, server
from tests.support import run
from tests.web.uploads.serve import MEDIA, Served, described, served


def test_options_say_what_the_server_can(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            answer = await here.ask("OPTIONS", "/up/files", {"Tus-Resumable": "0.1"})
            assert answer.status == 204
            assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
            assert answer.headers["Tus-Max-Size"] == str(rules.UPLOAD_BYTES_MAX)
            assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
            assert set(answer.headers["Tus-Extension"].split(",")) == {
                "creation", "creation-with-upload", "termination", "checksum", "expiration",
            }  # fmt: skip

    run(work())


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", ["", "0.2.2", "1.0.1"])
def test_another_version_is_refused_with_ours(tmp_path: Path, method: str, version: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(3)
            where = "/up/files" if method == "POST" else path
            answer = await here.ask(method, where, {"Tus-Resumable": version, "Upload-Length": "1"})
            assert answer.status == 412
            assert answer.headers["Tus-Version"] == "1.0.0"
            assert (await here.ask("HEAD", path)).headers["Upload-Offset"] == "0"

    run(work())


def test_an_upload_in_parts(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(11)
            first = await here.add(path, 0, b"hello ")
            assert (first.status, first.headers["Upload-Offset"]) == (204, "6")
            asked = await here.ask("HEAD", path)
            assert (asked.status, asked.headers["Cache-Control"]) == (200, "no-store")
            assert (asked.headers["Upload-Offset"], asked.headers["Upload-Length"]) == ("6", "11")
            assert (await here.add(path, 6, b"world")).headers["Upload-Offset"] == "11"
            (upload,) = here.folder.all()
            assert here.folder.is_whole(upload)
            assert here.folder.part(upload).read_bytes() == b"hello world"

    run(work())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Offset": "0", "Content-Type": "text/plain"}, 415),
        ({"Upload-Offset": "4", **MEDIA}, 409),
        ({**MEDIA}, 400),
        ({"Upload-Offset": "-1", **MEDIA}, 400),
        ({"Upload-Offset": "9" * 400, **MEDIA}, 400),
        ({"Upload-Offset": "0", "Upload-Checksum": "md5 AAAA", **MEDIA}, 400),
        ({"Upload-Offset": "0", "Upload-Checksum": "sha1 ????", **MEDIA}, 400),
    ],
)
def test_a_part_that_does_not_fit_adds_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(5)
            answer = await here.ask("PATCH", path, headers, b"abc")
            assert answer.status == status, answer.said  # type: ignore[attr-defined]
            assert (await here.ask("HEAD", path)).headers["Upload-Offset"] == "0"

    run(work())


def test_no_more_than_the_length_is_taken(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(5)
            assert (await here.add(path, 0, b"123456")).status == 413
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", here.port
            )  # no length said beforehand
            head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nUpload-Offset: 0\r\n"
            head += f"Tus-Resumable: 1.0.0\r\nContent-Type: {rules.MEDIA}\r\n\r\n6\r\n123456\r\n0\r\n\r\n"
            writer.write(head.encode())
            assert b" 413 " in await reader.readline()
            writer.close()
            assert (await here.ask("HEAD", path)).headers["Upload-Offset"] == "0"

    run(work())


@pytest.mark.parametrize("path", ["/up/files/nothing", "/up/files/..%2f..%2fkey"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_what_is_not_there_is_not_found(tmp_path: Path, method: str, path: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            answer = await here.ask(method, path, {"Upload-Offset": "0", **MEDIA}, b"")
            assert answer.status == 404
            assert "Upload-Offset" not in answer.headers

    run(work())


def test_an_upload_of_another_is_not_found(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(3)
            bob = {"X-Owner": "bob"}
            assert (await here.ask("HEAD", path, bob)).status == 404
            assert (await here.ask("DELETE", path, bob)).status == 404
            assert (await here.ask("GET", "/up/files", bob)).said == b"[]"  # type: ignore[attr-defined]
            assert b"a.txt" in (await here.ask("GET", "/up/files")).said  # type: ignore[attr-defined]

    run(work())


def test_creation_with_the_bytes(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            headers = {"Upload-Length": "5", "Upload-Metadata": described("b.txt"), **MEDIA}
            answer = await here.ask("POST", "/up/files", headers, b"abc")
            assert (answer.status, answer.headers["Upload-Offset"]) == (201, "3")
            assert (await here.ask("HEAD", answer.headers["Location"])).headers["Upload-Offset"] == "3"
            empty = await here.ask("POST", "/up/files", headers | {"Upload-Length": "0"}, b"")
            assert here.folder.is_whole(here.folder.find("anna", empty.headers["Location"].rsplit("/", 1)[1]))

    run(work())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "x"}, 400),
        ({"Upload-Length": str(rules.UPLOAD_BYTES_MAX + 1)}, 413),
        ({"Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ????"}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": "filename"}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("../x")}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("a/./x")}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("/etc/passwd")}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described(".coterie-partial-1")}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("a\0b")}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("x" * 256)}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("/".join(["a"] * (rules.DEPTH_MAX + 1)))}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("x" * rules.METADATA_BYTES_MAX)}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": described("a.txt", "../batch/x")}, 400),
        (
            {"Upload-Length": "1", "Upload-Metadata": described("a.txt", "b" * (rules.BATCH_CHARS_MAX + 1))},
            400,
        ),
    ],
)
def test_what_cannot_be_an_upload_is_refused(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            answer = await here.ask("POST", "/up/files", headers)
            assert answer.status == status
            assert answer.said.count(b"\n") == 1  # type: ignore[attr-defined]
            assert not here.folder.all()

    run(work())


def test_termination_frees_what_came(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(5)
            await here.add(path, 0, b"abc")
            assert (await here.ask("DELETE", path)).status == 204
            assert (await here.ask("HEAD", path)).status == 404
            assert [p for p in tmp_path.iterdir() if p.is_file()] == []

    run(work())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_wrong_checksum_adds_nothing(tmp_path: Path, algorithm: str) -> None:
    def checksum(data: bytes) -> dict[str, str]:
        return {
            "Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"
        }

    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(6)
            assert (await here.add(path, 0, b"abc", **checksum(b"abc"))).status == 204
            assert (await here.add(path, 3, b"dex", **checksum(b"def"))).status == 460
            assert (await here.ask("HEAD", path)).headers["Upload-Offset"] == "3"
            assert (await here.add(path, 3, b"def", **checksum(b"def"))).status == 204
            (upload,) = here.folder.all()
            assert here.folder.is_whole(upload)
            assert here.folder.part(upload).read_bytes() == b"abcdef"

    run(work())


@pytest.mark.parametrize("is_checked", [False, True])
def test_a_line_that_breaks(tmp_path: Path, is_checked: bool) -> None:
    """What came is kept, but for a part whose checksum nobody could ask; who asks ends a run that still waits."""

    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(8)
            checksum = (
                f"Upload-Checksum: sha1 {base64.b64encode(bytes(20)).decode()}\r\n" if is_checked else ""
            )
            head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: 8\r\n{checksum}"
            head += f"Tus-Resumable: 1.0.0\r\nContent-Type: {rules.MEDIA}\r\n\r\n"
            _, hanging = await asyncio.open_connection("127.0.0.1", here.port)
            hanging.write(head.encode() + b"1234")
            await until_begun(here, path)
            asked = await here.ask("HEAD", path)  # the line still stands as far as the server knows
            assert asked.headers["Upload-Offset"] == ("0" if is_checked else "4")
            hanging.close()

            _, broken = await asyncio.open_connection("127.0.0.1", here.port)
            has = 0 if is_checked else 4
            head = head.replace("Upload-Offset: 0", f"Upload-Offset: {has}").replace(
                "Length: 8", f"Length: {8 - has}"
            )
            broken.write(head.encode() + b"56")
            broken.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            await until_begun(here, path)
            broken.close()  # with a reset
            async with asyncio.timeout(5):
                while here.uploads._running:
                    await asyncio.sleep(0.01)
            asked = await here.ask("HEAD", path)
            assert asked.headers["Upload-Offset"] == ("0" if is_checked else "6")

    run(work())


async def until_begun(here: Served, path: str) -> None:
    """A request writes into this upload now."""
    async with asyncio.timeout(5):
        while path.rsplit("/", 1)[1] not in here.uploads._running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)


def test_a_client_that_can_only_post(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(3)
            override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", **MEDIA}
            assert (await here.ask("POST", path, override, b"abc")).headers["Upload-Offset"] == "3"
            assert (await here.ask("POST", path, {"X-HTTP-Method-Override": "DELETE"})).status == 204
            assert (await here.ask("POST", path, {"X-HTTP-Method-Override": "TRACE"})).status == 405

    run(work())


def test_expiration(tmp_path: Path) -> None:
    async def work() -> None:
        now = time.time()
        async with served(tmp_path, now=lambda: now) as here:
            path = await here.begin(5)
            answer = await here.add(path, 0, b"abc")
            upload = here.folder.find("anna", path.rsplit("/", 1)[1])
            expires = here.folder.expires(upload)
            assert parsedate_to_datetime(answer.headers["Upload-Expires"]).timestamp() == int(expires)
            last = here.folder.part(upload).stat().st_mtime
            assert expires == last + rules.AGE_S_MAX
            now = expires - 1
            assert (await here.ask("HEAD", path)).status == 200
            now = expires + 1
            assert (await here.ask("HEAD", path)).status == 404
            here.folder.expire()
            assert [p for p in tmp_path.iterdir() if p.is_file()] == []

    run(work())


def test_no_more_than_so_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_folder, "UPLOADS_OF_ONE_MAX", 2)
    monkeypatch.setattr(uploads_folder, "UPLOADS_MAX", 3)

    async def work() -> None:
        async with served(tmp_path) as here:
            more = {"Upload-Length": "1", "Upload-Metadata": described("a.txt")}
            said = [(await here.ask("POST", "/up/files", more)).status for _ in range(3)]
            assert said == [201, 201, 429]
            bob = [(await here.ask("POST", "/up/files", more | {"X-Owner": "bob"})).status for _ in range(2)]
            assert bob == [201, 429]

    run(work())


def test_phones_leave_places_for_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_folder, "UPLOADS_FEW_MAX", 2)

    async def work() -> None:
        async with served(tmp_path) as here:
            more = {"Upload-Length": "1", "Upload-Metadata": described("a.txt")}
            for owner, status in (("phone-1", 201), ("phone-2", 201), ("phone-3", 429), ("anna", 201)):
                answer = await here.ask("POST", "/up/files", more | {"X-Owner": owner})
                assert answer.status == status, owner

    run(work())


def test_what_a_phone_announces_takes_no_room_from_the_owner(tmp_path: Path) -> None:
    import shutil

    size = shutil.disk_usage(tmp_path).free - uploads_folder.SPACE_RESERVE_BYTES - (64 << 20)

    async def work() -> None:
        async with served(tmp_path) as here:
            more = {"Upload-Metadata": described("a.txt")}
            big, small = {"Upload-Length": str(size)}, {"Upload-Length": str(128 << 20)}
            for owner, length, status in (
                ("phone-1", big, 201),
                ("phone-2", small, 507),  # phones share what there is
                ("anna", small, 201),
            ):
                answer = await here.ask("POST", "/up/files", more | length | {"X-Owner": owner})
                assert answer.status == status, (owner, answer.said)  # type: ignore[attr-defined]

    run(work())


def test_of_whom_is_removed_nothing_more_is_taken(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(10)
            upload = here.folder.find("anna", path.rpartition("/")[2])
            here.removed.add("anna")
            answer = await here.add(path, 0, b"0123456789")
            assert (answer.status, b"removed" in answer.said) == (403, True)  # type: ignore[attr-defined]
            assert here.folder.offset(upload) == 0

    run(work())


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """At the beginning: what does not fit is not begun; later: what came is kept, and the client hears why."""
    import shutil

    free = shutil.disk_usage(tmp_path).free

    async def work() -> None:
        async with served(tmp_path) as here:
            headers = {"Upload-Length": str(free + 1), "Upload-Metadata": described("film.mp4")}
            answer = await here.ask("POST", "/up/files", headers)
            assert (answer.status, b"free some space" in answer.said) == (507, True)  # type: ignore[attr-defined]

    run(work())


def test_a_body_that_is_refused_is_read_so_that_the_answer_arrives(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(5)
            answer = await here.add(path, 3, bytes(server.DRAIN_BYTES_MAX // 4))
            assert answer.status == 409

    run(work())


def test_the_version_is_in_every_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as here:
            path = await here.begin(1)
            for method in ("HEAD", "DELETE", "HEAD"):
                assert (await here.ask(method, path)).headers["Tus-Resumable"] == "1.0.0"

    run(work())
