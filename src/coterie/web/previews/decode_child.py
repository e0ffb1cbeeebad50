"""Draws small pictures of files of others: a program of its own, `python -c`, which ends when the node closes its pipe.

It loads the libraries once and sees no byte of a file. For each picture it makes a process, which `cage.shut` leaves
nothing but computing, gives it the pipe to the node that came with the order, and kills it after `job_s`. So a file
that breaks a decoder can reach neither this computer nor the next picture.

What comes over such a pipe: `ORDER`, the beginning of the file, and its end; what goes back: a JPEG, or nothing.
"""

import contextlib
import io
import os
import select
import signal
import socket
import struct
import time
from typing import Any

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.web.previews import cage

ORDER = struct.Struct("!cHQII")  # how, edge in pixels, bytes of the file, of its beginning, of its end
HOW = {"picture": b"p", "pdf": b"d", "video/mp4": b"m", "video/webm": b"w", "video/ogg": b"o"}
JOB_S = 10.0  # from the last byte on, most pictures take 0.1 s; guess
PIXELS_MAX = (
    64_000_000  # that are decoded; guess: above what cameras make, phones' 200 megapixels are JPEG and shrink
)
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
QUALITY = 80
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/opt",
    "/nix/store",
    "/gnu/store",
)  # of ffmpeg
DEMUXERS = {b"m": "mov", b"w": "matroska", b"o": "ogg"}
SHOWN_S = 10  # of a film, of which one frame is chosen: the first is black often


def main(ffmpeg: str, job_s: float = JOB_S) -> None:
    """Standard input is a Unix socket of the node: each byte brings the pipe of one order. `ffmpeg`: "" for none."""
    control = socket.socket(fileno=0)
    _load()
    until: dict[int, float] = {}
    while True:
        if select.select([control], [], [], 0.25 if until else None)[0]:
            said, pipes, *_ = socket.recv_fds(control, 1, 1)
            if not said:
                break
            for pipe in pipes:
                child = os.fork()
                if not child:
                    _work(pipe, ffmpeg)
                with contextlib.suppress(OSError):
                    os.setpgid(child, child)
                os.close(pipe)
                until[child] = time.monotonic() + job_s
        for child in [*until]:
            if time.monotonic() > until[child]:
                _kill(child)
            if os.waitpid(child, os.WNOHANG)[0]:
                _kill(child)  # what it left
                del until[child]
    for child in until:
        _kill(child)


def _load() -> None:
    """Draw one picture of each format: what a library loads late is loaded then, and a process without files cannot."""
    with contextlib.suppress(ImportError):
        from PIL import AvifImagePlugin, Image

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        Image.MAX_IMAGE_PIXELS = None  # `PIXELS_MAX` is asked here
        Image.init()
        for name in {*FORMATS} & {*Image.SAVE}:
            _picture(_dot(name), 1)
        _page(_dot("PDF"), 1)


def _dot(name: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, name)
    return out.getvalue()


def _kill(child: int) -> None:
    """It, and what it started: a group of processes of its own."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)


def _work(pipe: int, ffmpeg: str) -> None:
    """Draw one picture. Does not return."""
    try:
        os.setpgid(0, 0)
        os.dup2(pipe, 0)
        os.closerange(3, 1024)
        how, edge, size, before, behind = read_order(_read(ORDER.size))
        if how in DEMUXERS:
            made = _frame(ffmpeg, how, edge, size, (before, behind))
        else:
            cage.shut()
            made = _DRAWN[how](_read(before), edge)
        while made:
            made = made[os.write(0, made) :]
    finally:
        os._exit(0)  # without a picture, or with a part of one: the node sees that


@decoder(UsageError, "an order")
def read_order(raw: bytes) -> tuple[bytes, int, int, int, int]:
    """How, edge in pixels, bytes of the file, of its beginning, of its end. Raises `UsageError`."""
    how, edge, size, before, behind = ORDER.unpack(raw)
    return how, edge, size, before, behind


def _read(size: int) -> bytes:
    """All of it. Raises `EOFError`."""
    parts = bytearray()
    while len(parts) < size:
        if not (more := os.read(0, min(size - len(parts), 1 << 20))):
            raise EOFError
        parts += more
    return bytes(parts)


def _picture(raw: bytes, edge: int) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
        image: Any = opened
        image.draft("RGB", (2 * edge, 2 * edge))  # a JPEG shrinks while it is read
        if image.width * image.height > PIXELS_MAX:
            raise ValueError("too many pixels")
        if image.mode in ("P", "PA", "1"):
            image = image.convert("RGBA")
        image.thumbnail((edge, edge), reducing_gap=2.0)
        return _jpeg(ImageOps.exif_transpose(image))


def _jpeg(image: Any) -> bytes:
    from PIL import Image

    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.new("RGBA", over.size, "white")
        image.alpha_composite(over)
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _page(raw: bytes, edge: int) -> bytes:
    """The first one of a PDF. Forms and scripts in it are not run: this build has none of them."""
    import pypdfium2

    page = pypdfium2.PdfDocument(raw)[0]
    scale = edge / max(*page.get_size(), 1.0)
    width, height = page.get_size()
    if width * scale < 1 or height * scale < 1:
        raise ValueError("a page without a surface")
    return _jpeg(page.render(scale=scale, may_draw_forms=False).to_pil())


_DRAWN = {b"p": _picture, b"d": _page}


def _frame(ffmpeg: str, how: bytes, edge: int, size: int, lengths: tuple[int, int]) -> bytes:
    """A frame from the beginning of a film, by the ffmpeg of this system; the middle of the film is left out."""
    import subprocess

    before, behind = lengths
    film = os.memfd_create("film", 0)
    os.pwrite(film, _read(before), 0)
    if behind and how == b"m":  # where everything is may stand at the end; others are read from the beginning
        os.truncate(film, size)
        os.pwrite(film, _read(behind), size - behind)
    cage.shut(runs=(*SYSTEM, os.path.dirname(os.path.realpath(ffmpeg))))
    fit = f"scale=w='min({edge},iw)':h='min({edge},ih)':force_original_aspect_ratio=decrease"
    words = [ffmpeg, "-v", "quiet", "-nostdin", "-threads", "1", "-skip_frame", "nokey", "-t", str(SHOWN_S)]
    words += ["-f", DEMUXERS[how], "-protocol_whitelist", "file", "-i", f"/proc/self/fd/{film}"]
    words += ["-map", "0:v:0", "-vf", f"thumbnail=3,{fit},format=yuvj420p", "-filter_threads", "1"]
    words += ["-frames:v", "1", "-threads", "1", "-c:v", "mjpeg", "-q:v", "4", "-f", "image2pipe", "-"]
    done = subprocess.run(words, stdout=subprocess.PIPE, pass_fds=[film], env={}, check=False)  # noqa: S603
    return done.stdout
