"""Small pictures of files of others: drawn by a child, whatever the files are."""

import asyncio
import io
import os
import random
import signal
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from coterie.tasks import Tasks
from coterie.web.previews.decode_child import FORMATS, PIXELS_MAX
from coterie.web.previews.decoding import Decoder, Parts, can_draw, is_jpeg
from coterie.web.previews.kinds import HEAD_BYTES, Kind, kind_of
from tests.support import run
from tests.web.previews.films import film

SEED = random.randrange(1 << 32)


@asynccontextmanager
async def decoding(job_s: float = 10.0) -> AsyncIterator[Decoder]:
    tasks = Tasks()
    try:
        yield Decoder(tasks, job_s)
    finally:
        await tasks.close()


def picture(name: str = "JPEG", size: tuple[int, int] = (400, 300), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(out, name)
    return out.getvalue()


async def drawn(decoder: Decoder, raw: bytes, edge: int = 64, kind: Kind | None = None) -> bytes | None:
    return await decoder.draw(kind or kind_of(raw[:HEAD_BYTES]), Parts(len(raw), raw), edge)


def size_of(made: bytes | None) -> tuple[int, int]:
    assert made is not None
    return Image.open(io.BytesIO(made), formats=["JPEG"]).size


def black_png(width: int, height: int, rows: int = 0) -> bytes:
    """Packed, it takes a thousandth. `rows`: so many are there; 0: all of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))

    packer = zlib.compressobj(1)
    row = bytes(width + 1)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    head = struct.pack("!IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_pictures_pages_and_films_become_small_pictures(tmp_path: Path) -> None:
    async def work() -> None:
        async with decoding() as decoder:
            assert decoder.process is None  # nothing runs before it is needed
            for name in FORMATS:
                raw = picture(name)
                assert size_of(await drawn(decoder, raw, kind=Kind("picture", "image/x"))) == (64, 48), name
            assert size_of(await drawn(decoder, picture("PNG", mode="RGBA"))) == (64, 48)
            assert size_of(await drawn(decoder, picture("PDF", (300, 400)))) == (48, 64)
            for name in ("webm", "mp4"):
                assert size_of(await drawn(decoder, film(tmp_path, name))) == (64, 36), name
            decoder.end()
            assert size_of(await drawn(decoder, picture(), 200)) == (200, 150)

    run(work(), 60.0)


def test_several_that_come_at_once_begin_one_child() -> None:
    async def work() -> None:
        async with decoding() as decoder:
            made = await asyncio.gather(*(drawn(decoder, picture(size=(300, 200 + n))) for n in range(4)))
            assert None not in made

    run(work(), 30.0)


def test_the_middle_of_a_film_is_not_needed(tmp_path: Path) -> None:
    """MP4 often says at its end what is where."""
    raw = film(tmp_path, "mp4", 30, "1M")
    assert raw.find(b"moov") > len(raw) // 2

    async def work() -> None:
        async with decoding() as decoder:
            begin, end = raw[: len(raw) // 2], raw[-len(raw) // 8 :]
            kind = kind_of(raw[:HEAD_BYTES])
            assert size_of(await decoder.draw(kind, Parts(len(raw), begin, end), 64)) == (64, 36)

    run(work(), 60.0)


def test_a_picture_of_too_many_pixels_is_not_unpacked() -> None:
    side = int(PIXELS_MAX**0.5)

    async def work() -> None:
        async with decoding() as decoder:
            assert size_of(await drawn(decoder, black_png(side, PIXELS_MAX // side))) == (64, 64)
            assert await drawn(decoder, black_png(side + 1, PIXELS_MAX // side)) is None
            assert await drawn(decoder, black_png(60_000, 40_000, 10)) is None

    run(work(), 60.0)


def test_broken_files_are_no_pictures_and_the_next_one_is_drawn(tmp_path: Path) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    good = [picture(), picture("PNG"), picture("WEBP"), picture("PDF"), film(tmp_path, "webm")]

    def broken(raw: bytes) -> bytes:
        cut = bytearray(raw[: rng.randrange(20, len(raw))])
        for _ in range(rng.randrange(4)):
            cut[rng.randrange(12, len(cut))] = rng.randrange(256)
        return bytes(cut)

    async def work() -> None:
        async with decoding() as decoder:
            for raw in good:
                kind = kind_of(raw[:HEAD_BYTES])
                assert await drawn(decoder, raw[:12] + rng.randbytes(2_000), kind=kind) is None
                assert await drawn(decoder, b"", kind=kind) is None
                for made in await asyncio.gather(*(drawn(decoder, broken(raw), kind=kind) for _ in range(3))):
                    assert made is None or is_jpeg(made)
            assert size_of(await drawn(decoder, picture())) == (64, 48)

    run(work(), 60.0)


def test_a_program_that_hangs_is_killed_with_all_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 1{os.getpid()} &\nsleep 1{os.getpid()}\n")
    program.chmod(0o700)
    raw = film(tmp_path, "webm")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    async def work() -> None:
        async with decoding(job_s=1.0) as decoder:
            assert await drawn(decoder, raw) is None
            before = decoder.process
            assert size_of(await drawn(decoder, picture())) == (64, 48)
            assert decoder.process == before  # only what hung was killed
        left = [Path(f"/proc/{one}/cmdline") for one in os.listdir("/proc") if one.isdigit()]
        words = f"sleep\0001{os.getpid()}\0".encode()
        assert words not in [path.read_bytes() for path in left if path.exists()]

    run(work(), 60.0)


def test_a_killed_child_is_begun_anew() -> None:
    async def work() -> None:
        async with decoding() as decoder:
            assert await drawn(decoder, picture()) is not None
            first = decoder.process
            assert first is not None
            os.kill(first, signal.SIGKILL)
            for _ in range(2):
                try:
                    made = await drawn(decoder, picture())
                    break
                except OSError:  # it died with the order: nothing is said of the file
                    continue
            assert size_of(made) == (64, 48)
            assert decoder.process not in (None, first)

    run(work(), 60.0)


def test_what_is_no_whole_picture_is_not_believed() -> None:
    whole = picture()
    assert is_jpeg(whole)
    for made in (b"", whole[:-1], whole[1:], picture("PNG"), whole[:-2] + bytes(1 << 20) + whole[-2:]):
        assert not is_jpeg(made)


def test_what_cannot_be_drawn_is_not_tried() -> None:
    for raw in (b"hello", b"<svg/>", b"MZ\x90\0", b"fLaC"):
        assert not can_draw(kind_of(raw))
    assert can_draw(kind_of(picture()))
