"""`python -m tests.fuzz [SECONDS] [SEED]`: the same seed tries the same inputs in the same order."""

import random
import sys
import time

from tests.fuzz.run import fuzz
from tests.fuzz.samples import missing, samples

SECONDS = 60.0


def main() -> int:
    """Fuzz until the time is up; 1 when something was found."""
    seconds = float(sys.argv[1]) if sys.argv[1:] else SECONDS
    seed = int(sys.argv[2]) if sys.argv[2:] else random.SystemRandom().getrandbits(32)
    print(f"{len(samples())} decoders, {seconds:g} s, seed {seed}", flush=True)
    end = time.monotonic() + seconds
    tried, faults = fuzz(seed, lambda rounds: time.monotonic() > end)
    for fault in faults:
        print(fault)
    without = sorted(missing())
    for name in without:
        print(f"{name}: has no sample in tests/fuzz/samples.py")
    print(f"{tried:,} inputs, {len(faults)} found (seed {seed})")
    return 1 if faults or without else 0


if __name__ == "__main__":
    sys.exit(main())
