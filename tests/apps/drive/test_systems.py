"""What the file managers of macOS and Windows ask, one request after the other, as is publicly known of them."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coterie.apps.drive import service
from coterie.apps.drive.listener import BODY_BYTES_MAX
from coterie.apps.drive.mounting import ways
from tests.apps.drive.test_unfinished import half
from tests.apps.drive.web import Answer, Drive, drive, program, wanted
from tests.apps.files.test_places import photos
from tests.support import run

MAC = "WebDAVFS/3.0.0 (03008000) Darwin/23.1.0 (arm64)"
WINDOWS = "Microsoft-WebDAV-MiniRedir/10.0.22621"
LOCK = (
    b'<?xml version="1.0" encoding="utf-8"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype><D:owner><D:href>%s</D:href></D:owner></D:lockinfo>"
)
WIN32 = (
    b'<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:">'
    b"<D:set><D:prop><Z:Win32CreationTime>Sat, 28 Nov 2026 10:00:00 GMT</Z:Win32CreationTime>"
    b"<Z:Win32LastAccessTime>Sat, 28 Nov 2026 11:00:00 GMT</Z:Win32LastAccessTime>"
    b"<Z:Win32LastModifiedTime>Sat, 28 Nov 2026 10:30:00 GMT</Z:Win32LastModifiedTime>"
    b"<Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
)


def names(*wanted: str) -> bytes:
    """The body of a PROPFIND for these properties."""
    asked = "".join(f"<D:{name}/>" for name in wanted)
    return f'<D:propfind xmlns:D="DAV:"><D:prop>{asked}</D:prop></D:propfind>'.encode()


def token_of(answer: Answer) -> str:
    """The lock that was given."""
    assert answer.status in (200, 201), answer
    return answer.headers["lock-token"]


async def as_finder_writes(at: Drive, path: str, data: bytes) -> None:
    """An empty file, a lock, the content in pieces of a length that is said beside, and the lock given back."""
    head = {"User_Agent": MAC}
    assert (await at.ask("PROPFIND", path, names("resourcetype"), Depth="0", **head)).status == 404
    assert (await at.ask("PUT", path, b"", **head)).status == 201
    lock = await at.ask(
        "LOCK", path, LOCK % b"http://www.apple.com/webdav_fs/", Depth="0", Timeout="Second-600", **head
    )
    token = token_of(lock)
    pieces = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:1000], data[1000:]) if part)
        + b"0\r\n\r\n"
    )
    said_long = f"Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: {len(data)}"
    chunked = f"User-Agent: {MAC}\r\n{said_long}\r\nIf: ({token})"
    assert at.port is not None
    said = await at.in_thread(half, at.port, path, chunked, pieces)
    assert said.startswith(b"HTTP/1.1 204"), said
    assert (await at.ask("UNLOCK", path, Lock_Token=token, **head)).status == 204


def test_finder_mounts_looks_around_and_writes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
            here, head = f"{at.name}/photos", {"User_Agent": MAC, "Depth": "0"}
            options = await at.ask("OPTIONS", "", User_Agent=MAC)
            assert "2" in options.headers["dav"].replace(" ", "").split(",")  # else it mounts to be read only
            asked = names("getlastmodified", "getcontentlength", "creationdate", "resourcetype")
            assert (await at.ask("PROPFIND", "", asked, **head)).status == 207
            assert (
                await at.ask(
                    "PROPFIND", "", names("quota-available-bytes", "quota-used-bytes", "quota"), **head
                )
            ).status == 207
            for name in (
                ".hidden",
                ".DS_Store",
                "._.",
                ".Spotlight-V100",
                ".metadata_never_index",
                "Contents",
                "mach_kernel",
            ):
                for folder in ("", f"{here}/"):
                    assert (await at.ask("PROPFIND", folder + name, asked, **head)).status == 404, name
            listed = await at.ask("PROPFIND", here, asked, User_Agent=MAC, Depth="1")
            assert listed.body.count(b"<D:response>") == 4
            data = os.urandom(5000)
            await as_finder_writes(at, f"{here}/Picture.jpg", data)
            await as_finder_writes(at, f"{here}/._Picture.jpg", b"\x00\x05\x16\x07" + bytes(4092))
            await as_finder_writes(at, f"{here}/.DS_Store", b"\x00\x00\x00\x01Bud1" + bytes(6140))
            assert (top / "Picture.jpg").read_bytes() == data
            assert (top / "._Picture.jpg").stat().st_size == 4096
            assert (await at.ask("HEAD", f"{here}/Picture.jpg", User_Agent=MAC)).headers[
                "content-length"
            ] == "5000"
            assert (await at.ask("MKCOL", f"{here}/untitled folder", User_Agent=MAC)).status == 201
            root = f"http://drive.localhost:{at.port}/{here}"
            for old, new in (("untitled folder", "Ordner?; #1"), ("Picture.jpg", "Ordner?; #1/Ü+%41.jpg")):
                to = (
                    root
                    + "/"
                    + new.replace("%", "%25").replace("?", "%3F").replace(";", "%3B").replace("#", "%23")
                )
                to = to.replace(" ", "%20").replace("Ü", "%C3%9C")
                moved = await at.ask("MOVE", f"{here}/{old}", Destination=to, Overwrite="F", User_Agent=MAC)
                assert moved.status == 201, moved
            assert (top / "Ordner?; #1/Ü+%41.jpg").read_bytes() == data
            (top / "a").write_bytes(b"kept")
            other = await at.ask("MOVE", f"{here}/.DS_Store", Destination=f"{root}/a%3Bb", Overwrite="T")
            assert other.status == 201
            assert (top / "a").read_bytes() == b"kept"

    run(scene(), 60)


def test_windows_maps_it_and_writes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
            here = f"{at.name}/photos"
            head = {"User_Agent": WINDOWS, "Host": f"127.0.0.1:{at.port}", "translate": "f"}
            options = await at.ask("OPTIONS", "", **head)
            assert (options.headers["ms-author-via"], options.headers["dav"][0]) == ("DAV", "1")
            assert (await at.ask("PROPFIND", "", Depth="0", Content_Length="0", **head)).status == 207
            for folder in ("", at.name, here):
                listed = await at.ask("PROPFIND", folder, Depth="1", Content_Length="0", **head)
                assert listed.status == 207
                ElementTree.fromstring(listed.body)
            for name in ("desktop.ini", "Thumbs.db", "folder.jpg", "AutoRun.inf"):
                assert (await at.ask("PROPFIND", f"{here}/{name}", Depth="0", **head)).status == 404
            path = f"{here}/Neues Dokument.docx"
            assert (await at.ask("PUT", path, b"", **head)).status == 201
            token = token_of(
                await at.ask(
                    "LOCK", path, LOCK % rb"DESKTOP\ben", Timeout="Second-3600", Depth="infinity", **head
                )
            )
            assert (await at.ask("PROPPATCH", path, WIN32, If=f"({token})", **head)).body.count(
                b" 200 OK"
            ) == 1
            assert (await at.ask("HEAD", path, **head)).status == 200
            assert (
                await at.ask("PUT", path, b"document", **head)
            ).status == 423  # another program, without the lock
            assert (await at.ask("PUT", path, b"document", If=f"({token})", **head)).status == 204
            refreshed = await at.ask("LOCK", path, If=f"({token})", Timeout="Second-3600", **head)
            assert refreshed.status == 200
            assert (await at.ask("PROPPATCH", path, WIN32, If=f"({token})", **head)).status == 207
            assert (await at.ask("UNLOCK", path, Lock_Token=token, **head)).status == 204
            found = (await at.ask("PROPFIND", path, Depth="0", **head)).body
            assert b"Sat, 28 Nov 2026 10:30:00 GMT" in found
            assert (top / "Neues Dokument.docx").read_bytes() == b"document"
            to = f"http://127.0.0.1:{at.port}/{here}/Bericht%20%2B1.docx"
            assert (await at.ask("MOVE", path, Destination=to, Overwrite="F", **head)).status == 201
            assert (
                await at.ask("MOVE", f"{here}/readme", Destination=to, Overwrite="F", **head)
            ).status == 412
            assert (top / "Bericht +1.docx").read_bytes() == b"document"
            assert (await at.ask("DELETE", f"{here}/Bericht +1.docx", **head)).status == 204
            long = await at.ask("PROPFIND", here, bytes(BODY_BYTES_MAX + 1), Depth="0", **head)
            assert long.status == 413

    run(scene(), 60)


def test_where_a_system_does_not_tell_whose_a_program_is_it_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Digest, which Windows does without encryption; by Basic, which everything else does."""
    wanted("curl")
    monkeypatch.setattr(service, "can_ask", lambda: False)

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            await anna.files.share(photos(tmp_path), to=[str(at.node.peer_id)])
            line = at.node.drive.line()
            secret = re.search(r"password (\S+)", line.mount[-1])
            assert secret is not None
            url = f"http://127.0.0.1:{at.port}/{at.name}/photos/2024/a.jpg"
            for way in ("--digest", "--basic", "--anyauth"):
                assert await program("curl", "-fsS", way, "-u", f"coterie:{secret[1]}", url) == "small"
            said = await program(
                "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--digest", "-u", "coterie:x", url
            )
            assert said == "401"
            assert (await at.ask("GET", "")).status == 401
            for system in ("win32", "darwin", "linux"):
                assert any(secret[1] in way for way in ways(system, 1, secret[1]))
                assert not any("coterie " in way and "password" in way for way in ways(system, 1))

    run(scene())
