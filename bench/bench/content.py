"""How fast content is taken in, and read back, beside what the same cores reach in memory.

python -m bench.content [size in MiB]
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coterie.content import Imported, Staging, Store, import_path
from coterie.content import manifest as manifests

Figure = dict[str, Any]
"""name, value, unit, raw (the same unit, or None), ratio (None without raw)"""

ROUNDS = 5
SMALL_BYTES = 1024
RAW_BYTES = 64 << 20
RAW_PASSES = 8
READ_BATCH = 256

# Cuts everything in a window and then hashes it, like the importer: faster than taking turns chunk by chunk.
RAW = f"""
import os, sys, time
from blake3 import blake3
from pyfastcdc import FastCDC
window = 4 << 20
data = memoryview(os.urandom({RAW_BYTES}))
cutter = FastCDC(131072, min_size=32768, max_size=524288)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for _ in range({RAW_PASSES}):
    for at in range(0, len(data), window):
        part = data[at : at + window]
        begin = 0
        for size in [chunk.length for chunk in cutter.cut_buf(part)]:
            blake3(part[begin : begin + size]).digest()
            begin += size
print({RAW_BYTES * RAW_PASSES} / (time.perf_counter() - start) / 1e6, flush=True)
"""


def measure_import(size: int = 1 << 30, files: int = 100_000) -> list[Figure]:
    """Import of `size` bytes in one file and in eight, and of `files` small ones; then reading, writing."""
    with tempfile.TemporaryDirectory(prefix="coterie-bench-") as folder:
        top = Path(folder)
        one, eight, small = top / "one", top / "eight", top / "small"
        _fill(one, size)
        eight.mkdir()
        for number in range(8):
            _fill(eight / str(number), size // 8)
        _fill_small(small, files)
        rounds = []
        for number in range(ROUNDS):  # side by side: the machine's own speed may drift
            raw = _raw_speed(_cores())
            rounds.append((raw, _speed(top / f"a{number}", one), _speed(top / f"b{number}", eight)))
        figures = [
            _median("import, one large file", [(single, raw) for raw, single, _ in rounds]),
            _median("import, eight large files", [(several, raw) for raw, _, several in rounds]),
        ]
        times = [_timed(lambda n=number: _import(top / f"c{n}", small)) for number in range(ROUNDS)]
        figures.append(_figure(f"import, {files} files of 1 KB", min(times), "s", None))
        with Store.open(top / "c0" / "db") as store:
            again = _timed(lambda: import_path(store, small))
            figures.append(_figure(f"import again, {files} unchanged files", again, "s", None))
            figures.append(_figure("read and verify, files of 1 KB", _read_small(store), "us/file", None))
        with Store.open(top / "a0" / "db") as store:
            figures.append(_figure("read and verify, one large file", _read_large(store), "MB/s", None))
        figures.append(_figure("write, files of 1 KB", _write_small(top, files), "us/file", None))
    return figures


def _figure(name: str, value: float, unit: str, raw: float | None) -> Figure:
    return {"name": name, "value": value, "unit": unit, "raw": raw, "ratio": value / raw if raw else None}


def _median(name: str, pairs: list[tuple[float, float]]) -> Figure:
    """The pair of (MB/s, raw limit beside it) with the middle ratio."""
    value, raw = sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
    return _figure(name, value, "MB/s", raw)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fill(path: Path, size: int) -> None:
    source = random.Random(str(path.name))
    with path.open("wb") as file:
        for at in range(0, size, 1 << 24):
            file.write(source.randbytes(min(1 << 24, size - at)))


def _fill_small(top: Path, files: int) -> None:
    for number in range(files):
        if number % 1000 == 0:
            folder = top / f"{number // 1000:03}"
            folder.mkdir(parents=True)
        (folder / f"{number:06}").write_bytes(os.urandom(SMALL_BYTES))


def _raw_speed(processes: int) -> float:
    """FastCDC and BLAKE3 in memory, in as many processes at once: MB/s together."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RAW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _import(home: Path, path: Path) -> Imported:
    with Store.open(home / "db") as store:
        return import_path(store, path)


def _speed(home: Path, path: Path) -> float:
    start = time.perf_counter()
    done = _import(home, path)
    return done.bytes / (time.perf_counter() - start) / 1e6


def _all_chunks(store: Store) -> list[manifests.Chunk]:
    (root,) = store.roots()
    found: list[manifests.Chunk] = []
    waiting = [root.id]
    while waiting:
        name = waiting.pop()
        found += store.chunks_of(name)
        waiting += [child.id for child in manifests.children(manifests.decode(store.manifest(name) or b""))]
    return found


def _read(store: Store, chunks: Sequence[manifests.Chunk]) -> float:
    start = time.perf_counter()
    for at in range(0, len(chunks), READ_BATCH):
        for piece in store.read_chunks(chunks[at : at + READ_BATCH]):
            if not isinstance(piece, bytes):
                raise SystemExit(f"a chunk cannot be read: {piece}")
    return time.perf_counter() - start


def _read_small(store: Store) -> float:
    chunks = _all_chunks(store)
    return min(_read(store, chunks) for _ in range(ROUNDS)) / len(chunks) * 1e6


def _read_large(store: Store) -> float:
    chunks = _all_chunks(store)
    return sum(size for _, size in chunks) / min(_read(store, chunks) for _ in range(ROUNDS)) / 1e6


def _write_small(top: Path, files: int) -> float:
    piece = os.urandom(SMALL_BYTES)
    staging = Staging.open(top, "written", b"w" * 32, manifests.Kind.TREE, files * SMALL_BYTES)
    start = time.perf_counter()
    for number in range(files):
        staging.write_small(
            (f"{number // 1000:03}",), f"{number}", [piece], executable=False, mtime_ns=number
        )
    taken = time.perf_counter() - start
    staging.discard()
    return taken / files * 1e6


if __name__ == "__main__":
    for figure in measure_import(int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 30):
        beside = f"  raw {figure['raw']:.0f}, ratio {figure['ratio']:.2f}" if figure["raw"] else ""
        print(f"{figure['name']:<40} {figure['value']:>9.2f} {figure['unit']}{beside}")
