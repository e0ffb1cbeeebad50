"""The local media server: ranges, secrets, reading what is still to come."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from coterie.apps.play.media import (
    AHEAD_BYTES_MAX,
    AHEAD_BYTES_MIN,
    AHEAD_S,
    READ_BYTES,
    MediaServer,
    Readahead,
)
from coterie.byte_range import Span, parse_range
from coterie.errors import TransportError

WHOLE = bytes(range(256)) * 4096  # 1 MiB


class Film:
    """A playable whose bytes come when `come` says so."""

    name = "a film & söng.mkv"
    tag = "abc123"

    def __init__(self, data: bytes = WHOLE) -> None:
        self.data = data
        self.size = len(data)
        self.there = self.size
        self.more = asyncio.Event()
        self.failed = False
        self.asked: list[tuple[int, int, int]] = []
        self.gone: list[int] = []

    def come(self, there: int) -> None:
        self.there = there
        self.more.set()

    async def read(self, offset: int, size: int) -> bytes:
        while offset >= self.there and not self.failed:
            self.more.clear()
            await self.more.wait()
        if self.failed:
            raise TransportError("nobody has it")
        return self.data[offset : min(offset + size, self.there)]

    def reading(self, reader: int, offset: int, ahead_bytes: int) -> None:
        self.asked.append((reader, offset, ahead_bytes))

    def left(self, reader: int) -> None:
        self.gone.append(reader)


async def ask(url: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    _, _, where, path = url.split("/", 3)
    host, port = where.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} /{path} HTTP/1.1", f"Host: {where}", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    named = dict(field.lower().split(": ", 1) for field in fields)
    return int(status.split()[1]), named, body


def serving(test: Callable[[MediaServer, Film, str], Coroutine[Any, Any, None]], data: bytes = WHOLE) -> None:
    async def main() -> None:
        server = MediaServer()
        server.start()
        film = Film(data)
        try:
            await asyncio.wait_for(test(server, film, server.add(film)), 20)
        finally:
            await server.close()

    asyncio.run(main())


def test_the_whole_and_any_range_of_it() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        status, headers, body = await ask(url)
        assert (status, body) == (200, WHOLE)
        assert headers["accept-ranges"] == "bytes"
        assert headers["content-type"].startswith("video/")
        for asked, span in (("0-0", (0, 0)), ("1000-", (1000, 2**20 - 1)), ("-10", (2**20 - 10, 2**20 - 1))):
            status, headers, body = await ask(url, f"Range: bytes={asked}")
            first, last = span
            assert status == 206
            assert headers["content-range"] == f"bytes {first}-{last}/{2**20}"
            assert body == WHOLE[first : last + 1]

    serving(test)


def test_head_tells_the_size_and_reads_nothing() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        status, headers, body = await ask(url, method="HEAD")
        assert (status, headers["content-length"], body) == (200, str(2**20), b"")
        assert film.asked == []

    serving(test)


def test_an_empty_file() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        assert (await ask(url))[::2] == (200, b"")
        assert (await ask(url, "Range: bytes=0-"))[0] == 416

    serving(test, b"")


def test_a_range_behind_the_end_is_416() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        status, headers, _ = await ask(url, f"Range: bytes={2**20}-")
        assert (status, headers["content-range"]) == (416, f"bytes */{2**20}")

    serving(test)


def test_part_of_another_version_is_answered_with_the_whole() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        assert (await ask(url, "Range: bytes=5-9", 'If-Range: "other"'))[0] == 200
        assert (await ask(url, "Range: bytes=5-9", 'If-Range: "abc123"'))[0] == 206

    serving(test)


def test_without_the_secret_there_is_nothing() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        scheme, _, where, token, item, name = url.split("/")
        for wrong in (
            f"{scheme}//{where}/{token[:-1]}x/{item}/{name}",
            f"{scheme}//{where}/{token}/99/{name}",
            f"{scheme}//{where}/{token}/{item}/other.mkv",
            f"{scheme}//{where}/",
        ):
            assert (await ask(wrong))[0] == 404
        assert (await ask(url, method="POST"))[0] == 405
        assert film.asked == []
        server.remove(url)
        assert (await ask(url))[0] == 404

    serving(test)


def test_a_read_waits_for_what_is_still_to_come() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        film.there = 300_000
        answer = asyncio.ensure_future(ask(url, "Range: bytes=200000-399999"))
        while not any(offset == 300_000 for _, offset, _ in film.asked):
            await asyncio.sleep(0.001)
        assert not answer.done()
        film.come(2**20)
        assert (await answer)[2] == WHOLE[200_000:400_000]
        reader, offset, ahead = film.asked[0]
        assert (offset, ahead) == (200_000, AHEAD_BYTES_MIN)
        while film.gone != [reader]:
            await asyncio.sleep(0.001)

    serving(test)


def test_a_player_that_goes_away_is_noticed_while_bytes_are_missing() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        film.there = 0
        _, _, where, path = url.split("/", 3)
        _, writer = await asyncio.open_connection(*where.split(":"))
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        while not film.asked:
            await asyncio.sleep(0.001)
        writer.close()
        while not film.gone:
            await asyncio.sleep(0.001)

    serving(test)


def test_bytes_that_will_not_come_end_the_connection_short() -> None:
    async def test(server: MediaServer, film: Film, url: str) -> None:
        film.there = 500_000
        answer = asyncio.ensure_future(ask(url))
        while not any(offset == 500_000 for _, offset, _ in film.asked):
            await asyncio.sleep(0.001)
        film.failed = True
        film.more.set()
        status, headers, body = await answer
        assert (status, headers["content-length"]) == (200, str(2**20))
        assert body == WHOLE[:500_000]

    serving(test)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-99", Span(0, 99)),
        ("bytes=0-9999", Span(0, 999)),
        ("bytes = 5 - 7", Span(5, 7)),
        ("bytes=-5000", Span(0, 999)),
        ("bytes=-", None),
        ("bytes=7-5", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("", None),
    ],
)
def test_ranges(header: str, span: Span | None) -> None:
    assert parse_range(header, 1000) == span


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_ranges_with_nothing_in_them(header: str) -> None:
    with pytest.raises(ValueError, match="range"):
        parse_range(header, 1000)


def test_what_is_wanted_ahead_follows_the_rate() -> None:
    slow, fast, mad = Readahead(0), Readahead(0), Readahead(0)
    assert slow.read(READ_BYTES, 0.5) == AHEAD_BYTES_MIN
    assert slow.read(READ_BYTES, 10) == AHEAD_BYTES_MIN
    assert fast.read(10_000_000, 10) == 1_000_000 * AHEAD_S
    assert mad.read(10**10, 10) == AHEAD_BYTES_MAX
