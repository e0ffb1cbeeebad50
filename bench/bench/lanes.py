"""One source, one machine, 2 GB: over a lane, verified and on disk, beside the raw TLS copy and outside tools."""

import time
from pathlib import Path

from bench.figures import Figure, Giver, median, room, take
from bench.raw_tls import RawGiver
from bench.transfer import GB, large_file, outside_tools

SIZE_BYTES = 2 * GB
PAIRS = 5


def two_gigabytes() -> list[Figure]:
    """Raw copy and download by turns; the ratio is the median of those of the pairs."""
    with room() as place:
        source = large_file(place / "large.bin", SIZE_BYTES)
        raw, giver = RawGiver(source), Giver(place / "a", [source])
        pairs: list[tuple[float, float]] = []
        cpu: list[tuple[float, float]] = []
        memory = 0.0
        for number in range(PAIRS):
            raw_s, raw_cpu_s = raw.copy(place / "raw")
            (place / "raw").unlink()
            one, peak = take(place / f"b{number}", giver, giver.shares[0], place / "got")
            (place / "got").unlink()
            pairs.append((raw_s, one["get_s"]))
            cpu.append((raw_cpu_s, one["cpu_s"]))
            memory = max(memory, peak["rss_peak"])
        raw.end()
        beside = _beside(source, place, giver)
        gave = giver.end()
        rate = median([SIZE_BYTES / 1e6 / get_s for _, get_s in pairs])
        raw_rate = median([SIZE_BYTES / 1e6 / raw_s for raw_s, _ in pairs])
        ratio = median([raw_s / get_s for raw_s, get_s in pairs])
        return [
            Figure("lane_2gb", rate, "MB/s", raw_rate, ratio, ">= 0.85 of a raw TLS copy to disk"),
            Figure(
                "lane_2gb_cpu_taker",
                median([c for _, c in cpu]),
                "s",
                median([c for c, _ in cpu]),
                median([c / r for r, c in cpu]),
            ),
            Figure("lane_2gb_rss_taker", memory / 1e6, "MB", 200, None, "<= 200 MB"),
            Figure("lane_2gb_rss_giver", gave["rss_peak"] / 1e6, "MB", 200, None, "<= 200 MB"),
            *beside,
        ]


def _beside(source: Path, place: Path, giver: Giver) -> list[Figure]:
    """Each tool with a download of ours before and after it: the machine's speed drifts."""
    goals = {"beside_libtorrent": ">= 2 x libtorrent", "beside_scp": "faster", "beside_syncthing": "faster"}
    figures = []
    before = _ours(place, giver)
    for name, measure in outside_tools().items():
        time.sleep(1.0)  # for what was removed to leave the disk
        seconds = measure(source, place)
        after = _ours(place, giver)
        if seconds:
            ours = (before + after) / 2
            value, beside = SIZE_BYTES / 1e6 / seconds, SIZE_BYTES / 1e6 / ours
            figures.append(
                Figure(f"lane_2gb_{name}", value, "MB/s", beside, seconds / ours, goals.get(name, ""))
            )
        before = after
    return figures


def _ours(place: Path, giver: Giver) -> float:
    """Seconds of one download."""
    one, _ = take(place / f"b{time.monotonic_ns()}", giver, giver.shares[0], place / "got")
    (place / "got").unlink()
    return float(one["get_s"])
