"""One source, one machine, 2 GB: over a lane, verified and on disk, beside the raw TLS copy and outside tools."""

import time
from pathlib import Path

from bench.figures import Figure, Giver, median, room, take
from bench.raw_tls import RawGiver
from bench.transfer import GB, large_file, outside_file

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
            *_beside(rate, source, place),
        ]


def _beside(rate: float, source: Path, place: Path) -> list[Figure]:
    goals = {"beside_libtorrent": ">= 2 x libtorrent", "beside_scp": "faster", "beside_syncthing": "faster"}
    time.sleep(1.0)  # for what we removed to leave the disk
    return [
        Figure(f"lane_2gb_{f.name}", f.value, f.unit, rate, rate / f.value, goals.get(f.name, ""))
        for f in outside_file(source, place)
    ]
