"""Small real films, made by ffmpeg once for all tests."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

WORDS = {
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
}


def film(folder: Path, kind: str, seconds: int = 4, rate: str = "200k") -> bytes:
    """The bytes of a film with a picture that moves, and a tone. Skips where there is no ffmpeg, but not in CI."""
    if not shutil.which("ffmpeg"):
        if os.environ.get("CI"):
            pytest.fail("ffmpeg is missing")
        pytest.skip("ffmpeg is missing")
    return _made(folder, kind, seconds, rate)


@cache
def _made(folder: Path, kind: str, seconds: int, rate: str) -> bytes:
    path = folder / f"film.{kind}"
    words = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=d={seconds}:s=320x180:r=10"]
    words += ["-f", "lavfi", "-i", f"sine=d={seconds}", "-g", "10", "-b:v", rate, *WORDS[kind], str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path.read_bytes()
